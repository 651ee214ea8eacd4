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
                with _audience(flashsale.address, kind, count) as heard:
                    page_bytes = (_memory_bytes(flashsale) - before) / max(1, count)
                    found = measure(flashsale, "winning", CONNECTIONS, SECONDS)
                points.append({"kind": kind, "pages": count, "page_bytes": page_bytes, **heard, **found.as_json()})
                print(
                    f"  {count:5} pages {kind}: {found.requests_per_second:,.0f} purchases/s, p99 {found.p99_ms:.0f}"
                    f" ms, {heard.get('answers', 0):,} answers, longest gap"
                    f" {heard.get('longest_gap_seconds', 0):.2f} s, {page_bytes:,.0f} bytes a page, {found.errors + found.timeouts} errors",
                    flush=True,
                )
    return points


@contextmanager
def _audience(address: str, kind: str, count: int) -> Iterator[dict[str, float]]:
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
