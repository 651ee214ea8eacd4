"""What several commands read from their command line."""

from django.core.management.base import CommandError

from sales.models import Sale


def sale_of(slug: str) -> Sale:
    """Return the sale of that slug. Raises CommandError, which names the sales that there are."""
    sale = Sale.objects.filter(slug=slug).first()
    if sale is None:
        known = ", ".join(Sale.objects.values_list("slug", flat=True)) or "none"
        raise CommandError(f"There is no sale {slug!r}. There are: {known}.")
    return sale
