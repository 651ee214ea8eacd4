"""What a crowd takes: `python -m tests.load.scaling.plans SHOPPERS STOCK`, or `make plan SHOPPERS=… STOCK=…`.

A plan is the fewest sales and web cores with which the simulated rush fills none of them, answers all but one in a
hundred within a second, and tells nobody to ask again. What it costs is arithmetic with list prices.
"""

import json
import math
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.load import project
from tests.load.points import middle
from tests.load.scaling import DOCUMENT, GROWTH, machines

if TYPE_CHECKING:  # they need Django's settings
    from tests.load.scaling.simulation import Costs, Rush

# When shoppers press: half of them within two seconds of the start, 95 % within ten.
HALF_WITHIN_SECONDS, SPREAD = 2.0, 1.0
ANSWERED_WITHIN_SECONDS = 1.0
# In one data centre, from a web worker to Redis, one way; and a disk of the cloud that syncs.
BETWEEN_US, SYNC_US = 250.0, 1_000.0
# nginx has so many connections to a web worker, however many shoppers have one to it.
PROXIED = 64
# What is planned for does not fill a core in the busiest moment: something is left for what nobody thought of.
FULL = 0.7
# How many shoppers, units and web cores fill the Redis core of a single sale.
FULL_SALE = (300_000, 15_000, 8)
CROWDS = ((10_000, 1_000), (1_000_000, 50_000), (100_000_000, 1_000_000))
# Larger ones take the simulation hours.
LARGEST_SIMULATED = 1_000_000

# A shopper opens the page ten minutes before the start, and closes it a minute after: requests that copies answer. It
# asks rarely at first, after a tenth of the time that is left, and every two seconds at the end.
FILES, POLLS, POLL_SECONDS = 13, 74, 2
# A browser's request with its headers, and 10 % for TLS, TCP and IP.
REQUEST_BYTES, OVERHEAD = 700, 1.1
# CloudFront takes $0.085 for a GB (of the first 10 TB) and $0.01 for 10,000 requests.
GIGABYTE, REQUEST = 0.085, 0.01 / 10_000


class Plan(NamedTuple):
    """What a crowd takes, and what it gets. Each of the `sales` has its part of stock and shoppers, and a Redis core.

    `attempts_per_second` and what ends in `_cores` are those of the busiest moment; `handshake_cores` would be nginx's
    if each shopper opened a connection to press. `fullest_web` and `fullest_redis` are the shares that the simulated
    rush fills of those cores, `together` is what all of it fills, in cores. `one_sale` tells of the same web cores with
    one sale for everybody.
    """

    shoppers: int
    stock: int
    attempts_per_second: float
    sales: int
    web_cores: int
    fullest_web: float
    fullest_redis: float
    proxy_cores: int
    handshake_cores: int
    p50_ms: float
    p99_ms: float
    sold_out_seconds: float | None
    one_sale: dict[str, Any] | None
    copies_per_second: float
    origin_gigabits: float
    edge_gigabytes: float
    orders_seconds: float
    redis_megabytes: float
    machines: dict[str, int]
    together: dict[str, float]
    machine_dollars: float
    edge_dollars: float
    polls_dollars: float


