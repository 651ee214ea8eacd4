"""Move purchases from the streams into SQL. An entry is acknowledged only after its row is committed and read back."""

import logging
import os
import socket
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from django.db import transaction

from sales import store
from sales.models import Order, Sale
from sales.purchases import purchased_ms

LARGEST_BATCH = 500
# An entry that its writer has not acknowledged in this time belongs to a dead writer, and is taken over.
CLAIM_AFTER_MS = 5_000
WAIT_MS = 500

log = logging.getLogger(__name__)

Entry = tuple[bytes, dict[bytes, bytes]]


class Malformed(Exception):
    """A stream entry is not a purchase."""


def run_once(consumer: str, *, claim_after_ms: int = CLAIM_AFTER_MS) -> int:
    """Store what the streams hold, waiting a moment when that is nothing; return how many purchases were acknowledged.

    Safe to repeat, to kill anywhere, and to run in several processes, each with its own `consumer`: an entry that
    comes twice finds its row. What a consumer left unacknowledged for `claim_after_ms` is taken over.
    Raises store.RedisError and django.db.DatabaseError; what was not acknowledged comes again.
    """
    streams = _streams()
    if not streams:
        return 0
    abandoned = _abandoned(streams, consumer, claim_after_ms)
    return sum(_store(sale_id, entries) for sale_id, entries in [*abandoned, *_new(streams, consumer)])


def consumer_name() -> str:
    """Return a name for this process that no other writer has."""
    return f"{socket.gethostname()}-{os.getpid()}"


def _streams() -> dict[str, int]:
    """Return the streams that exist, and whose they are."""
    streams = {store.key(sale_id, "orders"): sale_id for sale_id in Sale.objects.values_list("id", flat=True)}
    pipeline = store.client().pipeline(transaction=False)
    for stream in streams:
        pipeline.exists(stream)
    return {stream: streams[stream] for stream, exists in zip(streams, pipeline.execute(), strict=True) if exists}


def _abandoned(streams: dict[str, int], consumer: str, claim_after_ms: int) -> list[tuple[int, list[Entry]]]:
    pipeline = store.client().pipeline(transaction=False)
    for stream in streams:
        pipeline.xautoclaim(stream, store.WRITERS, consumer, min_idle_time=claim_after_ms, count=LARGEST_BATCH)
    return [(sale_id, reply[1]) for sale_id, reply in zip(streams.values(), pipeline.execute(), strict=True)]


def _new(streams: dict[str, int], consumer: str) -> list[tuple[int, list[Entry]]]:
    reply = store.client().xreadgroup(
        store.WRITERS, consumer, dict.fromkeys(streams, ">"), count=LARGEST_BATCH, block=WAIT_MS
    )
    return [(streams[stream.decode()], entries) for stream, entries in _by_stream(reply)]


def _by_stream(reply: Any) -> list[tuple[bytes, list[Entry]]]:
    """Return XREADGROUP's reply in one shape: redis-py gives a dict of lists under RESP 3, and a list under RESP 2."""
    return [(stream, pages[0]) for stream, pages in reply.items()] if isinstance(reply, dict) else list(reply)


def _store(sale_id: int, entries: Sequence[Entry]) -> int:
    """Commit the entries' rows, then acknowledge those that SQL holds; return how many."""
    rows = []
    for entry_id, fields in entries:
        try:
            rows.append(_row(sale_id, entry_id.decode(), fields))
        except Malformed as error:
            log.error("sale %s: stream entry %s is left unacknowledged: %s", sale_id, entry_id.decode(), error)
    if not rows:
        return 0
    with transaction.atomic():
        # It swallows every conflict, not only a row that is there already: hence what SQL holds is read back.
        Order.objects.bulk_create(rows, ignore_conflicts=True)
        held = set(
            Order.objects.filter(sale_id=sale_id, order_id__in=[row.order_id for row in rows]).values_list(
                "order_id", "user_id"
            )
        )
    done = [row.order_id for row in rows if (row.order_id, row.user_id) in held]
    for row in rows:
        if (row.order_id, row.user_id) not in held:
            log.error("sale %s: SQL refuses order %s of %s; audit_sale shows it", sale_id, row.order_id, row.user_id)
    if done:
        store.client().xack(store.key(sale_id, "orders"), store.WRITERS, *done)
    return len(done)


def _row(sale_id: int, order_id: str, fields: dict[bytes, bytes]) -> Order:
    values: dict[str, Any] = {name.decode(): value.decode() for name, value in (fields or {}).items()}
    try:
        return Order(
            sale_id=sale_id,
            order_id=order_id,
            user_id=values["user_id"],
            purchased_at=datetime.fromtimestamp(purchased_ms(order_id) / 1000, UTC),
            remaining_stock=int(values["remaining_stock"]),
            key_digest=values["key_digest"],
        )
    except (KeyError, ValueError) as error:
        raise Malformed(f"{error!r} in {values}") from error
