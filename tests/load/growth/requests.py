"""Whether a worker's memory stays as it is over millions of requests."""

from typing import Any

from tests.load.bench.contenders import FlashSale
from tests.load.bench.measure import measure

TOTAL = 5_000_000
CONNECTIONS, SECONDS = 256, 10
MOST_RUNS = 60


def measure_growth() -> list[dict[str, Any]]:
    """Return the memory of the largest process of the web server after so many requests."""
    points: list[dict[str, Any]] = []
    with FlashSale() as flashsale:
        measure(flashsale, "winning", CONNECTIONS, 1)
        flashsale.sell_out()
        done = 0
        for _ in range(MOST_RUNS):
            found = measure(flashsale, "sold_out", CONNECTIONS, SECONDS)
            done += round(found.requests_per_second * SECONDS)
            points.append({"requests": done, "worker_mb": found.worker_mb})
            print(f"  {done:9,} requests: {found.worker_mb:.1f} MB", flush=True)
            if done >= TOTAL:
                break
    return points
