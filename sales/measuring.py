"""Gives Prometheus's client, once a second, what this worker has counted and how it stands, and keeps it in files."""

import asyncio
import logging
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager, suppress
from typing import Any

import psutil

from sales import counts_files, events, metrics, snapshots

EVERY_SECONDS = 1.0
# Long enough to be told of, and short enough that a thousand sales of the weeks to come are not.
EXPECTED_BEFORE_MS = 10 * 60_000

log = logging.getLogger(__name__)


@asynccontextmanager
async def measured(connections: Collection[Any]) -> AsyncIterator[None]:
    """Keep the client up to date; at the end, give it what is left. `connections` are those that are open."""
    task = asyncio.create_task(_measure_for_ever(connections))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        _measure(connections)


async def _measure_for_ever(connections: Collection[Any]) -> None:
    while True:
        try:
            _measure(connections)
        except Exception:  # the seconds to come must still be told
            log.exception("this second was not measured")
        await asyncio.sleep(EVERY_SECONDS)


def _measure(connections: Collection[Any]) -> None:
    directory, now_ms = snapshots.last_known_directory(), snapshots.now_ms()
    metrics.flush({listing.id: slug for slug, listing in directory.items()})
    for slug, listing in directory.items():
        if listing.starts_ms - EXPECTED_BEFORE_MS <= now_ms < listing.ends_ms:
            metrics.expect_attempts(slug)
    metrics.CONNECTIONS.set(len(connections))
    metrics.EVENT_STREAMS.set(events.count())
    metrics.MEMORY.set(psutil.Process().memory_info().rss)
    counts_files.save()
