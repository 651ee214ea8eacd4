"""How many event streams one web worker can hold, each of which is told of every change."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from tests.load.bench.contenders import FlashSale
from tests.load.bench.measure import cpu_seconds
from tests.load.growth.listeners import audience
from tests.load.scaling.web_worker import OneWorker

STREAMS = (0, 1_000, 5_000, 10_000, 15_000)
SECONDS, ROUNDS = 6, 2
PURCHASES_PER_SECOND = 20


def measure_saturation() -> list[dict[str, Any]]:
    """Return, by streams, the share of a core that they take while something is sold all the time."""
    points = []
    for _ in range(ROUNDS):
        for streams in STREAMS:
            with OneWorker() as flashsale, audience(flashsale.address, "listen", streams) as heard, _trade(flashsale):
                before, started = cpu_seconds(flashsale.processes()), time.monotonic()
                time.sleep(SECONDS)
                share = (cpu_seconds(flashsale.processes()) - before) / (time.monotonic() - started)
                memory = sum(process.memory_info().rss for process in flashsale.processes())
            points.append({"streams": streams, "core_share": share, "memory_bytes": memory, **heard})
            _tell(points[-1])
    return points


@contextmanager
def _trade(flashsale: FlashSale) -> Iterator[None]:
    """Buy a few units each second, so that there always is news."""
    is_over = threading.Event()

    def buy() -> None:
        with httpx.Client(base_url=flashsale.address) as client:
            number = 0
            while not is_over.wait(1 / PURCHASES_PER_SECOND):
                number += 1
                client.post(flashsale.purchase_path, json={"userId": f"trade-{number}"}, timeout=10).raise_for_status()

    buyer = threading.Thread(target=buy)
    buyer.start()
    try:
        yield
    finally:
        is_over.set()
        buyer.join()


def _tell(point: dict[str, Any]) -> None:
    heard = (
        f", {point['answers']:,} events, longest gap {point['longest_gap_seconds']:.1f} s" if "answers" in point else ""
    )
    print(f"  {point['streams']:6,} streams: {point['core_share']:.0%} of a core{heard}", flush=True)
