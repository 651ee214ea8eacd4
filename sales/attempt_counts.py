"""What the web workers have counted of attempts: moved from Redis into SQL, and read from wherever it is.

A worker writes a second once, so that a second may be stored and read any number of times.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Any, NamedTuple

import orjson
from django.db import transaction
from django.db.models import QuerySet

from sales import histogram, store
from sales.models import AttemptCount, Sale, ShopperCount
from sales.paging import AT_ONCE, PAGE, pages

log = logging.getLogger(__name__)


class Count(NamedTuple):
    """What one worker counted in one second."""

    second: int
    worker: str
    outcomes: dict[str, int]
    latencies: Sequence[int]
    remaining_stock: int | None


class Second(NamedTuple):
    """What all workers counted in one second."""

    second: int
    outcomes: Counter[str]
    latencies: Sequence[int]
    remaining_stock: int | None

    @property
    def attempts(self) -> int:
        return self.outcomes.total()


NOTHING: Counter[str] = Counter()


def store_counts() -> int:
    """Move what the workers have written into SQL, and return how many counts that were; the order writer does it once
    a second, so that they are kept after Redis is emptied.

    Safe to repeat, to kill anywhere, and to run in several processes. Raises store.RedisError and
    django.db.DatabaseError; what was not removed from Redis comes again.
    """
    about = dict(ShopperCount.objects.values_list("sale_id", "about"))
    sale_ids = Sale.objects.filter(archived_at=None).values_list("id", flat=True)
    return store.for_each_server(sale_ids, lambda of_server: _store_counts(of_server, about))


def _store_counts(sale_ids: Sequence[int], about: dict[int, int]) -> int:
    """Move what the workers have written of sales that are on the same server."""
    pipeline = store.pipeline(store.key(sale_ids[0], "attempts"), transaction=False)
    for sale_id in sale_ids:
        pipeline.hlen(store.key(sale_id, "attempts"))
        pipeline.pfcount(store.key(sale_id, "shoppers"))
    found, stored = pipeline.execute(), 0
    for sale_id, waiting, shoppers in zip(sale_ids, found[::2], found[1::2], strict=True):
        if waiting:
            stored += _move(sale_id)
        known = about.get(sale_id, 0)
        if shoppers != known or (waiting and known):  # as many may be others, of a Redis that has lost those
            _keep_shoppers(sale_id)
    return stored


def store_all_of(sale: Sale) -> int:
    """Move what the workers have written of one sale, as `store_counts` does."""
    _keep_shoppers(sale.id)
    return _move(sale.id)


def in_redis(sale: Sale) -> list[Count]:
    """Return the counts that the order writer has not moved yet. Raises store.RedisError."""
    # Some at a time: while no order writer moves them they become many.
    found = dict(store.client().hscan_iter(store.key(sale.id, "attempts"), count=AT_ONCE))
    return [count for count in map(_read, found.items()) if count]


def since(sale: Sale, second: int, held: Iterable[Count]) -> list[Count]:
    """Return the counts of that second and later, each once, in the order of time; `held` are those that Redis held:
    read before, so that none is missed which is moved in between."""
    counts = {(count.second, count.worker): count for count in held if count.second >= second}
    counts |= {(count.second, count.worker): count for count in in_sql(sale.attempt_counts.filter(second__gte=second))}
    return [counts[key] for key in sorted(counts)]


def in_sql(rows: QuerySet[AttemptCount]) -> Iterator[Count]:
    """Yield the rows' counts, in the order of time; a page of them is in memory."""
    found = rows.order_by("second", "worker").values_list(*Count._fields)
    return (Count(*row) for row in found.iterator(PAGE))


def by_second(counts: Iterable[Count]) -> Iterator[Second]:
    """Yield what all workers counted together, of counts that are in the order of time."""
    for second, group in groupby(counts, key=attrgetter("second")):
        of_all = list(group)
        outcomes: Counter[str] = Counter()
        for count in of_all:
            outcomes.update(count.outcomes)
        told = [count.remaining_stock for count in of_all if count.remaining_stock is not None]
        latencies = histogram.merged(count.latencies for count in of_all)
        yield Second(second, outcomes, latencies, min(told, default=None))


def _read(item: tuple[bytes, bytes]) -> Count | None:
    """Return the count of a field, or None when it is none: somebody else has written it."""
    field, value = item
    try:
        second, worker = field.decode().split(" ")
        count: dict[str, Any] = orjson.loads(value)
        return Count(int(second), worker, count["outcomes"], count["latencies"], count["remaining_stock"])
    except (ValueError, KeyError, TypeError):
        log.error("%r: %r is no count of attempts", field, value)
        return None


def _move(sale_id: int) -> int:
    """Commit a sale's counts, then remove them from Redis; return how many."""
    key, stored = store.key(sale_id, "attempts"), 0
    for page in pages(store.client().hscan_iter(key, count=AT_ONCE), AT_ONCE):
        counts = [count for count in map(_read, page) if count]
        with transaction.atomic():
            if _is_there(sale_id):
                AttemptCount.objects.bulk_create((_row(sale_id, count) for count in counts), ignore_conflicts=True)
        store.client().hdel(key, *(field for field, _ in page))
        stored += len(counts)
    return stored


def _row(sale_id: int, count: Count) -> AttemptCount:
    return AttemptCount(sale_id=sale_id, attempts=sum(count.outcomes.values()), **count._asdict())


def _keep_shoppers(sale_id: int) -> None:
    """Have SQL and Redis know of the same shoppers, which are all that either knows of."""
    keys = [store.key(sale_id, "shoppers"), store.key(sale_id, "shoppers:restored")]
    with transaction.atomic():
        # Of an archived one Redis has let go, and would be given it back.
        if not _is_there(sale_id) or Sale.objects.filter(pk=sale_id, archived_at__isnull=False).exists():
            return
        kept = ShopperCount.objects.filter(sale_id=sale_id).first()
        about, sketch = store.run_script_blocking("keep_shoppers", keys, [bytes(kept.sketch) if kept else ""])
        ShopperCount.objects.update_or_create(sale_id=sale_id, defaults={"about": about, "sketch": sketch})


def _is_there(sale_id: int) -> bool:
    """Lock the sale, and return whether SQL still has it, which a rehearsal that has ended it has not."""
    return Sale.objects.select_for_update().filter(pk=sale_id).exists()
