"""Move purchases from the streams into SQL. An entry is acknowledged only after its row is committed and read back."""

import logging
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from django.db import InterfaceError, OperationalError, transaction
from django.db.models import Q

from sales import order_codes, store, written
from sales.models import Order, Quarantine, Sale
from sales.purchases import purchased_ms
from sales.workers import process_name

LARGEST_BATCH = 500
# So many entries, of all streams together, one command gives in about two milliseconds.
MOST_AT_ONCE = 1_000
# An entry that its writer has not acknowledged in this time belongs to a dead writer, and is taken over.
CLAIM_AFTER_MS = 5_000
FORGET_AFTER_MS = 60_000
WAIT_MS = 500
# An entry that SQL has refused this often is set aside, for a person to look at.
MOST_TRIES = 5

log = logging.getLogger(__name__)

Entry = tuple[bytes, dict[bytes, bytes]]
Streams = dict[str, int]


def run_once(consumer: str, *, claim_after_ms: int = CLAIM_AFTER_MS) -> int:
    """Store what the streams hold, waiting a moment when that is nothing; return how many entries are done with.

    Safe to repeat, to kill anywhere, and to run in several processes, each with its own `consumer`: an entry that
    comes twice finds its row. What a consumer left unacknowledged for `claim_after_ms` is taken over.
    Raises store.RedisError and django.db.DatabaseError; what was not acknowledged comes again.
    """

    def run(sale_ids: Sequence[int]) -> int:
        streams = _streams(sale_ids)
        if not streams:
            return 0
        try:
            run_id, pages = _abandoned(streams, consumer, claim_after_ms)
            pages += _new(streams, consumer)
        except store.ResponseError:
            if _streams(list(streams.values())) == streams:
                raise
            return 0  # one is gone, because its sale was archived; what was delivered of others comes again
        return sum(_store(sale_id, entries, run_id) for sale_id, entries in pages)

    return store.for_each_server(_sale_ids(), run)


def drain(sale: Sale) -> int:
    """Store all that one sale's stream holds, whoever was to do it; return how many entries. Raises as `run_once`."""
    done = 0
    for stream in _streams([sale.id]):
        try:
            done += sum(_store(sale.id, entries) for entries in _undone(stream, sale.id))
        except store.ResponseError:
            if store.client().exists(stream):
                raise
            # Somebody else has archived the sale: the stream went when SQL had all of it.
    return done


def _undone(stream: str, sale_id: int) -> Iterator[list[Entry]]:
    """Yield, page by page, what a stream has for any writer: first what others were given, then what nobody was."""
    cursor, consumer = b"", consumer_name()
    while cursor != b"0-0":
        cursor, entries, _ = store.client().xautoclaim(
            stream, store.WRITERS, consumer, min_idle_time=0, start_id=cursor or "0-0", count=LARGEST_BATCH
        )
        yield entries
    while page := _new({stream: sale_id}, consumer, wait_ms=None):
        yield from (entries for _, entries in page)


def tidy() -> None:
    """Remove from the streams what is acknowledged, and therefore in SQL; never by length. Forget dead writers.

    Safe to repeat.
    """
    store.for_each_server(_sale_ids(), _tidy)


def _tidy(sale_ids: Sequence[int]) -> int:
    """Tidy the streams of sales that are on the same server, and return how many there are."""
    streams = [store.key(sale_id, "orders") for sale_id in sale_ids]
    while streams:
        calls = [([stream], [store.WRITERS, FORGET_AFTER_MS]) for stream in streams]
        removed = store.run_scripts_blocking("tidy", calls)
        streams = [stream for stream, entries in zip(streams, removed, strict=True) if entries]
    return len(sale_ids)


def consumer_name() -> str:
    """Return a name for this process that no other writer has."""
    return process_name()


def _sale_ids() -> list[int]:
    """Return the sales that may have a stream: of the archived ones, those that Redis has not let go of for sure."""
    sales = Sale.objects.filter(Q(archived_at=None) | Q(mirror_due=True))
    return list(sales.order_by().values_list("id", flat=True))


def _streams(sale_ids: Sequence[int]) -> Streams:
    """Return the streams that exist, and whose they are."""
    streams = {store.key(sale_id, "orders"): sale_id for sale_id in sale_ids}
    pipeline = store.pipeline(next(iter(streams)), transaction=False)
    for stream in streams:
        pipeline.exists(stream)
    return {stream: streams[stream] for stream, exists in zip(streams, pipeline.execute(), strict=True) if exists}


def _abandoned(streams: Streams, consumer: str, claim_after_ms: int) -> tuple[str, list[tuple[int, list[Entry]]]]:
    """Return the run of the server, and what is taken over.

    The run is that from before anything is read: what comes from a later one is then compared once too often, and
    never too seldom.
    """
    claim = (store.WRITERS, consumer, claim_after_ms, "0-0", "COUNT", LARGEST_BATCH)
    commands = [("XAUTOCLAIM", stream, *claim) for stream in streams]
    run_id, replies = store.ask_with_run(commands[0][1], *commands, transaction=False)
    return run_id, [(sale_id, reply[1]) for sale_id, reply in zip(streams.values(), replies, strict=True)]


