"""A discrete-event simulation of an opening rush: shoppers, web workers with their batchers, and the one Redis core.

It models what decides how long a shopper waits, as the code does it, and nothing else:

* A web worker is one core that does one thing after the other. An attempt costs it some time before it waits for its
  batch and some after, a batch costs an exchange. One batch is in flight; what arrives meanwhile goes in the next.
* Redis is one core. It takes all calls that have come, decides them, syncs once if a unit was sold, and answers all.
* An attempt that cannot be decided in time is refused as `unavailable`, one whose answer does not come as `unknown`,
  as sales/batcher.py does. The shopper asks again after the second that Retry-After says, until there is an answer.

Times are seconds since the sale opened, costs are microseconds of a core.
"""

import heapq
import math
import random
from collections import deque
from collections.abc import Iterable, Sequence
from itertools import count
from typing import Any, NamedTuple

from sales.batcher import SHORTEST_CALL_SECONDS
from sales.purchases import ANSWER_WITHIN_SECONDS, LARGEST_BATCH
from tests.load.scaling.cores import Core

RETRY_AFTER_SECONDS = 1.0


class Costs(NamedTuple):
    """What each step costs: of a web worker `take_us` and `answer_us` per attempt and `exchange_us` per batch; of Redis
    `call_us` per batch, `refusal_us` or `purchase_us` per attempt, and `sync_us` for each time that it waits for the
    disk. `between_us` is the network's, from a web worker to Redis, one way."""

    take_us: float
    answer_us: float
    exchange_us: float
    call_us: float
    refusal_us: float
    purchase_us: float
    sync_us: float
    between_us: float


class Rush(NamedTuple):
    """What came of it. `waits` are sorted: seconds from a shopper's first press to the answer, which may be `sold_out`.

    `fullest_web` and `fullest_redis` are the shares of a core that one of the web workers, and Redis, had something to
    do in its busiest moment (cores.MOMENT_SECONDS). `redis_busy` is Redis's share of the time from the first press to
    the last answer, and counts the disk that it waits for.
    """

    waits: Sequence[float]
    sold: int
    sold_out_at: float | None
    last_answer_at: float
    unavailable: int
    unknown: int
    batches: int
    decisions: int
    largest_queue: int
    fullest_web: float
    fullest_redis: float
    redis_busy: float

    def wait(self, share: float) -> float:
        """Return the seconds within which this share of the shoppers had their answer."""
        return self.waits[max(0, math.ceil(share * len(self.waits)) - 1)]


def presses(shoppers: int, half_within_seconds: float, spread: float, seed: int) -> list[float]:
    """Return when each shopper presses, sorted: the times are log-normal, as human reactions are (Luce, "Response
    Times", 1986), half of them within `half_within_seconds`; `spread` is their logarithm's standard deviation."""
    rng, logarithm = random.Random(seed), math.log(half_within_seconds)
    return sorted(math.exp(logarithm + spread * rng.gauss(0, 1)) for _ in range(shoppers))


def simulate(pressed: Sequence[float], stock: int, workers: int, costs: Costs, seed: int = 1) -> Rush:
    """Return what comes of shoppers who press at these times, which are sorted, in a sale of `stock` units.

    Each comes to any of the web workers. All randomness follows from `seed`.
    """
    return _Simulation(pressed, stock, workers, costs, random.Random(seed)).run()


# A shopper (the place in `pressed`), and when the attempt was taken: what a batch is made of.
_Waiting = tuple[int, float]


class _Worker(Core):
    """One web worker: who comes to it, in order, and who waits for a batch."""

    def __init__(self) -> None:
        super().__init__()
        self.coming: deque[_Waiting] = deque()
        self.again: list[tuple[float, int]] = []
        self.waiting: deque[_Waiting] = deque()
        self.in_flight: list[_Waiting] = []
        # Counts batches, so that a reply that comes too late is known.
        self.turn = 0

    def next_at(self) -> float:
        """Return when the next one comes, infinity when nobody does."""
        first = self.coming[0][1] if self.coming else math.inf
        return min(first, self.again[0][0]) if self.again else first

    def next_shopper(self) -> _Waiting:
        if self.again and (not self.coming or self.again[0][0] < self.coming[0][1]):
            arrived, shopper = heapq.heappop(self.again)
            return shopper, arrived
        return self.coming.popleft()


