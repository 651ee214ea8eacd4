"""Group commit: while one call to Redis is in flight, what arrives meanwhile goes together in the next."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from itertools import zip_longest
from typing import Any, Generic, TypeVar

from flashsale.tracing import no_request
from sales import store

Item = TypeVar("Item")
Answer = TypeVar("Answer")

# An item is refused instead of sent when less than this is left of its time.
SHORTEST_CALL_SECONDS = 0.2


# Gets the items of a batch, by when each was to be answered, and their answers or the errors in place of those.
Observer = Callable[[Sequence[Any], Sequence[float], Sequence[Any]], None]

log = logging.getLogger(__name__)

# An item, the future of its answer, and the time (`time.monotonic`) by which it is to be answered.
_Waiting = tuple[Item, asyncio.Future[Answer], float]


class Batcher(Generic[Item, Answer]):
    """Answer items by a call that takes many: one call in flight, nothing waits when alone.

    `call` gets a sequence of items and returns their answers in order, a store.Failure for an item that met one.
    `observe` is told of each batch once it is answered. When more wait than a batch takes, each group of items has an
    equal share of it: `group` tells which one an item belongs to. A batcher belongs to the loop that it is made in.
    """

    def __init__(
        self,
        call: Callable[[Sequence[Item]], Awaitable[Sequence[Answer | store.Failure]]],
        largest_batch: int,
        observe: Observer | None = None,
        group: Callable[[Item], Hashable] = type,
    ):
        self._call = call
        self._largest_batch = largest_batch
        self._observe = observe
        self._group = group
        self._waiting: deque[_Waiting[Item, Answer]] = deque()
        self._drain_task: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()

    def submit(self, item: Item, deadline: float) -> asyncio.Future[Answer]:
        """Return the future of the answer to `item`, which comes by `deadline`, a time of `time.monotonic`.

        It raises store.Unavailable when the item was not decided, store.Unknown when it may have been.
        """
        answer: asyncio.Future[Answer] = self._loop.create_future()
        self._waiting.append((item, answer, deadline))
        if self._drain_task is None:
            self._drain_task = self._loop.create_task(self._drain(), context=no_request())
        return answer

    async def _drain(self) -> None:
        try:
            while self._waiting:
                await self._answer_next_batch()
        finally:
            self._drain_task = None

    async def _answer_next_batch(self) -> None:
        if len(self._waiting) > self._largest_batch:
            self._waiting = self._taking_turns()
        waiting, now = self._waiting, time.monotonic()
        batch: list[_Waiting[Item, Answer]] = []
        while waiting and len(batch) < self._largest_batch:
            entry = waiting.popleft()
            if entry[2] - now < SHORTEST_CALL_SECONDS:
                self._refuse([entry], store.Unavailable("Redis is too slow to answer in time"))
            else:
                batch.append(entry)
        if not batch:
            return
        try:
            async with asyncio.timeout(min(deadline for _, _, deadline in batch) - now):
                answers = await self._call([item for item, _, _ in batch])
        except (store.Failure, TimeoutError) as error:
            failure = store.Unknown("Redis did not answer in time") if isinstance(error, TimeoutError) else error
            self._refuse(batch, failure)
            self._refuse_waiting()
        except Exception as error:  # a defect: every one of the batch must hear of it, and the next batch still runs
            self._refuse(batch, error)
        else:
            if log.isEnabledFor(logging.DEBUG):
                log.debug("a batch of %d was answered in %.1f ms", len(batch), (time.monotonic() - now) * 1000)
            for (_, future, _), answer in zip(batch, answers, strict=True):
                if isinstance(answer, store.Failure):
                    _fail(future, answer)
                elif not future.done():
                    future.set_result(answer)
            self._tell(batch, answers)

    def _taking_turns(self) -> deque[_Waiting[Item, Answer]]:
        """Return what waits: the first of each group, then the second of each, and so on."""
        groups: dict[Hashable, list[_Waiting[Item, Answer]]] = {}
        for entry in self._waiting:
            groups.setdefault(self._group(entry[0]), []).append(entry)
        if len(groups) == 1:
            return self._waiting
        return deque(entry for turn in zip_longest(*groups.values()) for entry in turn if entry)

    def _refuse_waiting(self) -> None:
        """Refuse at once what was not sent: to wait for a Redis that has just failed would answer too late."""
        self._refuse(self._waiting, store.Unavailable("Redis has just failed"))
        self._waiting.clear()

    def _refuse(self, batch: Sequence[_Waiting[Item, Answer]], error: Exception) -> None:
        for _, future, _ in batch:
            _fail(future, error)
        self._tell(batch, [error] * len(batch))

    def _tell(self, batch: Sequence[_Waiting[Item, Answer]], answers: Sequence[Any]) -> None:
        if not self._observe or not batch:
            return
        items, _, deadlines = zip(*batch, strict=True)
        try:
            self._observe(items, deadlines, answers)
        except Exception:  # whoever looks on must not stop the batches
            log.exception("a batch was answered, but not observed")


def _fail(future: asyncio.Future[Any], error: Exception) -> None:
    if not future.done():
        told = type(error)(*error.args)
        told.__cause__ = error.__cause__  # by which `health` knows what is for the log alone
        future.set_exception(told)
