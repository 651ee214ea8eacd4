"""manage.py audit_sale: compare Redis, stream and SQL."""

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from sales import store
from sales.audit import Audit, audit
from sales.models import Sale


class Command(BaseCommand):
    help = "Compare Redis, the stream and SQL for one sale, or for all. Exit status 0 only when nothing differs."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("slug", nargs="?", help="the sale; all of them when left out")
        parser.add_argument("--json", action="store_true", help="print JSON")

    def handle(self, *args: Any, slug: str | None, **options: Any) -> None:
        sales = Sale.objects.filter(slug=slug) if slug else Sale.objects.all()
        if slug and not sales:
            raise CommandError(f"There is no sale {slug!r}. There are: {', '.join(_slugs()) or 'none'}.")
        try:
            audits = [audit(sale) for sale in sales]
        except store.RedisError as error:
            raise CommandError(f"Redis cannot be read ({error}), so nothing is proven. Run this again.") from None
        if options["json"]:
            self.stdout.write(json.dumps([result.as_json() for result in audits], indent=2))
        else:
            self.stdout.write("\n".join(map(_text, audits)))
        if any(result.drift for result in audits):
            raise SystemExit(1)


def _slugs() -> list[str]:
    return list(Sale.objects.values_list("slug", flat=True))


def _text(result: Audit) -> str:
    lines = [
        f"{result.slug}: {'DRIFT' if result.drift else 'no drift'}",
        f"  total {result.total_stock}, remaining {result.remaining_stock}, purchases {result.purchases}, "
        f"stream {result.stream}, orders {result.orders}",
    ]
    lines += [f"  {name}: {', '.join(examples)}" for name, examples in result.drift.items()]
    return "\n".join(lines)
