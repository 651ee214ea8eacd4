"""The simulation beside a real rush: the same shoppers press at the same moments."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import psutil

from tests.faults import programs
from tests.load.scaling import redis_core, web_worker
from tests.load.scaling.simulation import Costs, simulate
from tests.load.scaling.web_worker import OneWorker

SHOPPERS, STOCK, SPREAD, ROUNDS = 10_000, 1_000, 0.5, 3
# Half of them press within so many seconds: at leisure, and more than the worker can take.
HALF_WITHIN_SECONDS = (2.0, 0.3, 0.15)
# Requests cost more when each shopper has a connection. wrk tells what, up to where it gets into its own way.
CROWDED = 1000
SHARES = (0.5, 0.95, 0.99, 1.0)
# A Unix socket's, with the wake-up of who waits on it.
BETWEEN_US = 50.0


def costs(results: dict[str, Any], connections: int) -> Costs:
    """Return the costs of a simulation as they were measured, a web worker's with so many connections. Half of what an
    attempt costs it comes before the attempt waits for its batch."""
    redis, web = redis_core.costs(results["redis"]), web_worker.costs(results["web"], connections)
    half_us = web["request_us"] / 2
    return Costs(take_us=half_us, answer_us=half_us, exchange_us=web["exchange_us"], between_us=BETWEEN_US, **redis)


def compare(results: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the waits of real rushes on one worker, and of the simulation that is told when who pressed."""
    points = []
    for number in range(ROUNDS):
        for half_within in HALF_WITHIN_SECONDS:
            told = _rush(half_within, seed=number + 1)
            simulated = simulate(told["pressed"], STOCK, 1, costs(results, CROWDED))
            real = sorted(told["waits"])
            points.append(
                {
                    "half_within_seconds": half_within,
                    "real_ms": [1000 * real[int(share * len(real)) - 1] for share in SHARES],
                    "simulated_ms": [1000 * simulated.wait(share) for share in SHARES],
                    "real": {"sold": told["sold"], "batches": told["batches"]},
                    "simulated": {"sold": simulated.sold, "batches": simulated.batches},
                }
            )
            _tell(points[-1])
    return points


def _rush(half_within_seconds: float, seed: int) -> dict[str, Any]:
    """Return what a crowd tells of a sale on one worker, which has a core, and shares none with Redis and the crowd."""
    with OneWorker() as flashsale:
        flashsale.create_sale("rush", STOCK)
        _share_cores(flashsale)
        words = [flashsale.address, SHOPPERS, half_within_seconds, SPREAD, seed]
        before = web_worker.calls(flashsale)
        done = subprocess.run(
            [sys.executable, "-m", "tests.load.scaling.crowd", *map(str, words)],
            cwd=programs.PROJECT_DIR,
            capture_output=True,
            text=True,
            timeout=120,
            preexec_fn=lambda: os.sched_setaffinity(0, {_cores()[0]}),
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) | {"batches": web_worker.calls(flashsale) - before}


def _share_cores(flashsale: OneWorker) -> None:
    others, worker = _cores()[0], _cores()[-1]
    psutil.Process(flashsale.redis_process.pid).cpu_affinity([others])
    for process in flashsale.processes():
        process.cpu_affinity([worker])


def _cores() -> Sequence[int]:
    return sorted(os.sched_getaffinity(0))


def _tell(point: dict[str, Any]) -> None:
    for kind in ("real", "simulated"):
        waits = ", ".join(f"{wait:.1f}" for wait in point[f"{kind}_ms"])
        print(f"  half within {point['half_within_seconds']} s, {kind}: {waits} ms; {point[kind]}", flush=True)
