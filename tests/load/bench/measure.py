"""One measurement: wrk against a contender, and what the server and Redis used for it."""

import itertools
import json
import os
import platform
import subprocess
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from tests.load.bench.contenders import PURCHASES, Contender

IDLE_WITHIN_SECONDS = 5
WORK_FILE = Path(__file__).with_name("work.lua")
_prefixes = (f"{number:x}-" for number in itertools.count(1))


@dataclass(frozen=True)
class Measurement:
    """What came of one run. `errors` are answers that this work should not get, and connections that broke."""

    requests_per_second: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    server_us: float
    redis_us: float
    worker_mb: float
    errors: int
    timeouts: int

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def measure(contender: Contender, work: str, connections: int, seconds: int, sales: int = 0) -> Measurement:
    """Load `contender` for so long, and return what came of it. CPU time is per request, in microseconds.

    With `sales` the attempts go to as many sales in turn, which are named sale-0, sale-1, …
    """
    redis_process = psutil.Process(contender.redis_process.pid)
    before = cpu_seconds(contender.processes()), cpu_seconds([redis_process])
    path = contender.purchase_path if work in PURCHASES else contender.paths[work]
    summary = wrk(contender.address + path, work, connections, seconds, sales)
    after = cpu_seconds(contender.processes()), cpu_seconds([redis_process])
    _wait_until_idle(contender)
    requests = max(1, summary["requests"])
    server_seconds, redis_seconds = after[0] - before[0], after[1] - before[1]
    wrong = requests - summary["refused"] if work == "sold_out" else summary["refused"]
    return Measurement(
        requests_per_second=summary["requests"] / summary["seconds"],
        p50_ms=summary["p50_ms"],
        p95_ms=summary["p95_ms"],
        p99_ms=summary["p99_ms"],
        server_us=server_seconds * 1e6 / requests,
        redis_us=redis_seconds * 1e6 / requests,
        worker_mb=max(process.memory_info().rss for process in contender.processes()) / 1e6,
        errors=wrong + summary["broken"],
        timeouts=summary["timeouts"],
    )


def _wait_until_idle(contender: Contender) -> None:
    """Wait until the server has done with what was under way when the load ended: the next run is not to pay for it."""
    deadline = time.monotonic() + IDLE_WITHIN_SECONDS
    while time.monotonic() < deadline:
        before = cpu_seconds(contender.processes())
        time.sleep(0.2)
        if cpu_seconds(contender.processes()) - before < 0.02:
            return


def wrk(url: str, work: str, connections: int, seconds: int, sales: int = 0) -> dict[str, Any]:
    """Load a server for so long, and return wrk's summary. `work` is one of PURCHASES, or anything that is a GET."""
    options = ["-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "5s", "-s", str(WORK_FILE)]
    words = ["buy" if work in PURCHASES else "get", next(_prefixes), str(sales)]
    done = subprocess.run(["wrk", *options, url, *words], capture_output=True, text=True, timeout=seconds + 30)
    assert done.returncode == 0, done.stderr or done.stdout
    return json.loads(done.stdout.strip().splitlines()[-1])


def machine() -> dict[str, Any]:
    """Return what was measured, and when."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


def cpu_seconds(processes: Iterable[psutil.Process]) -> float:
    """Return the seconds of a core that these have used so far."""
    return sum(sum(process.cpu_times()[:2]) for process in processes)
