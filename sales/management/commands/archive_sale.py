"""manage.py archive_sale: leave a sale that has ended to SQL, and free what it takes in Redis."""

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError
from django.template.defaultfilters import filesizeformat

from flashsale.redaction import shown
from sales import archiving, publishing, store
from sales.management.arguments import sale_of


class Command(BaseCommand):
    help = (
        "Move what Redis holds of a sale that has ended into SQL, prove that SQL has it, and free the memory. Page, "
        "receipts and lookups keep working; restore_sale gives everything back. Safe to repeat. "
        "Exit status 1, with the reason, when the sale is not archived."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("slug", help="the sale")
        parser.add_argument("--json", action="store_true", help="print JSON")

    def handle(self, *args: Any, slug: str, **options: Any) -> None:
        sale = sale_of(slug)
        try:
            done = archiving.archive(sale)
        except archiving.Refused as reason:
            raise CommandError(f"{slug} is not archived. {reason}") from None
        except (store.RedisError, store.Unavailable, publishing.NotPublished, DatabaseError) as error:
            raise CommandError(f"{slug}: {shown(error)}. When that is mended, run it again: nothing is lost.") from None
        if options["json"]:
            self.stdout.write(json.dumps({"slug": slug, **done._asdict()}, indent=2))
            return
        self.stdout.write(
            f"{slug} is archived: SQL holds {done.orders} orders, and {done.cancelled} cancelled ones.\n"
            f"  moved to SQL just now: {done.entries_moved} stream entries, {done.counts_moved} counts of attempts\n"
            f"  memory in Redis: {filesizeformat(done.bytes_before)} before, {filesizeformat(done.bytes_after)} now"
        )