def make(results: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the plans for the crowds of docs/scaling.md."""
    plans = [plan_for(shoppers, stock, results) for shoppers, stock in CROWDS]
    for plan in plans:
        print(f"  {plan}", flush=True)
    return [plan._asdict() for plan in plans]


def plan_for(shoppers: int, stock: int, results: dict[str, Any]) -> Plan:
    """Return the plan for a crowd, from costs that were measured."""
    sales, workers, rush = _smallest(shoppers, stock, costs_in_the_cloud(results))
    part: dict[str, Any] = {
        "shoppers": shoppers,
        "stock": stock,
        "attempts_per_second": shoppers * largest_density(),
        "sales": sales,
        "web_cores": workers * sales,
        "fullest_web": rush.fullest_web,
        "fullest_redis": rush.fullest_redis,
    }
    one_sale = None
    if sales > 1 and shoppers <= LARGEST_SIMULATED:
        one_sale = _one_sale(shoppers, stock, workers * sales, results)
    return Plan(
        **part,
        p50_ms=rush.wait(0.5) * 1000,
        p99_ms=rush.wait(0.99) * 1000,
        sold_out_seconds=rush.sold_out_at,
        one_sale=one_sale,
        **_around(part, results),
    )


def fill_one_sale(results: dict[str, Any]) -> dict[str, Any]:
    """Return what comes of a crowd that fills the Redis core of one sale in the busiest moment."""
    found = _one_sale(*FULL_SALE, results)
    print(f"  {found}", flush=True)
    return found


def costs_in_the_cloud(results: dict[str, Any]) -> "Costs":
    """Return what was measured, with nginx's connections, a network, and a disk that is further away."""
    from tests.load.scaling.rush import costs

    return costs(results, PROXIED)._replace(between_us=BETWEEN_US, sync_us=SYNC_US)


def _smallest(shoppers: int, stock: int, costs: "Costs") -> tuple[int, int, "Rush"]:
    """Return the fewest sales, to a tenth, and web cores of each with which the rush fills no core, and that rush.

    The simulation tells what fills them, because batches depend on all of it: more web cores make smaller ones, whose
    price is paid more often, also by Redis.
    """
    from tests.load.scaling.simulation import presses, simulate

    peak = shoppers * largest_density()
    sales = _cores(peak, costs.refusal_us)
    while True:
        pressed = presses(shoppers // sales, HALF_WITHIN_SECONDS, SPREAD, seed=1)
        workers = _cores(peak / sales, costs.take_us + costs.answer_us)
        while True:
            rush = simulate(pressed, stock // sales, workers, costs)
            if rush.fullest_redis > FULL or rush.fullest_web <= FULL:
                break
            workers += 1
        in_time = rush.wait(0.99) <= ANSWERED_WITHIN_SECONDS and not rush.unavailable + rush.unknown
        if rush.fullest_redis <= FULL and in_time:
            return sales, workers, rush
        sales += math.ceil(sales / 10)


def _one_sale(shoppers: int, stock: int, web_cores: int, results: dict[str, Any]) -> dict[str, Any]:
    from tests.load.scaling.simulation import presses, simulate

    pressed = presses(shoppers, HALF_WITHIN_SECONDS, SPREAD, seed=1)
    rush = simulate(pressed, stock, web_cores, costs_in_the_cloud(results))
    return {
        "shoppers": shoppers,
        "fullest_redis": rush.fullest_redis,
        "p50_ms": rush.wait(0.5) * 1e3,
        "p99_ms": rush.wait(0.99) * 1e3,
        "asked_again": (rush.unavailable + rush.unknown) / shoppers,
        "sold_out_seconds": rush.sold_out_at,
    }


def _around(part: dict[str, Any], results: dict[str, Any]) -> dict[str, Any]:
    """Return what comes with a plan's web servers and Redis: proxies, network, copies, SQL, memory, money."""
    shoppers, stock, peak = part["shoppers"], part["stock"], part["attempts_per_second"]
    sizes, growth = results["sizes"], json.loads(GROWTH.read_text())
    nginx_us = {work: middle(results["edge"], "nginx_us", work=work) for work in ("winning", "handshake", "status")}
    proxy_cores, copies_per_second = _cores(peak, nginx_us["winning"]), shoppers / POLL_SECONDS
    requests, polls = shoppers * (1 + FILES + POLLS + 1), shoppers * POLLS
    poll_bytes = polls * OVERHEAD * sizes["status"]
    edge_bytes = shoppers * OVERHEAD * sum((sizes["page"], sizes["files"], sizes["purchase"])) + poll_bytes
    claim_bytes, key_bytes = growth["purchases"]["claim_bytes"], growth["purchases"]["key_bytes"]
    proxied = (peak * nginx_us["winning"] + copies_per_second * nginx_us["status"]) / 1e6
    used = part["web_cores"] * part["fullest_web"] + part["sales"] * part["fullest_redis"] + proxied
    rented = machines.rent(part["web_cores"], proxy_cores, part["sales"], used, FULL)
    return {
        "proxy_cores": proxy_cores,
        "handshake_cores": _cores(peak, nginx_us["handshake"]),
        "copies_per_second": copies_per_second,
        "origin_gigabits": peak * (REQUEST_BYTES + sizes["purchase"]) * OVERHEAD * 8 / 1e9,
        "edge_gigabytes": edge_bytes / 1e9,
        "orders_seconds": stock / middle(results["orders"]["points"], "rows_per_second"),
        "redis_megabytes": stock * (claim_bytes + key_bytes) / 1e6,
        "machines": rented,
        "together": {"used_cores": used, "handshakes": peak * nginx_us["handshake"] / 1e6},
        "machine_dollars": machines.dollars(rented),
        "edge_dollars": _edge_dollars(requests, edge_bytes),
        "polls_dollars": _edge_dollars(polls, poll_bytes),
    }


def _edge_dollars(requests: float, size: float) -> float:
    return requests * REQUEST + size / 1e9 * GIGABYTE


def largest_density() -> float:
    """Return the share of the shoppers that presses in a second, at the moment when most do: of a log-normal time."""
    return math.exp(SPREAD**2 / 2) / (HALF_WITHIN_SECONDS * SPREAD * math.sqrt(2 * math.pi))


def _cores(per_second: float, microseconds: float) -> int:
    """Return how many cores do something so often that takes so long, and are not full."""
    return math.ceil(per_second * microseconds / 1e6 / FULL)


def main(words: list[str]) -> None:
    if len(words) != 2 or not all(word.isdecimal() and int(word) > 0 for word in words):
        sys.exit("usage: make plan SHOPPERS=250000 STOCK=5000; both are whole numbers above 0")
    project.prepare()
    from tests.load.scaling.words import plan_table

    results = json.loads(DOCUMENT.with_suffix(".json").read_text())
    print(plan_table([plan_for(int(words[0]), int(words[1]), results)._asdict()]))


if __name__ == "__main__":
    main(sys.argv[1:])
