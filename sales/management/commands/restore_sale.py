"""manage.py restore_sale: rebuild a sale in Redis from SQL after a loss."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError

from flashsale.redaction import shown
from sales import store
from sales.management.arguments import sale_of
from sales.restoring import restore


class Command(BaseCommand):
    help = "Rebuild a sale in Redis from SQL and from what Redis still has, and open it again. Safe to repeat."

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
