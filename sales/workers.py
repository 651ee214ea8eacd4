"""Which web workers are alive: each tells Redis so once a second."""

import os
import socket
from typing import Any, NamedTuple

from django.conf import settings

from sales import store

# A worker that was not heard of in this time is not alive.
ALIVE_MS = 3_000
# A machine of which nothing was heard in this time is not expected any more.
FORGET_AFTER_MS = 60_000


class Workers(NamedTuple):
    """How many web workers are alive, and how many there should be."""

    alive: int
    expected: int


def process_name() -> str:
    """Return a name for this process that no other has."""
    return f"{socket.gethostname()}-{os.getpid()}"


async def beat() -> int:
    """Tell Redis that this worker is alive; return its time in milliseconds. Raises store.Failure."""
    (reply,) = await store.run_scripts("beat", [([store.WORKERS], [process_name(), FORGET_AFTER_MS])])
    if isinstance(reply, store.Failure):
        raise reply
    return reply


async def leave() -> None:
    """Tell Redis that this worker ends, so that nobody misses it. Raises store.Failure."""
    await store.call(("HDEL", store.WORKERS, process_name()))


def count(heard: dict[bytes, Any], now_ms: int) -> Workers:
    """Return the workers, told from when Redis has heard each.

    Of each machine that was heard of lately, WEB_CONCURRENCY of them are expected.
    """
    alive = [worker for worker, heard_ms in heard.items() if now_ms - int(heard_ms) <= ALIVE_MS]
    machines = {worker.rpartition(b"-")[0] for worker in heard}
    return Workers(len(alive), max(1, len(machines)) * settings.WEB_CONCURRENCY)
