"""What happens to the web server, with requests in flight, and to the clock of its machine."""

import os
import signal
import time
import urllib.request
from email.utils import parsedate_to_datetime
from random import Random

from tests.faults.stage import Stage

BOOTED_WITHIN_SECONDS = 60.0


def worker_killed(stage: Stage, rng: Random) -> None:
    for _ in range(rng.randint(1, 2)):
        victim = rng.choice(stage.web_workers())
        os.kill(victim, signal.SIGKILL)
        _wait_for_workers(stage, without=[victim])


def reloaded(stage: Stage, rng: Random) -> None:
    """HUP: new workers take over from the old, who answer what they have."""
    old = stage.web_workers()
    stage.web.send_signal(signal.SIGHUP)
    _wait_for_workers(stage, without=old)


def stopped_and_started(stage: Stage, rng: Random) -> None:
    """TERM: what is in flight is answered, and the next server finds everything in Redis."""
    stage.web.terminate()
    assert stage.web.wait(timeout=BOOTED_WITHIN_SECONDS) == 0, stage.log("web.log")
    stage.start_web()


def clock_wrong(stage: Stage, rng: Random) -> None:
    """The clock of web server and order writer has been wrong all along: nothing may come of it."""
    time.sleep(rng.uniform(0.5, 1))
    with urllib.request.urlopen(f"http://127.0.0.1:{stage.port}/health/live") as response:
        told = parsedate_to_datetime(response.headers["date"]).timestamp()
    assert abs(told - time.time() - stage.plan.app_clock_seconds) < 600, response.headers["date"]


def _wait_for_workers(stage: Stage, without: list[int]) -> None:
    """Wait until there are two workers, and none of those."""
    deadline = time.monotonic() + BOOTED_WITHIN_SECONDS
    while len(workers := stage.web_workers()) != 2 or set(workers) & set(without):
        assert time.monotonic() < deadline, stage.log("web.log")
        time.sleep(0.05)
