"""The limit of one shopper's attempts: exact to the microsecond, told to the shopper, and not kept for ever."""

import asyncio
from typing import Any, NamedTuple

import pytest
from django.conf import settings as project
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pytest_django import Settings

from flashsale.rates import Rate
from sales import purchases, store
from sales.models import Sale
from sales.purchases import Attempt, Purchase
from sales.ratelimits import Quota

SECOND_US = 1_000_000
# 3, 7 and 97 do not divide their periods; 2,000/s would be 2,000 and one in steps that are cut to microseconds.
RATES = [Rate(1, 10), Rate(3, 10), Rate(7, 1), Rate(10, 10), Rate(97, 10), Rate(2000, 1), Rate(10, 3600)]

# What is written here and decided after it in one transaction is of the same microsecond: Redis's clock stands still.
SET_AHEAD = """
local time = redis.call('TIME')
local arrival_us = time[1] * 1000000 + time[2] + ARGV[1]
redis.call('SET', KEYS[1], string.format('%.0f', arrival_us))
"""


class Decision(NamedTuple):
    is_limited: bool
    wait_ms: int
    attempts_left: int
    seconds: int


class Decided(NamedTuple):
    """What became of a batch: of each attempt, and how far ahead of now the shopper's state is then."""

    decisions: list[Decision]
    ahead_us: int
    state_expires_ms: int


def decide_at_once(sale: Sale, ahead_us: int, attempts: int = 1) -> Decided:
    """Decide attempts of one shopper whose theoretical arrival time is then `ahead_us` ahead."""
    keys, arguments = asyncio.run(_script_call([Attempt(sale.id, "ada", "")] * attempts))
    arguments[arguments.index(store.RUN_ID)] = store.run_id_blocking()
    state = store.key(sale.id, "ratelimit:ada")
    with store.client().pipeline(transaction=True) as transaction:
        transaction.time()
        transaction.eval(SET_AHEAD, 1, state, ahead_us)
        transaction.eval(store.script("purchase").text, len(keys), *keys, *arguments)
        transaction.get(state)
        transaction.pttl(state)
        transaction.time()
        before, _, reply, arrival_us, expires_ms, after = transaction.execute()
    assert before == after, "a transaction is of one moment"
    places = range(0, len(reply), 5)
    decisions = [_decision(*reply[place : place + 5]) for place in places]
    return Decided(decisions, int(arrival_us) - before[0] * SECOND_US - before[1], expires_ms)


async def _script_call(group: list[Attempt]) -> tuple[list[str], list[Any]]:
    return purchases._script_call(group[0].sale_id, group, "")


def _decision(outcome: bytes, _order_id: bytes, number: int, attempts_left: int, seconds: int) -> Decision:
    is_limited = outcome == b"rate_limited"
    return Decision(is_limited, number if is_limited else 0, attempts_left, seconds)


class Shopper:
    """The generic cell rate algorithm as ITU-T I.371 has it (annex A.1, virtual scheduling), in whole microseconds."""

    def __init__(self, rate: Rate, ahead_us: int = 0):
        self.step_us = rate.period_seconds * SECOND_US // rate.limit
        self.tolerance_us = (rate.limit - 1) * self.step_us
        self.ahead_us = ahead_us

    def attempt(self) -> Decision:
        late_us = self.ahead_us - self.tolerance_us
        if late_us > 0:
            return Decision(True, _up(late_us, 1000), 0, _up(late_us, SECOND_US))
        self.ahead_us = max(self.ahead_us, 0) + self.step_us
        left = (self.tolerance_us + self.step_us - self.ahead_us) // self.step_us
        next_us = self.ahead_us - (self.tolerance_us - left * self.step_us)
        return Decision(False, 0, left, _up(next_us, SECOND_US))


