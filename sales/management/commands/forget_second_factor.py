"""manage.py forget_second_factor: let somebody sign in whose phone and backup codes are lost."""

from argparse import ArgumentParser
from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError

from sales import second_factor


class Command(BaseCommand):
    help = "Take a person's second factor away: they sign in with the password alone, and may set up a new one."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("username", help="the name with which the person signs in")

    def handle(self, *args: Any, username: str, **options: Any) -> None:
        person = User.objects.filter(username=username).first()
        if person is None:
            raise CommandError(f"Nobody signs in as {username!r}. The names are in the admin, under “Users”.")
        if not second_factor.is_on(person):
            self.stdout.write(f"{username} has no second factor: there is nothing to take away.")
            return
        words = "The second factor was taken away by manage.py forget_second_factor."
        second_factor.turn_off(person, person, words)
        self.stdout.write(f"{username} signs in with the password alone, until a new second factor is set up.")
