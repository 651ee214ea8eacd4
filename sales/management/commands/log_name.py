"""manage.py log_name: what stands for a shopper in the logs."""

from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from flashsale.redaction import log_name
from sales import shoppers


class Command(BaseCommand):
    help = "Print what stands for a shopper in the logs: a line for SECRET_KEY, and one for each earlier key."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("user_id", help="the e-mail address or user name that buys")

    def handle(self, *args: Any, user_id: str, **options: Any) -> None:
        try:
            shopper = shoppers.find(user_id)
        except shoppers.InvalidShopper as error:
            raise CommandError(str(error)) from None
        for secret_key in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS):
            self.stdout.write(log_name(shopper, secret_key))
