"""The lists of shoppers whom a sale invites, in SQL.

A sale may have several, by number, and one in force. Another one is written beside it and takes its place in one step,
so that it is whole at every moment, whoever dies. All is written in short transactions: the order writer gets its turn.
"""

import time
from array import array
from collections.abc import Iterable
from typing import NamedTuple

from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth.models import AbstractBaseUser
from django.db import connection, transaction
from django.db.models import QuerySet

from sales import publishing, shoppers
from sales.models import Invitation, Sale, new_epoch
from sales.paging import PAGE, pages

# Between two transactions. SQLite has no queue: who waits for its lock looks anew every few hundredths of a second.
PAUSE_SECONDS = 0.03
_BUCKETS = 256
# Both databases count what was inserted, which bulk_create(ignore_conflicts) does not tell.
_INSERT = f"INSERT INTO {Invitation._meta.db_table} (sale_id, list_number, user_id) VALUES "  # noqa: S608 (it is ours)


class Replaced(Exception):
    """Somebody else has replaced or emptied the list meanwhile: what was being written is not in force."""


class Written(NamedTuple):
    """What was done to a list: how many were added, how many were on it already, how many lines named somebody once
    more, and the list's length before and after."""

    added: int
    known: int
    repeated: int
    before: int
    after: int

    def sentence(self) -> str:
        known = f"{self.added:,} added, {self.known:,} were on the list already"
        repeated = f", {self.repeated:,} stood in the file more than once" if self.repeated else ""
        return f"{known}{repeated}; {self.after:,} are invited."


class _Counts(NamedTuple):
    added: int
    known: int
    repeated: int


def add(sale: Sale, user_ids: Iterable[str], user: AbstractBaseUser | None = None) -> Written:
    """Add shoppers, as `shoppers.normalise` returns them, to the list; `invited_mirror.mirror` then tells Redis.

    Safe to repeat, also after it was interrupted: those who are on the list stay there once. Raises Replaced.
    """
    sale.refresh_from_db()
    number, before = sale.list_number, sale.invited().count()
    counts = _write(sale, number, user_ids)
    # Also when none is added: an attempt that was interrupted may have added them, and told nobody.
    return Written(*counts, before, _put_in_force(sale, number, user, before, expected=number))


def replace(sale: Sale, user_ids: Iterable[str], user: AbstractBaseUser | None = None) -> Written:
    """Put another list in the place of the one in force; otherwise as `add`. `known` is 0: the list was empty."""
    number = _begin(sale)
    before = sale.invited().count()
    counts = _write(sale, number, user_ids)
    return Written(*counts, before, _put_in_force(sale, number, user, before, expected=sale.list_number))


def empty(sale: Sale, user: AbstractBaseUser | None = None) -> Written:
    """Put an empty list in force: nobody is invited. Safe to repeat. Raises Replaced."""
    return replace(sale, [], user)


def remove(sale: Sale, user_id: str, user: AbstractBaseUser | None = None) -> int:
    """Take a shopper off the list, in every spelling in which the sale takes them for that one; return how many
    entries that was, 0 when there was none. Safe to repeat."""
    with transaction.atomic():
        publishing.lock(sale)
        before = sale.invited().count()
        entries = found(sale, user_id)
        if entries:
            sale.invited().filter(user_id__in=entries).delete()
            _note(sale, user, f"{', '.join(entries)} removed", before, before - len(entries))
    return len(entries)


def found(sale: Sale, user_id: str) -> list[str]:
    """Return the entries of the list for that shopper: several where the sale takes spellings of a mailbox for one,
    for which it reads the whole list (3 s for a million)."""
    if not sale.one_mailbox:
        return list(sale.invited().filter(user_id=user_id).values_list("user_id", flat=True))
    mailbox = shoppers.mailbox(user_id)
    entries = sale.invited().values_list("user_id", flat=True).iterator(PAGE)
    return [entry for entry in entries if shoppers.mailbox(entry) == mailbox]


def tidy(sale: Sale) -> None:
    """Delete the lists before the one in force. Safe to repeat, and to kill."""
    _delete(sale.invitations.filter(list_number__lt=sale.list_number))


def _delete(invitations: QuerySet[Invitation]) -> None:
    while page := list(invitations.values_list("pk", flat=True)[:PAGE]):
        Invitation.objects.filter(pk__in=page).delete()
        time.sleep(PAUSE_SECONDS)


def _begin(sale: Sale) -> int:
    """Return the number of a list that nobody else writes."""
    with transaction.atomic():
        publishing.lock(sale)
        sale.newest_list += 1
        sale.save(update_fields=["newest_list"])
    return sale.newest_list


def _write(sale: Sale, number: int, user_ids: Iterable[str]) -> _Counts:
    """Write shoppers into a list. Those whom it had already are known to it, however often they are given."""
    added = given = 0
    # Who was given, each in 8 bytes: of a million names a set would take ten times the memory.
    hashes = [array("q") for _ in range(_BUCKETS)]
    for page in pages(user_ids):
        rows = ", ".join(["(%s, %s, %s)"] * len(page))
        words = [word for user_id in page for word in (sale.pk, number, user_id)]
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(f"{_INSERT}{rows} ON CONFLICT DO NOTHING", words)
            added += cursor.rowcount
        given += len(page)
        for hashed in map(hash, page):
            hashes[hashed % _BUCKETS].append(hashed)
        time.sleep(PAUSE_SECONDS)
    different = sum(len(set(bucket)) for bucket in hashes)
    return _Counts(added, different - added, given - different)


def _put_in_force(sale: Sale, number: int, user: AbstractBaseUser | None, before: int, *, expected: int) -> int:
    """Put the list in force, in the place of the one that is expected to be; return its length. Raises Replaced."""
    with transaction.atomic():
        publishing.lock(sale)
        is_expected = sale.list_number == expected
        if is_expected:
            sale.list_number = number
            after = sale.invited().count()
            _note(sale, user, "List replaced" if number != expected else "Addresses added", before, after)
    if not is_expected:
        _delete(sale.invitations.filter(list_number=number))
        raise Replaced
    return after


def _note(sale: Sale, user: AbstractBaseUser | None, what: str, before: int, after: int) -> None:
    """Give the list another version, which Redis has to get, and note in the history what was done, and by whom."""
    sale.list_version, sale.list_due = new_epoch(), True
    sale.save(update_fields=["list_number", "list_version", "list_due"])
    if user:
        message = f"Invitations. {what}. Invited: {before} → {after}."
        LogEntry.objects.log_actions(user.pk, [sale], CHANGE, message, single_object=True)
