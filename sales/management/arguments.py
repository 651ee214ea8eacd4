"""What several commands read from their command line."""

from argparse import ArgumentTypeError

from django.core.management.base import CommandError

from sales import numbers
from sales.models import Sale


def sale_of(slug: str) -> Sale:
    """Return the sale of that slug. Raises CommandError, which names the sales that there are."""
    sale = Sale.objects.filter(slug=slug).first()
    if sale is None:
        known = ", ".join(Sale.objects.values_list("slug", flat=True)) or "none"
        raise CommandError(f"There is no sale {slug!r}. There are: {known}.")
    return sale


def whole_number(text: str) -> int:
    """Return the number as forms read it. Raises ArgumentTypeError, which says what to write."""
    try:
        return numbers.whole(text)
    except numbers.Unreadable as error:
        raise ArgumentTypeError(str(error)) from None
