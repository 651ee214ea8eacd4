"""The mirror of a sale's list of invited shoppers: a set in Redis, which the purchase script asks.

The set is made anew beside the one in force, some shoppers at a time so that purchases go on in between, and then takes
its place in one step. Redis notes with it which version of the list it is. Without such a note, or with another number
of members than noted, the script decides nothing: in doubt nobody buys, and nobody invited is turned away.
"""

import hashlib
import logging
import secrets
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

from sales import shoppers, store
from sales.models import Identity, Sale
from sales.paging import AT_ONCE, pages

# Who makes the set has died when it has staged nothing for so long.
KEEP_MS = 10_000
WAIT_SECONDS = 60.0
# A worker may know a published sale as it was, and have attempts under way: 0.25 s and 1.3 s. What was decided by other
# rules than now is answered before there is a list.
SETTLES_SECONDS = 1.6

log = logging.getLogger(__name__)


class Mirrored(NamedTuple):
    """What Redis notes of the list that it holds, and how many members the set has. Without a list all is empty."""

    version: str = ""
    one_mailbox: str = ""
    noted: int = 0
    members: int = 0

    def is_whole(self) -> bool:
        return self.version != "" and self.noted == self.members

    def is_current(self, sale: Sale) -> bool:
        """Return whether it is the list as SQL has it."""
        return self.is_whole() and (self.version, self.one_mailbox) == (sale.list_version, str(int(sale.one_mailbox)))


class _Superseded(Exception):
    """Somebody else makes the set now, or nobody needs it."""


def look(sale: Sale) -> Mirrored:
    """Return what Redis holds of the sale's list. Raises store.RedisError."""
    pipeline = store.pipeline(store.key(sale.id, "invited"))
    pipeline.get(store.key(sale.id, "invited_list"))
    pipeline.scard(store.key(sale.id, "invited"))
    note, members = pipeline.execute()
    return read(note, members)


def read(note: bytes | None, members: int) -> Mirrored:
    """Return what Redis has said of a list."""
    if note is None:
        return Mirrored(members=members)
    version, one_mailbox, count = note.decode().split()
    return Mirrored(version, one_mailbox, int(count), members)


def follow(sale: Sale, *, trusts_redis: bool = True) -> None:
    """See that the list will be mirrored where it is not: the order writer does it, or whoever calls `mirror`.

    An outdated list stays in force until then, unless `trusts_redis` is false: then nothing is sold meanwhile. A sale
    that asks for no invitation has none in force, so that it starts with the right one when it does; nor has an
    archived one. Safe to repeat. Raises store.RedisError.
    """
    note = store.key(sale.id, "invited_list")
    if not needs_list(sale):
        store.client().delete(note)
    elif not look(sale).is_current(sale):
        if not trusts_redis:
            store.client().delete(note)
        _note_due(sale, is_due=True)


def mirror(sale: Sale, *, wait_seconds: float = WAIT_SECONDS) -> bool:
    """Put the list in force as SQL has it, and return whether it is.

    Safe to repeat, to kill anywhere and to run in several processes: one makes the set, and the others wait for it.
    Raises store.Unavailable and django.db.DatabaseError; the list is then still due.
    """
    maker, deadline = secrets.token_hex(8), time.monotonic() + wait_seconds
    try:
        while not _is_done(sale):
            if _take_turn(sale, maker):
                _make(sale, maker)
                _end_turn(sale, maker)  # if the list has changed meanwhile, it takes another
            elif time.monotonic() > deadline:
                return False
            else:
                time.sleep(0.1)
    except _Superseded:
        return _is_done(sale)
    except store.RedisError as error:
        raise store.Unavailable(str(error)) from error
    finally:
        with suppress(store.RedisError):
            _end_turn(sale, maker)
    return True


def remake(sale: Sale) -> bool:
    """Mirror the list, also when Redis's seems to be right; nothing is sold meanwhile. Otherwise as `mirror`."""
    try:
        store.client().delete(store.key(sale.id, "invited_list"))
    except store.RedisError as error:
        raise store.Unavailable(str(error)) from error
    return mirror(sale)


def difference(sale: Sale) -> str:
    """Return how the list in Redis differs from SQL's, or "". Raises store.RedisError.

    Of a sale that takes all spellings of a mailbox for one, it is not counted how many mailboxes the list has.
    """
    if not needs_list(sale):
        return ""
    mirrored, invited = look(sale), sale.invited().count()
    if mirrored.is_current(sale) and (sale.one_mailbox or mirrored.members == invited):
        return ""
    version = "this" if mirrored.version == sale.list_version else "another"
    return f"{mirrored.members} in Redis ({version} version of the list), {invited} in SQL"


