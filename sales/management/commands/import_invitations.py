"""manage.py import_invitations: put a file of invited shoppers on a sale's list."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from sales import invitation_files, invitations, invited_mirror, store
from sales.management.arguments import sale_of


class Command(BaseCommand):
    help = (
        "Add a file of shoppers to the list of those whom a sale invites, or put it in the list's place: an address on "
        "each line, or CSV with a column email, UTF-8. Nothing is changed when a line is bad. Names that are no e-mail "
        "addresses are counted. Safe to repeat."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("slug", help="the sale")
        parser.add_argument("file", type=Path, help="the file")
        parser.add_argument("--replace", action="store_true", help="invite nobody else")

    def handle(self, *args: Any, slug: str, file: Path, replace: bool, **options: Any) -> None:
        sale = sale_of(slug)
        try:
            with file.open("rb") as opened:
                checked = invitation_files.check(opened)
                write = invitations.replace if replace else invitations.add
                written = write(sale, invitation_files.user_ids(opened))
        except OSError as error:
            raise CommandError(f"{file} cannot be read: {error.strerror}.") from None
        except invitation_files.BadFile as error:
            lines = [f"  line {line.number}: {line.reason}" for line in error.lines]
            raise CommandError("\n".join([f"{file}: {error}", *lines])) from None
        except invitations.Replaced:
            raise CommandError("Somebody else has replaced the list meanwhile: look at it, and repeat this.") from None
        self.stdout.write(f"{slug}: {written.sentence()}")
        try:
            told = invited_mirror.mirror(sale)
        except store.Unavailable:
            told = False
        in_force = "It is in force." if told else "The order writer puts it in force when Redis takes it."
        self.stdout.write(invited_mirror.why_it_waits(sale) or in_force)
        if remark := checked.remark():
            self.stdout.write(remark)
        invitations.tidy(sale)
