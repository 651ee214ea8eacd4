"""How a sale is going, second by second: what the live dashboard shows."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any, NamedTuple

from django.db.models import Q

from sales import attempt_counts, histogram, publishing, states, store, workers
from sales.attempt_counts import Second
from sales.clock import from_redis, to_ms
from sales.models import Sale
from sales.purchases import purchased_ms
from sales.workers import Workers

# The charts show no more than this.
WINDOW_SECONDS = 600
# What to ask for to get all of them.
BEGINNING = 0
# A worker that Redis was away from writes its seconds late, but not later than this.
LATE_SECONDS = 65
# Percentiles are told of the last seconds together: one alone may have a handful of answers.
SMOOTH_SECONDS = 10


class Drift(NamedTuple):
    """Where Redis and SQL differ, without what the order writer still has to write: orders that SQL lacks, orders that
    Redis knows nothing of, and units that stock and purchases have too many (or, below zero, too few)."""

    missing: int
    surplus: int
    units: int

    def __bool__(self) -> bool:
        return any(self)


class Stand(NamedTuple):
    """What Redis says at one moment. `backlog` purchases wait for the order writer, the oldest of them for `lag_ms`.

    `workers` is None while the server that hears of them is away, which in a cluster may be another than the sale's.
    """

    now_ms: int
    sold: int
    remaining_stock: int
    total_stock: int
    backlog: int
    lag_ms: int
    drift: Drift
    used_bytes: int
    most_bytes: int
    workers: Workers | None


class Picture(NamedTuple):
    """One look at a sale: how it stands (None while Redis cannot be reached or has lost it), the complete seconds from
    the first that was asked for, each of them, and the percentiles of the last ones together."""

    state: states.State
    stand: Stand | None
    now_ms: int
    seconds: list[Second]
    latencies: list[int]


def look(sale: Sale, since: int = BEGINNING) -> Picture:
    """Return how the sale is going, with the seconds after `since` and those that may still have changed.

    While Redis is away, it is what SQL has.
    """
    state = states.state(sale)
    now_ms = to_ms(states.seen_at(sale))
    last = now_ms // 1000 - 1
    first = max(last - WINDOW_SECONDS + 1, min(since - LATE_SECONDS, last - SMOOTH_SECONDS))
    stand, held = None, []
    if states.standing_of(sale):  # it has just answered: while it is away nobody waits for it twice
        with suppress(store.RedisError):
            stand, held = _stand(sale), attempt_counts.in_redis(sale)
    counts = attempt_counts.since(sale, first, held)
    found = {second.second: second for second in attempt_counts.by_second(counts)}
    seconds = list(_every(found, first, last, _remained_before(found.values(), stand)))
    if stand:  # units may have been added since somebody was told
        seconds[-1] = seconds[-1]._replace(remaining_stock=stand.remaining_stock)
    latencies = histogram.merged(second.latencies for second in seconds[-SMOOTH_SECONDS:])
    return Picture(state, stand, now_ms, seconds, latencies)


def _remained_before(found: Iterable[Second], stand: Stand | None) -> int | None:
    """Return how many units remained before the first attempt in sight: nobody had bought since then."""
    for second in found:
        if second.remaining_stock is not None:
            return second.remaining_stock + second.outcomes["purchased"]
    return stand.remaining_stock if stand else None


def _every(found: dict[int, Second], first: int, last: int, remaining: int | None) -> Iterator[Second]:
    """Yield all seconds, those too in which nothing happened; what remains is what remained."""
    for number in range(first, last + 1):
        second = found.get(number) or Second(number, attempt_counts.NOTHING, (0,) * histogram.BUCKETS, None)
        remaining = remaining if second.remaining_stock is None else second.remaining_stock
        yield second._replace(remaining_stock=remaining)


def _stand(sale: Sale) -> Stand | None:
    """Return how the sale stands, or None when Redis does not have it. Raises store.RedisError."""
    if sale.archived_at:
        return _archived_stand(sale)
    stream, purchases = store.key(sale.id, "orders"), store.key(sale.id, "purchases")
    pipeline = store.pipeline(stream)
    pipeline.time()
    pipeline.hlen(purchases)
    pipeline.get(store.key(sale.id, "stock"))
    pipeline.hget(store.key(sale.id, "config"), "total_stock")
    pipeline.xinfo_groups(stream)
    now, sold, stock, total, groups = pipeline.execute(raise_on_error=False)
    if stock is None or total is None or isinstance(groups, Exception):
        return None
    now_ms = to_ms(from_redis(now))
    group = next((group for group in groups if group["name"] == store.WRITERS.encode()), None)
    if group is None:
        return None
    backlog = group["pending"] + (group["lag"] or 0)
    # Where Redis cannot tell how far the writer is behind, nothing is said of what SQL lacks.
    acknowledged = sold - backlog if group["lag"] is not None else 0
    used_bytes, most_bytes = _memory(sale)
    return Stand(
        now_ms=now_ms,
        sold=sold,
        remaining_stock=int(stock),
        total_stock=int(total),
        backlog=backlog,
        lag_ms=_lag_ms(stream, group, now_ms) if backlog else 0,
        drift=_drift(sale, sold, acknowledged, int(stock) + sold - int(total)),
        used_bytes=used_bytes,
        most_bytes=most_bytes,
        workers=_workers(now_ms),
    )


def _archived_stand(sale: Sale) -> Stand | None:
    """Return how an archived sale stands, of which nothing waits for the order writer."""
    standing = publishing.standing(sale)
    if standing.remaining_stock is None:
        return None
    now_ms, orders = to_ms(standing.read_at), sale.valid_orders().count()
    used_bytes, most_bytes = _memory(sale)
    return Stand(
        now_ms=now_ms,
        sold=standing.sold,
        remaining_stock=standing.remaining_stock,
        total_stock=sale.total_stock,
        backlog=0,
        lag_ms=0,
        drift=Drift(max(0, standing.sold - orders), max(0, orders - standing.sold), 0),
        used_bytes=used_bytes,
        most_bytes=most_bytes,
        workers=_workers(now_ms),
    )


def _workers(now_ms: int) -> Workers | None:
    try:
        return workers.count(store.client().hgetall(store.WORKERS), now_ms)
    except store.RedisError:
        return None


def _memory(sale: Sale) -> tuple[int, int]:
    """Return the bytes that the server of the sale takes, and the most that it can."""
    memory: dict[str, Any] = store.server_of(store.key(sale.id, "config")).info("memory")
    return memory["used_memory"], memory.get("maxmemory") or memory.get("total_system_memory") or 0


def _drift(sale: Sale, sold_before: int, acknowledged: int, units: int) -> Drift:
    """Compare SQL with the purchases that were acknowledged before, which it must hold, and with those that are sold
    after, which it cannot exceed. An order that is cancelled between two of these looks is missing in one of them."""
    may_be_held = sale.orders.filter(Q(cancelled_at=None) | Q(cancellation_due=True)).count()
    sold_after = store.client().hlen(store.key(sale.id, "purchases"))
    missing = min(acknowledged, sold_after) - may_be_held
    return Drift(max(0, missing), max(0, may_be_held - max(sold_before, sold_after)), units)


def _lag_ms(stream: str, group: dict[str, Any], now_ms: int) -> int:
    """Return for how long the oldest purchase waits that the order writer has not acknowledged."""
    pipeline = store.pipeline(stream)
    pipeline.xpending(stream, store.WRITERS)
    pipeline.xrange(stream, min=b"(" + group["last-delivered-id"], count=1)
    pending, undelivered = pipeline.execute()
    waiting = [pending["min"], *(entry_id for entry_id, _ in undelivered)]
    oldest = [purchased_ms(entry_id.decode()) for entry_id in waiting if entry_id]
    return max(0, now_ms - min(oldest, default=now_ms))
