"""Archive a sale that has ended: SQL alone keeps its purchases, and Redis what its pages show.

First SQL notes that it is archived, then Redis lets go, and then it frees the memory in parts. Until Redis lets go both
hold everything, so that no answer is wrong whoever dies. `publishing` finishes what was interrupted, and `restoring`
gives everything back.
"""

from collections.abc import Callable
from typing import NamedTuple

from django.db import transaction

from sales import archive_mirror, attempt_counts, cancelling, continuity, orders, publishing, store
from sales.audit import audit
from sales.clock import beside_utc, to_ms
from sales.models import Sale


class Refused(Exception):
    """The sale stays as it is, for the reason and with the remedy that the message gives."""


class Archive(NamedTuple):
    """What SQL holds of an archived sale, what was moved there by archiving it, and the memory that it took in Redis
    before and after."""

    orders: int
    cancelled: int
    entries_moved: int
    counts_moved: int
    bytes_before: int
    bytes_after: int


def archive(sale: Sale, note: Callable[[Sale], None] = lambda sale: None) -> Archive:
    """Archive the sale, and return what came of it; `note` is called in the transaction that does.

    Safe to repeat, and to kill anywhere. What the workers count while it goes on may be lost to the analytics, which is
    of attempts that were refused. Raises Refused, store.RedisError, store.Unavailable and django.db.DatabaseError.
    """
    sale.refresh_from_db()
    bytes_before, was_archived = archive_mirror.held_bytes(sale), bool(sale.archived_at)
    entries = counts = 0
    try:
        entries, counts = _leave_to_sql(sale, note)
    except (Refused, store.ResponseError):
        sale.refresh_from_db()
        if was_archived or not sale.archived_at:
            raise
        # Somebody else has archived it meanwhile: what was looked for here is gone from Redis, because SQL has it.
    counts += attempt_counts.store_all_of(sale)
    entries += _let_go(sale)
    return Archive(
        orders=sale.valid_orders().count(),
        cancelled=sale.cancelled_orders().count(),
        entries_moved=entries,
        counts_moved=counts,
        bytes_before=bytes_before,
        bytes_after=archive_mirror.held_bytes(sale),
    )


def _let_go(sale: Sale) -> int:
    """Have Redis let go, and return how many purchases were made since SQL noted the archive, by a successor whose
    clock was behind. They are written first. Raises publishing.NotPublished."""
    try:
        publishing.publish_archive(sale)
        return 0
    except publishing.Behind:
        written = orders.drain(sale)
        cancelling.enforce(sale)
        publishing.publish_archive(sale)
        return written


def _leave_to_sql(sale: Sale, note: Callable[[Sale], None]) -> tuple[int, int]:
    """Have SQL hold all that Redis does, and note that the sale is archived; return how many stream entries and counts
    were moved."""
    _refuse_unless_whole(sale)
    entries = orders.drain(sale)
    counts = attempt_counts.store_all_of(sale)
    if not sale.archived_at:
        _prove(sale)
        _note_in_sql(sale, note)
    return entries, counts


def _refuse_unless_whole(sale: Sale) -> None:
    """Refuse a sale that may still sell, by Redis's configuration and clock, or that Redis does not hold whole."""
    standing = publishing.standing(sale)
    if not sale.first_published_at:
        raise Refused("This sale was never published: there is nothing to archive.")
    if reason := continuity.closed_reason(standing.config):
        raise Refused(f"This sale is closed: {reason}")
    if sale.archived_at:
        return
    if standing.config.get("epoch") != sale.epoch:
        raise Refused(f"Redis does not hold this sale: run manage.py restore_sale {sale.slug}, then archive it.")
    if sale.ends_at > standing.read_at or int(standing.config["ends_ms"]) > to_ms(standing.read_at):
        raise Refused(f"This sale ends on {beside_utc(sale.ends_at)}. Archive it after that.")


def _prove(sale: Sale) -> None:
    """Refuse while Redis and SQL differ. Not under the sale's lock, which on SQLite stops all that is written."""
    cancelling.enforce(sale)
    if drift := audit(sale).drift:
        kinds = ", ".join(kind.replace("_", " ") for kind in drift)
        raise Refused(f"Redis and SQL differ ({kinds}): run manage.py audit_sale {sale.slug}, and do what it says.")


def _note_in_sql(sale: Sale, note: Callable[[Sale], None]) -> None:
    proven = sale.epoch, sale.ends_at
    with transaction.atomic():
        publishing.lock(sale)
        _refuse_unless_whole(sale)
        cancelling.enforce_all(sale, sale.epoch)
        # It may have been restored since, or extended and sold more; what was cancelled since is cancelled in both.
        standing = publishing.standing(sale)
        if (sale.epoch, sale.ends_at) != proven or standing.sold != sale.valid_orders().count():
            raise Refused("This sale has changed meanwhile: archive it again.")
        sale.archived_at, sale.mirror_due = standing.read_at, True
        sale.save(update_fields=["archived_at", "mirror_due"])
        note(sale)
