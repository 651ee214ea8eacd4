"""The mirror of the directory: one line in Redis for each published sale, changed by what differs, under one lock."""

import logging
from typing import NamedTuple

from django.db import connection, transaction

from sales import archive_mirror, store
from sales.clock import to_ms
from sales.models import Sale
from sales.paging import AT_ONCE, pages

# Of PostgreSQL's advisory locks, the one that nothing but the directory takes.
_LOCK = 0x64697265

log = logging.getLogger(__name__)


class Difference(NamedTuple):
    """The lines that Redis lacks, or has otherwise than SQL, by slug; and the slugs that it has too many."""

    missing: dict[bytes, str]
    surplus: list[bytes]


def list_sale(sale: Sale) -> None:
    """Bring the sale's line up to date; its earlier address, if it had another, goes. The caller holds the sale's lock,
    and nobody else changes the directory until its transaction ends. Safe to repeat. Raises store.RedisError."""
    _lock()
    lines = store.client().hgetall(store.DIRECTORY)
    pipeline = store.pipeline(store.DIRECTORY)  # at no moment is the sale missing
    if outdated := [slug for slug, line in lines.items() if line.startswith(b"%d " % sale.id)]:
        pipeline.hdel(store.DIRECTORY, *outdated)
    if sale.published:
        pipeline.hset(store.DIRECTORY, sale.slug, line_of(sale))
    pipeline.execute()


def is_listed(sale: Sale) -> bool:
    """Return whether the directory has the sale's line as SQL would have it, which is none when it is not published.

    Raises store.RedisError.
    """
    line = store.client().hget(store.DIRECTORY, sale.slug)
    return line == (line_of(sale).encode() if sale.published else None)


def list_all(run_id: str) -> None:
    """Make the directory what SQL says, and note that it is, in this run of the server. Safe to repeat.

    Raises store.RedisError and django.db.DatabaseError.
    """
    archive_mirror.note_lost()  # it locks sales: whoever has locked one may be waiting for the directory
    with transaction.atomic():
        _mend()
        store.client().set(store.CHECKED_RUN, run_id)


def catch_up() -> None:
    """Mend the directory where it differs from SQL; the order writer does it once a second, whatever became of a line.

    Safe to repeat. Takes no lock while nothing differs. Raises store.RedisError and django.db.DatabaseError.
    """
    if not any(_difference()):
        return
    with transaction.atomic():
        found = _mend()
    if any(found):
        log.warning("the directory differed from SQL: %d lines written, %d removed", *map(len, found))


def line_of(sale: Sale) -> str:
    return _line(sale.id, to_ms(sale.starts_at), to_ms(sale.ends_at))


def _line(sale_id: int, starts_ms: int, ends_ms: int) -> str:
    return f"{sale_id} {starts_ms} {ends_ms}"


def _lock() -> None:
    """Keep others from changing the directory until the transaction ends. On SQLite any transaction does."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])


def _difference() -> Difference:
    held = store.client().hgetall(store.DIRECTORY)
    sales = Sale.objects.filter(published=True).order_by().values_list("slug", "id", "starts_at", "ends_at")
    lines = {slug.encode(): _line(id, to_ms(starts_at), to_ms(ends_at)) for slug, id, starts_at, ends_at in sales}
    missing = {slug: line for slug, line in lines.items() if held.get(slug) != line.encode()}
    return Difference(missing, [slug for slug in held if slug not in lines])


def _mend() -> Difference:
    """Write what is missing, then remove what is too many. The lock comes first: what others have changed before it is
    committed, and so it is seen."""
    _lock()
    found = _difference()
    for lines in pages(found.missing.items(), AT_ONCE):
        store.client().hset(store.DIRECTORY, mapping=dict(lines))
    for slugs in pages(found.surplus, AT_ONCE):
        store.client().hdel(store.DIRECTORY, *slugs)
    return found
