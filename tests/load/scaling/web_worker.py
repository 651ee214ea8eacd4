"""What one web worker can do: one core, with Redis and the load on another."""

from collections.abc import Sequence
from statistics import linear_regression, median
from typing import Any

from tests.load.bench.contenders import FlashSale
from tests.load.bench.measure import measure

CONNECTIONS, SECONDS, ROUNDS = (1, 16, 64, 256, 1000), 2, 3
GETS = ("status", "page")


class OneWorker(FlashSale):
    """This project with one web worker."""

    def _environment(self) -> dict[str, str]:
        return super()._environment() | {"WEB_CONCURRENCY": "1", "EVENT_LISTENERS": "100000"}


def measure_saturation() -> list[dict[str, Any]]:
    """Return, by work and connections, the requests a second, the cost of each, and how many went in a batch."""
    points = []
    with OneWorker() as flashsale:
        measure(flashsale, "status", 64, 1)  # warm
        for _ in range(ROUNDS):
            for work in GETS:
                found = measure(flashsale, work, 256, SECONDS)
                points.append({"work": work, "connections": 256, "batch": None, **found.as_json()})
                _tell(points[-1])
            points += _purchases(flashsale, "winning")
        flashsale.sell_out()
        for _ in range(ROUNDS):
            points += _purchases(flashsale, "sold_out")
    return points


def _purchases(flashsale: FlashSale, work: str) -> list[dict[str, Any]]:
    points = []
    for connections in CONNECTIONS:
        before = calls(flashsale)
        found = measure(flashsale, work, connections, SECONDS)
        batch = found.requests_per_second * SECONDS / (calls(flashsale) - before)
        points.append({"work": work, "connections": connections, "batch": batch, **found.as_json()})
        _tell(points[-1])
    return points


def costs(points: Sequence[dict[str, Any]], connections: int) -> dict[str, float]:
    """Return microseconds of the worker's core: `request_us` of each attempt, with so many connections, and
    `exchange_us` of each batch.

    The core's time per attempt is request_us + exchange_us / attempts in its batch: least squares tell what an exchange
    costs, by the runs with few connections, because requests cost more with many.
    """
    found = [point for point in points if point["batch"] and point["connections"] <= 256]
    exchange_us, _ = linear_regression([1 / point["batch"] for point in found], [point["server_us"] for point in found])
    crowded = [point for point in points if point["batch"] and point["connections"] == connections]
    request_us = median(point["server_us"] - exchange_us / point["batch"] for point in crowded)
    return {"request_us": request_us, "exchange_us": exchange_us}


def calls(flashsale: FlashSale) -> int:
    """Return how many scripts Redis has run; all but a few a second were batches."""
    return flashsale.redis.info("commandstats")["cmdstat_evalsha"]["calls"]


def _tell(point: dict[str, Any]) -> None:
    batch = f", {point['batch']:.0f} in a batch" if point["batch"] else ""
    print(
        f"  {point['work']:8} {point['connections']:5} connections: {point['requests_per_second']:7,.0f}/s, "
        f"{point['server_us']:5.1f} us of the worker{batch}",
        flush=True,
    )