class _Simulation:
    def __init__(self, pressed: Sequence[float], stock: int, workers: int, costs: Costs, rng: random.Random):
        self._pressed, self._stock, self._rng = pressed, stock, rng
        self._costs = Costs(*(cost / 1e6 for cost in costs))
        self._workers = [_Worker() for _ in range(workers)]
        for shopper, at in enumerate(pressed):
            rng.choice(self._workers).coming.append((shopper, at))
        self._events: list[tuple[float, int, Any, tuple[Any, ...]]] = []
        self._number = count()
        self._calls: list[tuple[_Worker, int, list[_Waiting]]] = []
        self._redis, self._redis_is_busy = Core(), False
        self._has_unit = bytearray(len(pressed))
        self._waits: list[float] = []
        self._sold_out_at: float | None = None
        self._last_answer_at = self._redis_seconds = 0.0
        self._unavailable = self._unknown = self._batches = self._decisions = self._largest_queue = 0

    def run(self) -> Rush:
        for worker in self._workers:
            self._begin_with_next(worker)
        while self._events:
            now, _, step, details = heapq.heappop(self._events)
            step(now, *details)
        duration = max(self._last_answer_at - self._pressed[0], 1e-9)
        return Rush(
            waits=sorted(self._waits),
            sold=sum(self._has_unit),
            sold_out_at=self._sold_out_at,
            last_answer_at=self._last_answer_at,
            unavailable=self._unavailable,
            unknown=self._unknown,
            batches=self._batches,
            decisions=self._decisions,
            largest_queue=self._largest_queue,
            fullest_web=max(worker.fullest() for worker in self._workers),
            fullest_redis=self._redis.fullest(),
            redis_busy=self._redis_seconds / duration,
        )

    def _at(self, when: float, step: Any, *details: Any) -> None:
        heapq.heappush(self._events, (when, next(self._number), step, details))

    # A web worker.

    def _begin_with_next(self, worker: _Worker) -> None:
        """Let an idle worker begin when the next shopper comes, if one does."""
        if (at := worker.next_at()) < math.inf:
            self._at(max(at, worker.free_at), self._begin, worker)

    def _begin(self, now: float, worker: _Worker) -> None:
        if not worker.in_flight:
            self._take(worker, now)
            self._send(worker, now)

    def _take(self, worker: _Worker, until: float) -> None:
        """Take all who have come, in order."""
        while worker.next_at() <= until:
            shopper, arrived = worker.next_shopper()
            worker.waiting.append((shopper, worker.work(arrived, self._costs.take_us)))
        self._largest_queue = max(self._largest_queue, len(worker.waiting))

    def _send(self, worker: _Worker, now: float) -> None:
        """Send a batch of those who wait; who has too little time left is refused."""
        batch: list[_Waiting] = []
        while worker.waiting and len(batch) < LARGEST_BATCH:
            waiting = worker.waiting.popleft()
            if waiting[1] + ANSWER_WITHIN_SECONDS - max(now, worker.free_at) < SHORTEST_CALL_SECONDS:
                self._refuse(worker, [waiting], now)
                self._unavailable += 1
            else:
                batch.append(waiting)
        worker.in_flight, worker.turn = batch, worker.turn + 1
        if not batch:
            self._begin_with_next(worker)
            return
        sent = worker.work(now, self._costs.exchange_us)
        self._batches += 1
        self._at(sent + self._costs.between_us, self._reach_redis, worker, worker.turn, batch)
        self._at(min(taken for _, taken in batch) + ANSWER_WITHIN_SECONDS, self._give_up, worker, worker.turn)

    def _hear(self, now: float, worker: _Worker, turn: int) -> None:
        """Answer a batch, after the next one is on its way, as the batcher's task does."""
        if turn != worker.turn:
            return
        answered = worker.in_flight
        self._take(worker, now)
        self._send(worker, now)
        for shopper, _ in answered:
            at = worker.work(now, self._costs.answer_us)
            self._waits.append(at - self._pressed[shopper])
            self._last_answer_at = max(self._last_answer_at, at)

    def _give_up(self, now: float, worker: _Worker, turn: int) -> None:
        """Redis has not answered in time: nobody knows what became of the batch, and who waits is not sent."""
        if turn != worker.turn or not worker.in_flight:
            return
        self._take(worker, now)
        self._unknown += len(worker.in_flight)
        self._unavailable += len(worker.waiting)
        self._refuse(worker, [*worker.in_flight, *worker.waiting], now)
        worker.waiting.clear()
        self._send(worker, now)

    def _refuse(self, worker: _Worker, refused: Iterable[_Waiting], now: float) -> None:
        """Tell these to ask again, which they do with some patience, each at a worker of the moment."""
        for shopper, _ in refused:
            told = worker.work(now, self._costs.answer_us)
            again, other = told + RETRY_AFTER_SECONDS * (1 + self._rng.random()), self._rng.choice(self._workers)
            heapq.heappush(other.again, (again, shopper))
            self._at(again, self._begin, other)

    # Redis.

    def _reach_redis(self, now: float, worker: _Worker, turn: int, batch: list[_Waiting]) -> None:
        self._calls.append((worker, turn, batch))
        if not self._redis_is_busy:
            self._decide(now)

    def _decide(self, now: float) -> None:
        """Decide all calls that have come, and answer them together: one sync for all."""
        calls, self._calls = self._calls, []
        self._redis_is_busy = bool(calls)
        if not calls:
            return
        at, stock = now, self._stock
        for _, _, batch in calls:
            at = self._redis.work(now, self._costs.call_us)
            for shopper, _ in batch:
                is_purchase = self._stock > 0 and not self._has_unit[shopper]
                at = self._redis.work(now, self._costs.purchase_us if is_purchase else self._costs.refusal_us)
                if is_purchase:
                    self._has_unit[shopper] = 1
                    self._stock -= 1
            self._decisions += len(batch)
        if self._stock < stock:
            at = self._redis.wait(self._costs.sync_us)
            self._sold_out_at = at if self._stock == 0 else None
        self._redis_seconds += at - now
        for worker, turn, _ in calls:
            self._at(at + self._costs.between_us, self._hear, worker, turn)
        self._at(at, self._decide)
