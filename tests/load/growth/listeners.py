"""What open pages cost a sale at work: those that listen to its events, and those that poll."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.faults import programs
from tests.load.bench.contenders import FlashSale
from tests.load.bench.measure import measure

PAGES = (("listen", 0), ("listen", 1_000), ("listen", 5_000), ("poll", 5_000))
CONNECTIONS, SECONDS, ROUNDS = 256, 4, 3


def measure_growth() -> list[dict[str, Any]]:
    """Return the purchases that win while so many pages are open: each purchase is news to all of them."""
    points = []
    with FlashSale() as flashsale:
        measure(flashsale, "winning", CONNECTIONS, 1)  # warm
        for _ in range(ROUNDS):
            for kind, count in PAGES:
                before = _memory_bytes(flashsale)
                with audience(flashsale.address, kind, count) as heard:
                    page_bytes = (_memory_bytes(flashsale) - before) / max(1, count)
                    found = measure(flashsale, "winning", CONNECTIONS, SECONDS)
                points.append({"kind": kind, "pages": count, "page_bytes": page_bytes, **heard, **found.as_json()})
                _tell(points[-1])
    return points


def _tell(point: dict[str, Any]) -> None:
    heard = f"{point['answers']:,} answers, longest gap {point['longest_gap_seconds']:.2f} s" if point["pages"] else ""
    print(
        f"  {point['pages']:5} pages {point['kind']}: {point['requests_per_second']:,.0f} purchases/s, "
        f"p99 {point['p99_ms']:.0f} ms, {point['errors'] + point['timeouts']} errors; {heard}, "
        f"{point['page_bytes']:,.0f} bytes a page",
        flush=True,
    )


@contextmanager
def audience(address: str, kind: str, count: int) -> Iterator[dict[str, float]]:
    """Keep pages open; what they heard is in the dictionary afterwards."""
    heard: dict[str, float] = {}
    if not count:
        yield heard
        return
    command = [sys.executable, "-m", "tests.load.growth.audience", address, kind, str(count)]
    with subprocess.Popen(
        command, cwd=programs.PROJECT_DIR, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as audience:
        assert audience.stdout
        assert audience.stdout.readline() == "ready\n"
        time.sleep(1)
        yield heard
        heard.update(json.loads(audience.communicate()[0]))


def _memory_bytes(flashsale: FlashSale) -> int:
    return sum(process.memory_info().rss for process in flashsale.processes())
