"""The simulation behind docs/scaling.md: what is known without it must come out of it."""

import random

import pytest

from sales.purchases import LARGEST_BATCH
from tests.load.scaling.cores import MOMENT_SECONDS, Core
from tests.load.scaling.simulation import Costs, presses, simulate

COSTS = Costs(
    take_us=20, answer_us=10, exchange_us=50, call_us=30, refusal_us=5, purchase_us=10, sync_us=500, between_us=100
)
FREE = Costs(*[0.0] * len(Costs._fields))


@pytest.mark.pure
def test_a_lone_shopper_waits_for_each_step_once():
    rush = simulate([1.0], stock=1, workers=3, costs=COSTS)

    steps = 20 + 50 + 100 + 30 + 10 + 500 + 100 + 10
    assert rush.waits == [pytest.approx(steps / 1e6)]
    assert (rush.sold, rush.batches, rush.unavailable, rush.unknown) == (1, 1, 0, 0)


@pytest.mark.pure
def test_everybody_is_answered_and_every_unit_is_sold_once():
    rush = simulate(presses(20_000, half_within_seconds=1, spread=0.8, seed=3), stock=700, workers=4, costs=COSTS)

    assert len(rush.waits) == rush.decisions == 20_000
    assert rush.sold == 700


def test_queues_are_as_long_as_theory_says():
    # M/D/1: Poisson arrivals, one server, the same time for each. The mean wait is load * service / (2 * (1 - load)):
    # Pollaczek and Khinchine's formula (Kleinrock, "Queueing Systems", volume 1, 1975).
    service, load, rng = 100e-6, 0.8, random.Random(5)
    pressed, at = [], 0.0
    for _ in range(80_000):
        at += rng.expovariate(load / service)
        pressed.append(at)

    rush = simulate(pressed, stock=0, workers=1, costs=FREE._replace(answer_us=service * 1e6))

    queued = sum(rush.waits) / len(rush.waits) - service
    assert queued == pytest.approx(load * service / (2 * (1 - load)), rel=0.05)


@pytest.mark.pure
def test_redis_decides_as_fast_as_its_costs_let_it():
    # All at once, at workers that cost nothing: full batches, and Redis never waits.
    rush = simulate([0.0] * 50_000, stock=0, workers=10, costs=FREE._replace(call_us=40, refusal_us=5))

    batches = 50_000 / LARGEST_BATCH
    assert rush.last_answer_at == pytest.approx((batches * 40 + 50_000 * 5) / 1e6, rel=0.02)
    assert rush.redis_busy == pytest.approx(1, abs=0.01)


@pytest.mark.pure
def test_calls_that_come_together_share_one_sync():
    shoppers = [0.0, *[0.0001] * 60]

    rush = simulate(shoppers, stock=100, workers=20, costs=FREE._replace(sync_us=500))

    # The first one's sync, and one for all who come meanwhile, from whichever worker.
    assert rush.last_answer_at == pytest.approx(0.001)


@pytest.mark.pure
def test_attempts_too_late_for_redis_are_repeated():
    slow = COSTS._replace(refusal_us=1_000)

    rush = simulate(presses(5_000, half_within_seconds=0.5, spread=0.5, seed=1), stock=10, workers=4, costs=slow)

    assert rush.unavailable + rush.unknown > 0
    assert len(rush.waits) == 5_000
    assert rush.sold == 10
    assert rush.wait(0.99) > 1


@pytest.mark.pure
def test_a_lost_answer_does_not_make_two_purchases():
    slow = COSTS._replace(sync_us=1_500_000)

    rush = simulate(presses(50, half_within_seconds=0.1, spread=0.5, seed=1), stock=20, workers=2, costs=slow)

    assert rush.unknown > 0
    assert rush.sold == 20
    assert len(rush.waits) == 50


@pytest.mark.pure
def test_half_of_the_shoppers_press_in_the_given_time():
    pressed = presses(10_000, half_within_seconds=2, spread=0.8, seed=1)

    assert pressed == sorted(pressed)
    assert pressed[5_000] == pytest.approx(2, rel=0.05)
    assert pressed == presses(10_000, half_within_seconds=2, spread=0.8, seed=1)


@pytest.mark.pure
def test_a_core_is_as_full_as_its_busiest_moment():
    core = Core()

    core.work(0, 0.3 * MOMENT_SECONDS)
    core.work(1.8 * MOMENT_SECONDS, 0.6 * MOMENT_SECONDS)  # 0.2 of it in one moment, 0.4 in the next
    done = core.work(0, 0.1 * MOMENT_SECONDS)

    assert done == pytest.approx(2.5 * MOMENT_SECONDS)
    assert core.fullest() == pytest.approx(0.5)


@pytest.mark.pure
def test_a_core_waiting_for_the_disk_is_not_full():
    core = Core()

    core.work(0, 0.1 * MOMENT_SECONDS)
    core.wait(0.8 * MOMENT_SECONDS)
    core.work(0, 0.3 * MOMENT_SECONDS)

    assert core.free_at == pytest.approx(1.2 * MOMENT_SECONDS)
    assert core.fullest() == pytest.approx(0.2)


@pytest.mark.pure
def test_cores_are_filled_by_the_batches_that_arise():
    # One after the other, so that each attempt is a batch of its own: 100 of them in a moment.
    pressed = [number * MOMENT_SECONDS / 100 for number in range(1_000)]
    costs = FREE._replace(take_us=30, answer_us=20, exchange_us=200, call_us=40, refusal_us=10)

    rush = simulate(pressed, stock=0, workers=1, costs=costs)

    assert rush.batches == 1_000
    assert rush.fullest_web == pytest.approx(100 * 250e-6 / MOMENT_SECONDS, rel=0.02)
    assert rush.fullest_redis == pytest.approx(100 * 50e-6 / MOMENT_SECONDS, rel=0.02)
