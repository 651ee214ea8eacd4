"""manage.py audit_sale: compare Redis, stream and SQL."""

import json
from argparse import ArgumentParser
from collections.abc import Sequence
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError

from flashsale.redaction import escaped, shown
from sales import store
from sales.audit import audit, repair
from sales.clock import from_redis, to_ms
from sales.drift import ADVICE, Audit
from sales.management.arguments import sale_of
from sales.models import Sale


class Command(BaseCommand):
    help = "Compare Redis, the stream and SQL for one sale, or for all. Exit status 0 only when nothing differs."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("slug", nargs="?", help="the sale; all of them when left out")
        parser.add_argument("--repair", action="store_true", help="first mend what has one right answer")
        parser.add_argument("--json", action="store_true", help="print JSON")

    def handle(self, *args: Any, slug: str | None, **options: Any) -> None:
        sales = [sale_of(slug)] if slug else list(Sale.objects.all())
        try:
            repairs = {sale.slug: repair(sale) for sale in sales} if options["repair"] else {}
            audits = [audit(sale) for sale in sales]
            _note(sales, audits)
        except (store.Unavailable, store.RedisError, DatabaseError) as error:
            raise CommandError(f"{shown(error)}: nothing is proven. When that is mended, run this again.") from None
        if options["json"]:
            reports = [result.as_json() | {"repaired": repairs.get(result.slug, [])} for result in audits]
            self.stdout.write(json.dumps(reports, indent=2))
        else:
            for slug, done in repairs.items():
                self.stdout.write(f"{slug}: {'; '.join(done) or 'nothing to repair'}")
            self.stdout.write("\n".join(map(_text, audits)))
        if any(result.drift for result in audits):
            raise SystemExit(1)


def _note(sales: Sequence[Sale], audits: Sequence[Audit]) -> None:
    """Let the metrics know when the sales were audited, and of how many kinds of drift. Raises store.RedisError."""
    now_ms = to_ms(from_redis(store.client().time()))
    for sale, result in zip(sales, audits, strict=True):
        store.client().hset(store.AUDITS, sale.id, f"{now_ms} {len(result.drift)}")


def _text(result: Audit) -> str:
    lines = [
        f"{result.slug}: {'DRIFT' if result.drift else 'no drift'}",
        f"  total {result.total_stock}, remaining {result.remaining_stock}, purchases {result.purchases}, "
        f"stream {result.stream}, orders {result.orders}, cancelled {result.cancelled}",
    ]
    for kind, examples in result.drift.items():
        lines += [f"  {kind.replace('_', ' ')}: {escaped(', '.join(examples))}", f"    {ADVICE[kind]}"]
    return "\n".join(lines)
