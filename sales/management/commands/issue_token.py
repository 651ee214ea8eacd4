"""manage.py issue_token: vouch for a shopper as the sale's partner does, to try it out."""

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from sales import shoppers, tokens
from sales.clock import iso
from sales.management.arguments import sale_of, whole_number

MINUTES = 15
MOST_MINUTES = 7 * 24 * 60


class Command(BaseCommand):
    help = (
        "Print a token with which USER_ID buys in the sale, signed with the key that the sale's partner has now. "
        "Whoever has it buys under that name: treat it as a password."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("slug", help="the sale")
        parser.add_argument("user_id", help="whom the token names, like ada@example.com")
        parser.add_argument(
            "--minutes",
            type=whole_number,
            default=MINUTES,
            help=f"for how long it is good, 1 to {MOST_MINUTES}; default {MINUTES}",
        )
        parser.add_argument(
            "--json", action="store_true", help="print JSON, with the shopper's one spelling and the end"
        )

    def handle(self, *args: Any, slug: str, user_id: str, minutes: int, **options: Any) -> None:
        sale = sale_of(slug)
        if not 1 <= minutes <= MOST_MINUTES:
            raise CommandError(f"--minutes {minutes}: choose 1 to {MOST_MINUTES} minutes.")
        try:
            user_id = shoppers.find(user_id)
        except shoppers.InvalidShopper as error:
            raise CommandError(f"This token would name nobody. {error}") from None
        token = tokens.vouch(user_id, sale.id, sale.key_number, seconds=minutes * 60)
        try:
            named = tokens.read_for(token, sale.id, sale.key_number)
        except tokens.InvalidToken as error:
            raise CommandError(str(error)) from None
        if not options["json"]:
            self.stdout.write(token)
            return
        body = {"token": token, "sale": slug, "userId": named.user_id, "expiresTime": iso(named.expires_at * 1000)}
        self.stdout.write(json.dumps(body))
