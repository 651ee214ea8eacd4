"""What this worker counts of the attempts to buy, and tells Redis once a second: outcomes, times, shoppers.

Nothing is done for each attempt: a batch is counted at once, when it is answered.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from operator import attrgetter, itemgetter
from typing import Any

import orjson

from sales import histogram, metrics, store, workers
from sales.per_loop import per_loop

# Seconds that Redis did not take are kept for so long, and written when it does.
KEEP_SECONDS = 60
# Of shoppers that are still to be told, so that an absent Redis cannot fill the memory.
MOST_SHOPPERS = 100_000
# Bounds how long one call keeps Redis from everybody else: about 0.1 ms.
SHOPPERS_IN_A_CALL = 500
# For answers that were under way at the end of a second.
WRITE_AFTER_SECONDS = 0.02
LEAVE_WITHIN_SECONDS = 1.0
# Their remaining stock is not the one of now: a repeat gets the first answer, and the other has none.
_STALE = {"replayed", "rate_limited"}

log = logging.getLogger(__name__)
_sale_of, _shopper_of, _outcome_of = itemgetter(0), itemgetter(1), attrgetter("outcome")


@dataclass
class Tally:
    """The attempts of one sale that were answered in one second."""

    outcomes: Counter[str] = field(default_factory=Counter)
    latencies: list[int] = field(default_factory=lambda: [0] * histogram.BUCKETS)
    remaining_stock: int | None = None
    is_measured: bool = False

    def as_json(self) -> bytes:
        return orjson.dumps(
            {"outcomes": self.outcomes, "latencies": self.latencies, "remaining_stock": self.remaining_stock}
        )


def count(attempts: Sequence[Any], deadlines: Sequence[float], answers: Sequence[Any], within_seconds: float) -> None:
    """Count a batch whose `answers` have just come; each attempt arrived `within_seconds` before its deadline.

    An attempt is a sale's ID, a user_id and more; an answer has an `outcome`, unless it is a defect.
    """
    counting, end = _counting(), time.monotonic() + within_seconds
    if len(set(map(_sale_of, attempts))) == 1:
        counting.add(attempts[0][0], attempts, deadlines, answers, end)
        return
    sales: dict[int, list[tuple[Any, float, Any]]] = {}
    for entry in zip(attempts, deadlines, answers, strict=True):
        sales.setdefault(entry[0][0], []).append(entry)
    for sale_id, entries in sales.items():
        of_sale, due, answered = zip(*entries, strict=True)
        counting.add(sale_id, of_sale, due, answered, end)


@asynccontextmanager
async def told_to_redis() -> AsyncIterator[None]:
    """Tell Redis once a second what was counted, and that this worker lives; at the end, what is left to tell."""
    counting = _counting()
    with suppress(store.Failure):
        await counting.beat()  # the first attempt already needs Redis's time
    ending = asyncio.Event()
    task = asyncio.create_task(counting.tell_until(ending))
    try:
        yield
    finally:
        ending.set()
        with suppress(store.Failure, TimeoutError):
            async with asyncio.timeout(LEAVE_WITHIN_SECONDS):
                await task  # not cancelled: a beat that is on its way would come after the leave
                await counting.write(counting.second + 1)
                await workers.leave()


class Counting:
    """The tallies of one worker that Redis does not have yet, by sale and second of Redis's clock."""

    def __init__(self) -> None:
        self.second = 0
        self._tallies: dict[tuple[int, int], Tally] = {}
        self._shoppers: dict[int, set[str]] = {}
        # Until the first beat; nothing is decided before Redis can be reached.
        self._clock_ahead_seconds = 0.0

    def add(
        self, sale_id: int, attempts: Sequence[Any], deadlines: Sequence[float], answers: Sequence[Any], end: float
    ) -> None:
        tally = self._tally(sale_id)
        try:
            tally.outcomes.update(map(_outcome_of, answers))
        except AttributeError:  # a defect, of which the whole batch hears
            tally.outcomes["server_error"] += len(answers)
        histogram.add(tally.latencies, sorted(deadlines), end)
        for answer in reversed(answers):
            if not isinstance(answer, Exception) and answer.outcome not in _STALE:
                tally.remaining_stock = answer.remaining_stock
                break
        shoppers = self._shoppers.setdefault(sale_id, set())
        if len(shoppers) < MOST_SHOPPERS:
            shoppers.update(map(_shopper_of, attempts))

    async def tell_until(self, ending: asyncio.Event) -> None:
        while not ending.is_set():
            try:
                await self.write(self._now_second())
                await self.beat()
            except store.Failure:
                pass  # what Redis did not take is written with the next second
            except Exception:  # a defect here must not end what is told in the seconds to come
                log.exception("this second was not told to Redis")
            now = time.monotonic() + self._clock_ahead_seconds
            with suppress(TimeoutError):
                async with asyncio.timeout(1 - now % 1 + WRITE_AFTER_SECONDS):
                    await ending.wait()

    async def beat(self) -> None:
        """Tell Redis that this worker lives, and learn its time from the answer. Raises store.Failure."""
        asked = time.monotonic()
        now_ms = await workers.beat()
        self._clock_ahead_seconds = now_ms / 1000 - (asked + time.monotonic()) / 2

    async def write(self, until: int) -> None:
        """Write the seconds before `until`, which nothing is added to any more. Raises store.Failure."""
        self.second = max(self.second, until)
        self._measure(until)
        self._tallies = {key: tally for key, tally in self._tallies.items() if key[0] >= until - KEEP_SECONDS}
        due: dict[int, list[int]] = {}
        for second, sale_id in self._tallies:
            if second < until:
                due.setdefault(sale_id, []).append(second)
        if due:
            replies = await store.run_scripts("note_counts", [self._call(*pair) for pair in due.items()])
            for (sale_id, seconds), reply in zip(due.items(), replies, strict=True):
                for second in seconds if reply == 1 else ():
                    del self._tallies[second, sale_id]
        for sale_id in list(self._shoppers):
            await self._tell_shoppers(sale_id)

    def _measure(self, until: int) -> None:
        """Let the metrics have the seconds before `until`, whether Redis takes them or not."""
        for (second, sale_id), tally in self._tallies.items():
            if second < until and not tally.is_measured:
                metrics.note_attempts(sale_id, tally.outcomes)
                tally.is_measured = True

    def _call(self, sale_id: int, seconds: Iterable[int]) -> tuple[list[str], list[Any]]:
        worker, words = workers.process_name(), []
        for second in seconds:
            words += [f"{second} {worker}", self._tallies[second, sale_id].as_json()]
        return [store.key(sale_id, "config"), store.key(sale_id, "attempts")], words

    async def _tell_shoppers(self, sale_id: int) -> None:
        """Tell Redis who attempted to buy, a few hundred in a call, so that purchases come in between."""
        shoppers, told = list(self._shoppers.pop(sale_id)), 0
        keys = [store.key(sale_id, "config"), store.key(sale_id, "shoppers")]
        try:
            while told < len(shoppers):
                chunk = shoppers[told : told + SHOPPERS_IN_A_CALL]
                (reply,) = await store.run_scripts("note_shoppers", [(keys, chunk)])
                if reply != 1:
                    break
                told += len(chunk)
        finally:
            if told < len(shoppers) and any(of_sale == sale_id for _, of_sale in self._tallies):
                self._shoppers.setdefault(sale_id, set()).update(shoppers[told:])

    def _tally(self, sale_id: int) -> Tally:
        self.second = max(self.second, self._now_second())
        key = self.second, sale_id
        tally = self._tallies.get(key)
        if tally is None:
            tally = self._tallies[key] = Tally()
        return tally

    def _now_second(self) -> int:
        return int(time.monotonic() + self._clock_ahead_seconds)


@per_loop
def _counting() -> Counting:
    return Counting()
