"""manage.py create_sale: make a sale, publish it, print it as JSON."""

import json
from argparse import ArgumentParser, ArgumentTypeError
from datetime import UTC, datetime, timedelta
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from flashsale.redaction import shown
from sales import moments, publishing, store
from sales.clock import iso, to_ms
from sales.management.arguments import whole_number
from sales.models import Identity, Sale, unused_slug

OPEN_FOR = timedelta(days=7)


class Command(BaseCommand):
    help = "Create and publish a sale; print it as JSON. It starts now and lasts 7 days unless told otherwise."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--name", required=True, help="the product's name")
        parser.add_argument("--stock", required=True, type=whole_number, help="units for sale")
        parser.add_argument("--slug", help="the sale's address; made from the name when left out")
        parser.add_argument("--starts", metavar="ISO", type=_moment, help="like 2026-02-14T10:00:00Z; UTC without zone")
        parser.add_argument("--ends", metavar="ISO", type=_moment, help="likewise; default 7 days after the start")
        parser.add_argument(
            "--identity",
            choices=Identity.values,
            default=Identity.OPEN,
            help="what proves who a shopper is; default open",
        )
        parser.add_argument("--one-mailbox", action="store_true", help="one mailbox, one person, whatever its spelling")

    def handle(self, *args: Any, **options: Any) -> None:
        starts_at = options["starts"] or timezone.now()
        sale = Sale(
            name=options["name"],
            slug=options["slug"] or unused_slug(options["name"]),
            total_stock=options["stock"],
            starts_at=starts_at,
            ends_at=options["ends"] or starts_at + OPEN_FOR,
            identity=options["identity"],
            one_mailbox=options["one_mailbox"],
        )
        try:
            sale.full_clean()
        except ValidationError as error:
            lines = [f"{name}: {' '.join(messages)}" for name, messages in error.message_dict.items()]
            raise CommandError("No sale was created. " + " ".join(lines)) from None
        sale.save()
        try:
            standing = publishing.publish(sale)
        except store.Unavailable as error:
            raise CommandError(
                f"{sale.slug} is saved, but not published: Redis cannot be reached ({shown(error)}). "
                "Start it, then run manage.py publish_sales."
            ) from None
        except publishing.NotPublished as error:
            raise CommandError(f"{sale.slug} is saved, but not published. {error}") from None
        self.stdout.write(
            json.dumps(
                {
                    "id": sale.id,
                    "slug": sale.slug,
                    "productName": sale.name,
                    "totalStock": sale.total_stock,
                    "remainingStock": standing.remaining_stock,
                    "identity": sale.identity,
                    "startTime": iso(to_ms(sale.starts_at)),
                    "endTime": iso(to_ms(sale.ends_at)),
                    "path": sale.get_absolute_url(),
                }
            )
        )


def _moment(text: str) -> datetime:
    try:
        return moments.read(text, UTC)
    except moments.Unreadable:
        raise ArgumentTypeError(f"{text!r} is not a time; write it like 2026-02-14T10:00:00Z.") from None
