"""Group commit: what goes together in one call, and what everybody hears when it fails."""

import asyncio
import time
from collections.abc import Sequence
from math import inf
from typing import Any

import pytest

from sales import store
from sales.batcher import Batcher

pytestmark = pytest.mark.pure


class SlowCall:
    """A call that waits until it is let go, and remembers what it was given."""

    def __init__(self, error: Exception | None = None):
        self.batches: list[list[str]] = []
        self.in_flight = 0
        self.most_in_flight = 0
        self.gate = asyncio.Event()
        self.error = error

    async def __call__(self, items: Sequence[str]) -> list[str]:
        self.batches.append(list(items))
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        await self.gate.wait()
        self.in_flight -= 1
        if self.error:
            raise self.error
        return [item.upper() for item in items]


def by(seconds: float = 60.0) -> float:
    return time.monotonic() + seconds


async def submit(batcher: Batcher[str, str], *items: str, seconds: float = 60.0) -> list[asyncio.Future[str]]:
    answers = [batcher.submit(item, by(seconds)) for item in items]
    await asyncio.sleep(0.01)
    return answers


async def test_a_lone_item_is_sent_at_once():
    call = SlowCall()
    call.gate.set()

    assert await Batcher(call, 10).submit("a", by()) == "A"

    assert call.batches == [["a"]]


async def test_items_that_arrive_during_a_call_share_the_next():
    call = SlowCall()
    batcher = Batcher(call, 10)
    first = await submit(batcher, "a")
    rest = await submit(batcher, "b", "c", "d")

    call.gate.set()
    answers = await asyncio.gather(*first, *rest)

    assert answers == ["A", "B", "C", "D"]
    assert call.batches == [["a"], ["b", "c", "d"]]
    assert call.most_in_flight == 1


async def test_a_batch_is_bounded():
    call = SlowCall()
    call.gate.set()

    await asyncio.gather(*await submit(Batcher(call, 2), "a", "b", "c", "d", "e"))

    assert call.batches == [["a", "b"], ["c", "d"], ["e"]]


@pytest.mark.parametrize("error", [store.Unavailable("refused"), store.Unknown("lost")])
async def test_a_failed_call_fails_its_batch_and_refuses_waiting_items(error: Exception):
    call = SlowCall(error)
    batcher = Batcher(call, 10)
    sent = await submit(batcher, "a")
    waiting = await submit(batcher, "b")

    call.gate.set()
    heard = await asyncio.gather(*sent, *waiting, return_exceptions=True)

    assert [type(answer) for answer in heard] == [type(error), store.Unavailable]
    assert call.batches == [["a"]]


async def test_a_call_that_hangs_is_unknown_in_time(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sales.batcher.SHORTEST_CALL_SECONDS", -inf)  # it is sent, however slow the machine is
    call = SlowCall()

    (answer,) = await submit(Batcher(call, 10), "a", seconds=0.3)

    with pytest.raises(store.Unknown):
        await asyncio.wait_for(answer, timeout=60)


async def test_an_item_without_enough_time_is_refused_and_not_sent():
    call = SlowCall()
    call.gate.set()

    answers = await submit(Batcher(call, 10), "late", seconds=0.1)
    answers += await submit(Batcher(call, 10), "early")
    late, early = await asyncio.gather(*answers, return_exceptions=True)

    assert isinstance(late, store.Unavailable)
    assert early == "EARLY"
    assert call.batches == [["early"]]


async def test_a_defect_fails_its_batch_and_the_next_runs():
    call = SlowCall(ZeroDivisionError())
    call.gate.set()
    batcher = Batcher(call, 10)
    (broken,) = await submit(batcher, "a")
    call.error = None

    (whole,) = await submit(batcher, "b")

    with pytest.raises(ZeroDivisionError):
        await broken
    assert await whole == "B"


async def test_only_the_failed_item_gets_its_failure():
    async def call(items: Sequence[str]) -> list[str | store.Failure]:
        return [store.Unavailable("closed") if item == "b" else item.upper() for item in items]

    batcher = Batcher(call, 10)
    answers = await submit(batcher, "a", "b", "c")

    assert [await answers[0], await answers[2]] == ["A", "C"]
    with pytest.raises(store.Unavailable, match="closed"):
        await answers[1]


async def test_a_caller_that_left_does_not_disturb_the_others():
    call = SlowCall()
    batcher = Batcher(call, 10)
    await submit(batcher, "a")
    gone, stays = await submit(batcher, "b", "c")

    gone.cancel()
    call.gate.set()

    assert await stays == "C"


class Observed:
    """Remembers what it is told of the batches."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str]] = []

    def __call__(self, items: Sequence[str], deadlines: Sequence[float], answers: Sequence[Any]) -> None:
        assert len(items) == len(deadlines) == len(answers)
        self.heard += zip(items, map(repr, answers), strict=True)


async def test_an_observer_hears_of_every_answer():
    async def call(items: Sequence[str]) -> list[str | store.Failure]:
        return [store.Unavailable("closed") if item == "b" else item.upper() for item in items]

    observed = Observed()
    tasks = await submit(Batcher(call, 10, observed), "a", "b", "c")
    tasks += await submit(Batcher(call, 10, observed), "late", seconds=0.1)

    await asyncio.gather(*tasks, return_exceptions=True)

    late = "Unavailable('Redis is too slow to answer in time')"
    assert observed.heard == [("a", "'A'"), ("b", "Unavailable('closed')"), ("c", "'C'"), ("late", late)]


@pytest.mark.parametrize("error", [store.Unknown("lost"), ZeroDivisionError("broken")])
async def test_an_observer_hears_of_every_failure(error: Exception):
    call, observed = SlowCall(error), Observed()
    batcher = Batcher(call, 10, observed)
    sent = await submit(batcher, "a", "b")

    call.gate.set()
    await asyncio.gather(*sent, return_exceptions=True)

    assert ("a", repr(error)) in observed.heard
    assert [item for item, _ in observed.heard] == ["a", "b"]


async def test_an_observer_that_fails_disturbs_nobody(caplog: pytest.LogCaptureFixture):
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    call = SlowCall()
    call.gate.set()

    answers = await asyncio.gather(*await submit(Batcher(call, 1, fail), "a", "b"))

    assert answers == ["A", "B"]
    assert "answered, but not observed" in caplog.text


async def test_a_full_batch_gives_each_group_its_share():
    call = SlowCall()
    batcher = Batcher(call, 4, group=lambda item: item[0])
    first = await submit(batcher, "a0")
    rest = await submit(batcher, "a1", "a2", "a3", "a4", "a5", "b1", "b2", "c1")

    call.gate.set()
    answers = await asyncio.gather(*first, *rest)

    assert answers == ["A0", "A1", "A2", "A3", "A4", "A5", "B1", "B2", "C1"]
    assert call.batches == [["a0"], ["a1", "b1", "c1", "a2"], ["b2", "a3", "a4", "a5"]]


async def test_items_within_one_batch_keep_their_order():
    call = SlowCall()
    batcher = Batcher(call, 4, group=lambda item: item[0])
    first = await submit(batcher, "a0")
    rest = await submit(batcher, "a1", "a2", "b1", "a3")

    call.gate.set()
    await asyncio.gather(*first, *rest)

    assert call.batches == [["a0"], ["a1", "a2", "b1", "a3"]]
