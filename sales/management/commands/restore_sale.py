"""manage.py restore_sale: rebuild a sale in Redis from SQL after a loss."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError

from flashsale.redaction import escaped, shown
from sales import store
from sales.management.arguments import sale_of
from sales.models import MissingOrder, Sale
from sales.paging import PAGE
from sales.restoring import restore

# The exit status when the sale is open and somebody is left without a unit.
LEFT_OVER = 3


class Command(BaseCommand):
    help = (
        "Rebuild a sale in Redis from SQL and from what Redis still has, take in again what was acknowledged and lost, "
        "and open it again. Exit status 3 when there is no unit for some of that. Safe to repeat."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("slug", help="the sale")

    def handle(self, *args: Any, slug: str, **options: Any) -> None:
        sale = sale_of(slug)
        try:
            done = restore(sale)
        except (store.RedisError, store.Unavailable, DatabaseError) as error:
            raise CommandError(f"{slug} is still closed: {shown(error)}. When that is mended, run it again.") from None
        self.stdout.write(
            f"{slug}: Redis knew {done.purchases_found} purchases, SQL knows {done.orders_in_sql} orders.\n"
            f"  written from the stream to SQL: {done.stream_entries_written}\n"
            f"  restored from SQL to Redis:     {done.purchases_restored}\n"
            f"  taken out, being cancelled:     {done.purchases_cancelled}\n"
            f"  stock: {done.remaining_stock} of {done.total_stock} remaining. The sale has a new epoch and is open."
        )
        if done.oversold:
            self.stdout.write(
                f"  {done.oversold} units were sold twice while data was lost: the shoppers keep their orders. "
                "Raise the total stock, or cancel orders in the admin."
            )
        if done.taken_in:
            self.stdout.write(f"  lost and taken in again:        {done.taken_in}")
        if done.found_since:
            raise CommandError(
                f"{slug} is closed again: meanwhile {done.found_since} more acknowledged purchases were found missing. "
                "Run it again."
            )
        if done.left_over:
            self._name_left_over(sale, done.left_over)

    def _name_left_over(self, sale: Sale, count: int) -> None:
        """Name whom there is no unit for. Raises CommandError: somebody has to see to them."""
        self.stdout.write("  acknowledged, lost, and left over:")
        for lost in sale.missing_orders.filter(state=MissingOrder.State.LEFT_OVER).order_by("id").iterator(PAGE):
            self.stdout.write(escaped(f"    {lost.order_id} {lost.user_id}: {lost.note}"))
        raise CommandError(
            f"{sale.slug} is open, but {count} shoppers were told that they have a unit, and have none. Add stock and "
            "run this again, or settle them in the admin, under missing orders.",
            returncode=LEFT_OVER,
        )
