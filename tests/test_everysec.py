"""A control: `appendfsync everysec` on a slow disk loses acknowledged purchases when Redis is killed; ours does not.

It shows that the checks of the fault tests see a loss, and why the stronger setting is worth its price.
"""

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from flashsale import embedded_redis
from sales import store
from tests import parts

pytestmark = pytest.mark.long

# While one fsync is under way in the background, everysec puts off write(2) for up to two seconds. It is slow once told
# to be: a Redis that starts waits for each.
SLOW_FDATASYNC = """
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>
int fdatasync(int fd) {
    if (access(getenv("SLOW_WHEN"), F_OK) == 0) usleep(atoi(getenv("SLOW_MS")) * 1000);
    return syscall(SYS_fdatasync, fd);
}
"""

SALE = 1
NAMES = ("config", "stock", "purchases", "keys", "orders", "barred", "invited", "invited_list")
KEYS = [store.key(SALE, name) for name in NAMES]

SOME = 50
BEHIND_WITHIN_SECONDS = 30


@pytest.fixture(scope="module")
def slow_disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a library that slows the fdatasync of the process that it is preloaded into."""
    parts.need("gcc")
    directory = tmp_path_factory.mktemp("slow")
    (directory / "slow.c").write_text(SLOW_FDATASYNC)
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", "slow.so", "slow.c"], cwd=directory, check=True)
    return directory / "slow.so"


@pytest.fixture
def start(slow_disk: Path, tmp_path: Path) -> Iterator[Callable[..., tuple[subprocess.Popen[bytes], redis.Redis]]]:
    """Start a Redis with that appendfsync and that slow a disk; none outlives the test."""
    started: list[subprocess.Popen[bytes]] = []

    def start_it(appendfsync: str, slow_ms: int) -> tuple[subprocess.Popen[bytes], redis.Redis]:
        command = [*embedded_redis.command(tmp_path), "--appendfsync", appendfsync]
        is_slow = tmp_path / "slow"
        is_slow.unlink(missing_ok=True)
        slowness = {"SLOW_WHEN": str(is_slow), "SLOW_MS": str(slow_ms)}
        environment = {**os.environ, "LD_PRELOAD": str(slow_disk), **slowness}
        process = subprocess.Popen(command, env=environment)
        started.append(process)
        client = redis.Redis(unix_socket_path=str(embedded_redis.socket_path(tmp_path)))
        while True:
            try:
                client.ping()
                is_slow.touch()
                return process, client
            except redis.RedisError:
                time.sleep(0.02)

    yield start_it
    for process in started:
        process.kill()
        process.wait()


def acknowledged_until_killed(
    process: subprocess.Popen[bytes], client: redis.Redis, *, until_behind: bool
) -> set[bytes]:
    """Buy one after the other with the real script, kill the server, and return who had been told `purchased`.

    It is killed once some have bought; with `until_behind`, not before some of that is not even written.
    """
    run_id = client.info("server")["run_id"]
    config: dict[Any, Any] = {"starts_ms": 0, "ends_ms": 2**53, "paused": 0, "published": 1, "run_id": run_id}
    client.hset(KEYS[0], mapping=config)
    client.set(KEYS[1], 10**9)
    buy = client.register_script(store.script("purchase").text)
    acknowledged: set[bytes] = set()
    deadline = time.monotonic() + BEHIND_WITHIN_SECONDS
    while len(acknowledged) < SOME or (until_behind and not client.info("persistence")["aof_buffer_length"]):
        assert time.monotonic() < deadline, "nothing is put off"
        user_id = f"shopper-{len(acknowledged)}"
        assert buy(keys=KEYS, args=[run_id, "", 0, 0, user_id, ""])[0] == b"purchased"
        acknowledged.add(user_id.encode())
    process.kill()
    process.wait()
    return acknowledged


@pytest.mark.parametrize(
    ("appendfsync", "slow_ms", "loses"), [("everysec", 5000, True), ("always", 20, False)], ids=["everysec", "always"]
)
def test_a_killed_redis_loses_purchases_only_with_everysec(
    start: Callable[..., tuple[subprocess.Popen[bytes], redis.Redis]], appendfsync: str, slow_ms: int, loses: bool
):
    acknowledged = acknowledged_until_killed(*start(appendfsync, slow_ms), until_behind=loses)

    process, client = start("always", 0)
    lost = acknowledged - set(client.hkeys(KEYS[2]))
    process.kill()
    process.wait()

    print(f"{appendfsync}: {len(lost)} of {len(acknowledged)} acknowledged purchases were lost")
    assert bool(lost) is loses