def why_it_waits(sale: Sale) -> str:
    """Return why the list is in force nowhere, however it is changed, for who changes it; "" when it is or is to be."""
    if sale.identity != Identity.INVITED:
        return "Nobody is asked for an invitation: the sale is not for invited shoppers only, as it is now."
    if sale.archived_at:
        return (
            "The sale is archived: it sells nothing, and the list is in force once manage.py restore_sale restores it."
        )
    return ""


def is_due() -> bool:
    return Sale.objects.filter(list_due=True).exists()


def catch_up() -> None:
    """Mirror the lists that are due; the order writer does it, whoever died or was away before. Safe to repeat.

    Raises store.Unavailable, once it has tried all: another server may hold the next; and django.db.DatabaseError.
    """
    failure: store.Unavailable | None = None
    for sale in Sale.objects.filter(list_due=True):
        try:
            mirror(sale, wait_seconds=0)
        except store.Unavailable as reason:
            failure = reason
    if failure:
        raise failure


def digest(user_id: str) -> str:
    """Return what stands for a shopper in the set, as the purchase script computes it: 96 bits of SHA-1.

    It bounds the memory of a long name, and keeps the addresses of people who have bought nothing out of Redis's files.
    """
    return hashlib.sha1(user_id.encode(), usedforsecurity=False).hexdigest()[:24]


def needs_list(sale: Sale) -> bool:
    """Return whether the purchase script asks for the list: an archived sale sells nothing."""
    return sale.identity == Identity.INVITED and not sale.archived_at


def _is_done(sale: Sale) -> bool:
    """Return whether Redis needs nothing, and note it in SQL if nothing has changed since."""
    sale.refresh_from_db(fields=["identity", "one_mailbox", "list_number", "list_version", "list_due", "archived_at"])
    is_done = not needs_list(sale) or look(sale).is_current(sale)
    if is_done and sale.list_due:
        _note_due(sale, is_due=False)
    return is_done


def _note_due(sale: Sale, *, is_due: bool) -> None:
    same = {name: getattr(sale, name) for name in ("pk", "identity", "one_mailbox", "list_version", "archived_at")}
    Sale.objects.filter(**({"pk": sale.pk} if is_due else same)).update(list_due=is_due)
    sale.list_due = is_due


def _take_turn(sale: Sale, maker: str) -> bool:
    return bool(store.client().set(store.key(sale.id, "invited_by"), maker, nx=True, px=KEEP_MS))


def _end_turn(sale: Sale, maker: str) -> None:
    if store.client().get(store.key(sale.id, "invited_by")) == maker.encode():
        store.client().delete(store.key(sale.id, "invited_by"))


def _make(sale: Sale, maker: str) -> None:
    """Stage the list and put it in force. Raises _Superseded."""
    identity, archived = store.client().hmget(store.key(sale.id, "config"), "identity", "archived")
    # It is to be published first; or it was archived before this maker had its turn, which would have ended it.
    if archived or identity not in (None, Identity.INVITED.value.encode()):
        raise _Superseded
    started, mailbox, staged = time.monotonic(), int(sale.one_mailbox), 0
    is_in_force = look(sale).one_mailbox == str(mailbox)
    for leftover in ("invited_next", "invited_before"):  # of a maker that died
        _drain(sale, maker, leftover)
    keys = [store.key(sale.id, name) for name in ("invited_by", "invited_next")]
    for digests in _digests(sale):
        added = store.run_script_blocking("stage_invited", keys, [maker, KEEP_MS, *digests])
        if added < 0:
            raise _Superseded
        staged += added
    if identity and not is_in_force:
        time.sleep(max(0.0, SETTLES_SECONDS - (time.monotonic() - started)))
    keys += [store.key(sale.id, name) for name in ("invited", "invited_list", "config", "invited_before")]
    if not store.run_script_blocking("enforce_invited", keys, [maker, staged, sale.list_version, mailbox]):
        raise _Superseded
    _drain(sale, maker, "invited_before")


def _drain(sale: Sale, maker: str, name: str) -> None:
    """Empty a set some members at a time. Redis can free it at once beside its main thread, but holds that one up, too:
    for a million members half a second, and more on a busy machine."""
    keys, cursor = [store.key(sale.id, "invited_by"), store.key(sale.id, name)], b"0"
    while True:
        cursor = store.run_script_blocking("drain_invited", keys, [maker, KEEP_MS, cursor, AT_ONCE])
        if cursor == b"0":
            return


def _digests(sale: Sale) -> Iterator[list[str]]:
    """Yield what is to stand in the set for the invited, AT_ONCE at a time."""
    for page in pages(sale.invited().values_list("user_id", flat=True).iterator(AT_ONCE), AT_ONCE):
        people = map(shoppers.mailbox, page) if sale.one_mailbox else page
        yield list(map(digest, people))
