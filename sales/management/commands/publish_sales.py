"""manage.py publish_sales: mirror every sale into Redis."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from flashsale.redaction import shown
from sales import publishing, store


class Command(BaseCommand):
    help = "Mirror every sale into Redis. Safe to repeat: run it on every release, and after an outage."

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            results = publishing.publish_all()
        except store.Unavailable as error:
            raise CommandError(f"Redis cannot be reached ({shown(error)}). Start it, then run this again.") from None
        refusals = [f"{sale.slug}: {result}" for sale, result in results if isinstance(result, publishing.NotPublished)]
        self.stdout.write(f"{len(results) - len(refusals)} of {len(results)} sales are in Redis.")
        if refusals:
            raise CommandError("\n".join(refusals))