def _up(number: int, unit: int) -> int:
    return -(-number // unit)


@pytest.mark.parametrize("rate", RATES, ids=str)
def test_exactly_the_limit_may_come_at_once(open_sale: Sale, settings: Settings, rate: Rate):
    settings.USER_RATE = rate

    decided = decide_at_once(open_sale, ahead_us=0, attempts=rate.limit + 2)

    assert [decision.is_limited for decision in decided.decisions] == [False] * rate.limit + [True] * 2
    left = [decision.attempts_left for decision in decided.decisions]
    assert left == [*reversed(range(rate.limit)), 0, 0]


@pytest.mark.parametrize("rate", RATES, ids=str)
def test_the_edge_is_exact_to_the_microsecond(open_sale: Sale, settings: Settings, rate: Rate):
    settings.USER_RATE = rate
    edge_us = (rate.limit - 1) * (rate.period_seconds * SECOND_US // rate.limit)

    at_the_edge = decide_at_once(open_sale, edge_us)
    beyond = decide_at_once(open_sale, edge_us + 1)

    assert not at_the_edge.decisions[0].is_limited
    assert beyond.decisions == [Decision(is_limited=True, wait_ms=1, attempts_left=0, seconds=1)]
    assert beyond.ahead_us == edge_us + 1, "a refused attempt costs nothing"


@pytest.mark.parametrize("rate", RATES, ids=str)
def test_a_clock_that_was_set_back_limits_nobody(open_sale: Sale, settings: Settings, rate: Rate):
    settings.USER_RATE = rate
    furthest_us = rate.limit * (rate.period_seconds * SECOND_US // rate.limit)

    of_the_limit = decide_at_once(open_sale, furthest_us)
    of_another_hour = decide_at_once(open_sale, 7200 * SECOND_US, attempts=rate.limit + 1)
    just_beyond = decide_at_once(open_sale, furthest_us + 1)

    assert of_the_limit.decisions[0].is_limited
    assert [decision.is_limited for decision in of_another_hour.decisions] == [False] * rate.limit + [True]
    assert of_another_hour.ahead_us == furthest_us
    assert not just_beyond.decisions[0].is_limited


@pytest.mark.parametrize("early_us", [1, 999, 1000, 1001, 333_333, 999_999, 3_333_332])
def test_the_wait_is_exact_to_the_millisecond(open_sale: Sale, settings: Settings, early_us: int):
    settings.USER_RATE = Rate(3, 10)
    ahead_us = 2 * 3_333_333 + early_us

    (refused,) = decide_at_once(open_sale, ahead_us).decisions
    (too_early,) = decide_at_once(open_sale, ahead_us - (refused.wait_ms - 1) * 1000).decisions
    (in_time,) = decide_at_once(open_sale, ahead_us - refused.wait_ms * 1000).decisions

    assert (refused.is_limited, too_early.is_limited, in_time.is_limited) == (True, True, False)


def test_waiting_a_period_restores_the_whole_limit(open_sale: Sale, settings: Settings):
    settings.USER_RATE = Rate(7, 1)
    spent = decide_at_once(open_sale, 0, attempts=7)

    a_period_later = decide_at_once(open_sale, spent.ahead_us - SECOND_US, attempts=8)

    assert [decision.is_limited for decision in a_period_later.decisions] == [False] * 7 + [True]


def test_an_old_state_counts_no_more_than_none(open_sale: Sale, settings: Settings):
    settings.USER_RATE = Rate(3, 10)

    decided = decide_at_once(open_sale, -3600 * SECOND_US, attempts=4)

    assert [decision.is_limited for decision in decided.decisions] == [False] * 3 + [True]


@pytest.mark.parametrize(
    ("ahead_us", "left", "seconds"),
    [
        (0, 2, 4),
        (1, 1, 1),
        (1_000_000, 1, 1),
        (1_000_001, 1, 2),
        (3_333_333, 1, 4),
        (3_333_334, 0, 1),
        (6_666_666, 0, 4),
    ],
)
def test_one_more_comes_when_a_step_is_over(
    open_sale: Sale, settings: Settings, ahead_us: int, left: int, seconds: int
):
    settings.USER_RATE = Rate(3, 10)

    decided = decide_at_once(open_sale, ahead_us)

    assert decided.decisions == [Decision(False, 0, left, seconds)]


@pytest.mark.parametrize("rate", RATES, ids=str)
def test_announced_limits_come_true(open_sale: Sale, settings: Settings, rate: Rate):
    settings.USER_RATE = rate
    spent = decide_at_once(open_sale, 0, attempts=(rate.limit + 1) // 2)
    told = spent.decisions[-1]

    now = decide_at_once(open_sale, spent.ahead_us, attempts=rate.limit)
    then = decide_at_once(open_sale, spent.ahead_us - told.seconds * SECOND_US, attempts=rate.limit)

    assert sum(not decision.is_limited for decision in now.decisions) == told.attempts_left
    assert sum(not decision.is_limited for decision in then.decisions) > told.attempts_left


@pytest.mark.parametrize("ahead_us", [0, 1, 999, 1_000_001, 8_999_999])
def test_a_state_is_kept_as_long_as_it_counts(open_sale: Sale, settings: Settings, ahead_us: int):
    settings.USER_RATE = Rate(10, 10)

    decided = decide_at_once(open_sale, ahead_us)

    assert decided.ahead_us <= decided.state_expires_ms * 1000 < decided.ahead_us + 1000


MOMENTS = st.lists(st.tuples(st.integers(0, 4_000_000), st.integers(1, 12)), min_size=1, max_size=8)


@hypothesis_settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
@given(limit=st.integers(1, 12), period_seconds=st.integers(1, 5), moments=MOMENTS)
def test_any_sequence_of_batches_is_decided_as_the_model_does(
    open_sale: Sale, settings: Settings, limit: int, period_seconds: int, moments: list[tuple[int, int]]
):
    """Each moment is the microseconds that pass, and how many attempts then come in one batch."""
    settings.USER_RATE = Rate(limit, period_seconds)
    shopper = Shopper(settings.USER_RATE)

    for passed_us, attempts in moments:
        shopper.ahead_us -= passed_us
        decided = decide_at_once(open_sale, shopper.ahead_us, attempts)

        assert decided.decisions == [shopper.attempt() for _ in range(attempts)]
        assert decided.ahead_us == shopper.ahead_us


async def test_a_shopper_is_limited_and_others_are_not(open_sale: Sale, settings: Settings):
    settings.USER_RATE = Rate(3, 3000)

    answers = [await purchases.buy(open_sale.id, "ada") for _ in range(4)]
    other = await purchases.buy(open_sale.id, "bob")

    outcomes = [answer.outcome for answer in answers]
    assert outcomes == ["purchased", "already_purchased", "already_purchased", "rate_limited"]
    assert answers[0].quota == Quota("shopper", Rate(3, 3000), 2, 1000)
    assert answers[3].quota is not None
    assert 900 <= answers[3].quota.seconds <= 1000
    assert other.outcome == "purchased"


async def test_the_limit_counts_within_one_batch_and_for_each_shopper(open_sale: Sale, settings: Settings):
    settings.USER_RATE = Rate(2, 3000)
    names = ["ada", "bob", "ada", "ada", "bob", "bob"]

    answers = await purchases._decide([Attempt(open_sale.id, name, "") for name in names])

    limited = [isinstance(answer, Purchase) and answer.outcome == "rate_limited" for answer in answers]
    assert limited == [False, False, False, True, False, True]


async def test_the_limit_lets_a_shopper_in_again_after_its_interval(open_sale: Sale, settings: Settings):
    settings.USER_RATE = Rate(2, 2)
    answers = await purchases._decide([Attempt(open_sale.id, "ada", "")] * 3)  # at one moment
    limited = answers[-1]

    assert isinstance(limited, Purchase)
    assert limited.outcome == "rate_limited"
    assert limited.quota is not None
    await asyncio.sleep(limited.quota.seconds)
    again = await purchases.buy(open_sale.id, "ada")

    assert again.outcome == "already_purchased"


async def test_a_limit_that_is_off_leaves_nothing_in_redis(open_sale: Sale, settings: Settings):
    settings.USER_RATE = None

    purchase = await purchases.buy(open_sale.id, "ada")

    assert not store.client().keys("*ratelimit*")
    assert purchase.quota is None


async def test_limit_state_expires_and_skips_the_append_only_file(open_sale: Sale, settings: Settings):
    settings.USER_RATE = Rate(10, 36_000)
    before = len(append_only_file())

    await purchases.buy(open_sale.id, "ada")

    (key,) = store.client().keys("*ratelimit*")
    written = append_only_file()[before:]
    assert key.decode() == store.key(open_sale.id, "ratelimit:ada")
    assert 0 < store.client().pttl(key) <= 36_000_000
    assert b"HSET" in written
    assert b"ratelimit" not in written


def append_only_file() -> bytes:
    return b"".join(path.read_bytes() for path in sorted((project.VAR_DIR / "redis").rglob("*.incr.aof")))