def _new(streams: Streams, consumer: str, wait_ms: int | None = WAIT_MS) -> list[tuple[int, list[Entry]]]:
    if store.is_cluster():  # where nothing reads streams of several slots at once, nor waits for them
        pages = _each(list(streams), consumer, LARGEST_BATCH)
    else:
        # Redis takes the count for each stream: all of them together must not hold it up.
        count = max(1, min(LARGEST_BATCH, MOST_AT_ONCE // len(streams)))
        wanted = dict.fromkeys(streams, ">")
        pages = _pages(store.client().xreadgroup(store.WRITERS, consumer, wanted, count=count, block=wait_ms))
        if full := [stream for stream, entries in pages.items() if len(entries) == count < LARGEST_BATCH]:
            for stream, entries in _each(full, consumer, LARGEST_BATCH - count).items():
                pages[stream] += entries
    return [(streams[stream], entries) for stream, entries in pages.items()]


def _each(streams: Sequence[str], consumer: str, count: int) -> dict[str, list[Entry]]:
    """Read the streams one by one, in one exchange."""
    pipeline = store.pipeline(streams[0], transaction=False)
    for stream in streams:
        pipeline.xreadgroup(store.WRITERS, consumer, {stream: ">"}, count=count)
    pages: dict[str, list[Entry]] = {}
    for reply in pipeline.execute():
        pages |= _pages(reply)
    return pages


def _pages(reply: Any) -> dict[str, list[Entry]]:
    """Return the entries by stream. redis-py gives a dict of lists under RESP 3, and a list of pairs under RESP 2."""
    pages = [(stream, page[0]) for stream, page in reply.items()] if isinstance(reply, dict) else reply or []
    return {stream.decode(): entries for stream, entries in pages}


def _store(sale_id: int, entries: Sequence[Entry], run_id: str = "") -> int:
    """Commit the entries' rows, then acknowledge those that SQL holds; return how many entries are done with.

    A writer that read them from that run of a server remembers them.
    """
    if not entries:  # of most sales nothing waits
        return 0
    reasons: dict[str, str] = {}
    rows = []
    for entry_id, fields in entries:
        try:
            rows.append(_read(sale_id, entry_id.decode(), fields))
        except (KeyError, ValueError) as error:
            reasons[entry_id.decode()] = f"it is no purchase: {error!r}"
    with transaction.atomic():
        reasons |= insert(rows)
        # In no order: for that of Meta SQLite would read the whole sale.
        found = Order.objects.filter(sale_id=sale_id, order_id__in=[row.order_id for row in rows]).order_by()
        held = set(found.values_list("order_id", "user_id"))
    done = [row.order_id for row in rows if (row.order_id, row.user_id) in held]
    for row in rows:
        if (row.order_id, row.user_id) not in held:
            reasons.setdefault(row.order_id, f"SQL holds another order of {row.user_id}, or another shopper's")
    if run_id:
        written.note(sale_id, run_id, [(row.order_id, row.user_id) for row in rows if row.order_id not in reasons])
    done += _set_aside(sale_id, reasons, dict(entries))
    if done:
        store.client().xack(store.key(sale_id, "orders"), store.WRITERS, *done)
    return len(done)


def insert(rows: Sequence[Order]) -> dict[str, str]:
    """Insert the rows that SQL takes and has not; return why it refuses others, by order_id."""
    if not rows:
        return {}
    try:
        with transaction.atomic():
            # It swallows conflicts of every kind: what SQL holds is read back by the caller.
            Order.objects.bulk_create(rows, ignore_conflicts=True)
        return {}
    except (OperationalError, InterfaceError):  # SQL is away: nothing is wrong with the rows
        raise
    except Exception as error:
        if len(rows) == 1:
            return {rows[0].order_id: f"SQL refuses it: {error}"}
        half = len(rows) // 2
        return insert(rows[:half]) | insert(rows[half:])


def _set_aside(sale_id: int, reasons: dict[str, str], entries: dict[bytes, dict[bytes, bytes]]) -> list[str]:
    """Quarantine the entries that were tried often enough; return them. The others come again."""
    stream, done = store.key(sale_id, "orders"), []
    for entry_id, reason in reasons.items():
        tries = store.client().xpending_range(stream, store.WRITERS, min=entry_id, max=entry_id, count=1)
        if not tries or tries[0]["times_delivered"] < MOST_TRIES:
            continue
        fields = {_text(name): _text(value) for name, value in (entries[entry_id.encode()] or {}).items()}
        Quarantine.objects.get_or_create(
            sale_id=sale_id, entry_id=entry_id, defaults={"fields": fields, "reason": reason}
        )
        # The reason quotes the entry, and so names the shopper: it stays in SQL.
        log.error("sale %s: stream entry %s is in quarantine; the admin says why", sale_id, entry_id)
        done.append(entry_id)
    return done


def _text(value: bytes) -> str:
    return value.decode(errors="backslashreplace").replace("\x00", "\\x00")


def _read(sale_id: int, order_id: str, fields: dict[bytes, bytes]) -> Order:
    """Return the row of a stream entry. Raises KeyError or ValueError when it is no purchase."""
    values: dict[str, Any] = {name.decode(): value.decode() for name, value in (fields or {}).items()}
    remaining_stock = int(values["remaining_stock"])
    if not values["user_id"] or remaining_stock < 0:
        raise ValueError(values)
    return row(sale_id, values["user_id"], order_id, remaining_stock, values["key_digest"])


def row(sale_id: int, user_id: str, order_id: str, remaining_stock: int, key_digest: str) -> Order:
    """Return the row of a purchase, not saved."""
    return Order(
        sale_id=sale_id,
        order_id=order_id,
        order_code=order_codes.make(sale_id, order_id),
        user_id=user_id,
        purchased_at=datetime.fromtimestamp(purchased_ms(order_id) / 1000, UTC),
        remaining_stock=remaining_stock,
        key_digest=key_digest,
    )
