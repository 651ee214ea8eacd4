"""The figures that docs/scaling.md and README.md say in words: what they must say, by the data."""

import math
from collections.abc import Sequence
from statistics import NormalDist, median
from typing import Any

from sales.batcher import SHORTEST_CALL_SECONDS
from sales.events import LARGEST_SHARE
from sales.purchases import ANSWER_WITHIN_SECONDS, LARGEST_BATCH
from tests.load.points import middle
from tests.load.scaling import machines, plans, redis_core, rush

# What a waiting room lets in. No more than the middle plan is for.
LET_IN_PER_SECOND = 200_000


def of_the_guide(results: dict[str, Any]) -> list[str]:
    """Return the phrases of docs/scaling.md that have figures in them."""
    small, middling, large = results["plans"]
    return [
        *_of_saturation(results),
        *_of_the_rush(results["rush"]),
        *_of_the_rules(middling),
        f"reckoned for one order writer and {results['orders']['sql']}, by the table above",
        *_of_the_small_plan(small),
        *_of_the_middling_plan(middling),
        *_of_the_large_plan(large),
    ]


def of_the_readme(results: dict[str, Any]) -> list[str]:
    small, middling, large = (shoppers for shoppers, _ in plans.CROWDS)
    refused, sold = (f"{round(_full(results, work), -4):,.0f}" for work in ("sold_out", "winning"))
    return [
        f"One Redis core refuses {refused} attempts a second and sells {sold}, every one on disk, when web servers "
        "give it full batches.",
        f"In the simulation it fills when some {results['full_sale']['shoppers']:,} shoppers press together.",
        f"plans for {small:,}, {middling:,} and {large:,} of them",
    ]


def _of_saturation(results: dict[str, Any]) -> list[str]:
    full, one = results["full_sale"], {"clients": 1, "size": 1}
    refusals, purchases = (
        _full(results, work) / middle(results["web"], "requests_per_second", work=work, connections=rush.CROWDED)
        for work in ("sold_out", "winning")
    )
    alone = middle(results["redis"], "decisions_per_second", work="sold_out", sync="always", **one)
    return [
        f"full batches over {redis_core.CLIENTS} connections",
        f"when {full['shoppers']:,} shoppers press within the same few seconds: the core is "
        f"{_percent(full['fullest_redis'])} full in the busiest moment, and 99 of 100 are answered within "
        f"{full['p99_ms']:.0f} ms",
        f"One by one, a core of Redis decides {_percent(alone / _full(results, 'sold_out'))} of that",
        f"one master serves {refusals:.1f} of them when they refuse, {purchases:.1f} when they sell",
        f"at most {_percent(LARGEST_SHARE)} of its core",
    ]


def _full(results: dict[str, Any], work: str) -> float:
    """Return how many attempts a second one core of Redis decides, in full batches."""
    largest = {"clients": redis_core.CLIENTS, "size": redis_core.SIZES[-1]}
    return middle(results["redis"], "decisions_per_second", work=work, sync="always", **largest)


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _of_the_rush(points: Sequence[dict[str, Any]]) -> list[str]:
    def wait(kind: str, half_within: float, place: int) -> float:
        found = [point for point in points if point["half_within_seconds"] == half_within]
        return median(point[f"{kind}_ms"][place] for point in found)

    leisure, *hasty = rush.HALF_WITHIN_SECONDS
    half, simulated_half, last, simulated_last = (
        wait(kind, leisure, place) for place in (0, 2) for kind in ("real", "simulated")
    )
    places = [(within, place) for within in hasty for place in range(len(rush.SHARES))]
    less = [1 - wait("simulated", *place) / wait("real", *place) for place in places]
    return [
        f"{rush.SHOPPERS:,} shoppers with a connection each, {rush.STOCK:,} units, one web worker",
        f"At leisure half of all wait {half:.1f} ms, {simulated_half:.1f} simulated; one in a hundred waits "
        f"{last:.1f} ms and more, {simulated_last:.1f} simulated",
        f"the simulation says {_percent(min(less))} to {_percent(max(less))} less",
        f"an attempt's price among {rush.CROWDED:,} busy connections; the first request of "
        f"{rush.SHOPPERS:,} fresh ones",
    ]


def _of_the_rules(middling: dict[str, Any]) -> list[str]:
    nearly_all_seconds = plans.HALF_WITHIN_SECONDS * math.exp(plans.SPREAD * NormalDist().inv_cdf(0.95))
    under_way = middling["attempts_per_second"] / middling["web_cores"] * middling["p50_ms"] / 1e3  # Little's law
    return [
        f"batches of at most {LARGEST_BATCH}",
        f"what cannot be decided in {ANSWER_WITHIN_SECONDS} s is refused",
        f"refuses what has less than {SHORTEST_CALL_SECONDS} s left",
        f"half of them within {plans.HALF_WITHIN_SECONDS:.0f} seconds, 95 % within {nearly_all_seconds:.0f}",
        f"The busiest moment then has {_percent(plans.largest_density())} of all attempts in a second",
        f"Plans reckon with the price at {plans.PROXIED} connections",
        f"{under_way:.0f} attempts are under way in a worker of the plan for {middling['shoppers']:,} shoppers",
        f"directly, with the one at {rush.CROWDED:,}",
        f"{plans.BETWEEN_US / 1e3} ms apart, and a disk of the cloud syncs in {plans.SYNC_US / 1e3:.0f} ms",
        f"No core is filled beyond {_percent(plans.FULL)} in any tenth of a second",
        f"two cores for ${machines.MACHINE_HOUR} an hour",
        f"${plans.GIGABYTE} a gigabyte and ${plans.REQUEST * 10_000:.2f} for 10,000 requests",
        f"polls {plans.POLLS} times",
    ]


def _of_the_small_plan(plan: dict[str, Any]) -> list[str]:
    used, handshakes = (plan["together"][part] / machines.CORES for part in ("used_cores", "handshakes"))
    return [
        f"web servers, Redis and nginx, with its copies, fill {_percent(used)} of it in the busiest moment; "
        f"{_percent(used + handshakes)} if every shopper connects in order to press",
    ]


def _of_the_middling_plan(plan: dict[str, Any]) -> list[str]:
    alone, sales = plan["one_sale"], plan["sales"]
    return [
        f"handshakes alone fill {plan['handshake_cores']:,} cores",
        f"{_percent(alone['asked_again'])} of the shoppers are told to ask again",
        f"Stock of {plan['stock']:,} is gone in {alone['sold_out_seconds']:.1f} s",
        f"*Divide the sale:* {sales} sales on the {sales} masters of a cluster",
        f"{plan['web_cores']} web cores are {plan['machines']['web']} machines",
        f"has written all orders {plan['orders_seconds']:.0f} seconds after the first unit is sold",
    ]


def _of_the_large_plan(plan: dict[str, Any]) -> list[str]:
    minutes = plan["shoppers"] / LET_IN_PER_SECOND / 60
    return [
        f"at {plan['origin_gigabits']:.0f} Gbit/s of purchases",
        f"{plan['sales']} masters, each with its own stock, are {plan['sales']} sales",
        f"one in {plan['shoppers'] // plan['stock']} gets a unit",
        f"lets in {LET_IN_PER_SECOND:,} shoppers a second turns this crowd into a smaller one than that above, "
        f"{minutes:.0f} minutes long",
        f"{_percent(plan['polls_dollars'] / plan['edge_dollars'])} of the CDN's bill are polls",
    ]
