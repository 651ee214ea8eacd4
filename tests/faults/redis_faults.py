"""What happens to Redis and to the way there."""

import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

from tests.faults.stage import Stage

SOLD_WITHIN_SECONDS = 30.0


def killed(stage: Stage, rng: Random) -> None:
    for _ in range(rng.randint(1, 3)):
        stage.kill_redis()
        time.sleep(rng.uniform(0, 0.6))
        stage.start_redis()
        time.sleep(rng.uniform(0, 0.6))
    if not stage.has_shown():
        stage.kill_redis()
        stage.wait_until_shown()
        stage.start_redis()


def stopped_for(seconds: float) -> Callable[[Stage, Random], None]:
    def stopped(stage: Stage, rng: Random) -> None:
        stage.redis_process.send_signal(signal.SIGSTOP)
        try:
            time.sleep(seconds)
            stage.wait_until_shown()
        finally:
            stage.redis_process.send_signal(signal.SIGCONT)

    return stopped


def answers_lost(stage: Stage, rng: Random) -> None:
    """The script has run, and its reply does not arrive, or the connection ends in its stead."""
    assert stage.proxy
    for answers in rng.sample(["lost"] * 2 + ["cut"] * 6, 8):
        stage.proxy.answers = answers
        time.sleep(rng.uniform(0.02, 0.2))
        stage.proxy.answers = "passed"
        time.sleep(rng.uniform(0.1, 0.4))
    if not stage.has_shown():
        stage.proxy.answers = "cut"
        stage.wait_until_shown()
        stage.proxy.answers = "passed"


def connection_refused(stage: Stage, rng: Random) -> None:
    assert stage.proxy
    stage.proxy.close()
    time.sleep(rng.uniform(0.3, 1.2))
    stage.wait_until_shown()
    stage.proxy.open_again()


def disk_full(stage: Stage, rng: Random) -> None:
    """Redis ends when it cannot write what it is to answer, and is started again, as `make run` does."""
    ballast, deadline = stage.redis_dir / "ballast", time.monotonic() + rng.uniform(1, 2)
    leave_bytes = rng.randrange(2_000)
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(64 * 1024))
        except OSError:
            file.truncate(file.tell() // 4096 * 4096 - leave_bytes)
    while time.monotonic() < deadline or not stage.has_shown():
        if stage.redis_process.poll() is not None:
            stage.start_redis(wait=False)
        time.sleep(0.1)
    ballast.unlink()
    stage.kill_redis()
    stage.start_redis()


def memory_full(stage: Stage, rng: Random) -> None:
    stage.redis.config_set("maxmemory", 1_000_000)
    time.sleep(rng.uniform(0.3, 1.2))
    stage.wait_until_shown()
    stage.redis.config_set("maxmemory", 0)


def scripts_flushed(stage: Stage, rng: Random) -> None:
    for _ in range(rng.randint(5, 30)):
        stage.redis.script_flush("ASYNC" if rng.random() < 0.5 else "SYNC")
        time.sleep(rng.uniform(0, 0.05))


def wiped(stage: Stage, rng: Random) -> None:
    stage.redis.flushall()
    stage.data_lost_at = time.monotonic()


def replaced_by_older_copy(stage: Stage, rng: Random) -> None:
    copy, bought = stage.var_dir / "older", stage.key("purchases")
    shutil.copytree(stage.redis_dir, copy)
    copied, deadline = stage.redis.hlen(bought), time.monotonic() + SOLD_WITHIN_SECONDS
    while stage.redis.hlen(bought) < copied + 4 and stage.units_left() and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(rng.uniform(0.1, 1))
    stage.kill_redis()
    stage.wait_until_shown()
    shutil.rmtree(stage.redis_dir)
    copy.rename(stage.redis_dir)
    stage.data_lost_at = time.monotonic()
    stage.start_redis()


def file_cut(stage: Stage, rng: Random) -> None:
    """The end of the append-only file is gone, up to 4 KB of it; at times the order writer stood still before."""
    if is_behind := rng.random() < 0.5:
        stage.writers[0].send_signal(signal.SIGSTOP)
        time.sleep(rng.uniform(0, 0.3))
    stage.kill_redis()
    stage.wait_until_shown()
    path = newest_file(stage.redis_dir)
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.truncate(max(0, size - rng.randrange(4096)))
    stage.data_lost_at = time.monotonic()
    stage.start_redis()
    if is_behind:
        time.sleep(rng.uniform(0, 0.5))
        stage.writers[0].send_signal(signal.SIGCONT)


def newest_file(redis_dir: Path) -> Path:
    """Return the append-only file that Redis writes to."""
    return max((redis_dir / "appendonlydir").glob("*.incr.aof"), key=lambda path: int(path.name.split(".")[-3]))


def clock_back(stage: Stage, rng: Random) -> None:
    stage.shift_redis_clock(-10)
    deadline = time.monotonic() + 60
    while stage.redis.time()[0] > time.time() - 9:
        assert time.monotonic() < deadline, "Redis's clock was not shifted"
        time.sleep(0.05)
