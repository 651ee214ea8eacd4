"""What the service depends on, and how each of it is."""

import asyncio
import time
from contextlib import suppress
from typing import Any

from asgiref.sync import sync_to_async
from django.db import DatabaseError, connection

from sales import snapshots, store
from sales.durability import UNKNOWN, check_on_lane
from sales.per_loop import per_loop

CHECK_WITHIN_SECONDS = 1.0
# However often it is asked, each worker looks this often.
KEEP_SECONDS = 0.5
# An order writer that is alive is never this far behind.
LONGEST_LAG_MS = 30_000


async def report() -> dict[str, Any]:
    """Return `status` and one entry per dependency. `unavailable` when no purchase can be decided, `degraded` when
    purchases are decided but something else is wrong."""
    return await _kept().get()


def writer_blocking() -> dict[str, Any]:
    """Return the order writer's entry of the report, for code that may block and has no loop."""

    async def look() -> dict[str, Any]:
        try:
            return await _timed(_writer)
        finally:
            await store.close()

    return asyncio.run(look())


async def _look() -> dict[str, Any]:
    redis, writer, database = await asyncio.gather(_timed(_redis), _timed(_writer), _timed(_database))
    entries = {"redis": redis, "writer": writer, "database": database}
    if redis["status"] == "unavailable":
        status = "unavailable"
    else:
        status = "ok" if all(entry["status"] == "ok" for entry in entries.values()) else "degraded"
    return {"status": status, **entries}


async def _timed(check: Any) -> dict[str, Any]:
    started = time.monotonic()
    try:
        async with asyncio.timeout(CHECK_WITHIN_SECONDS):
            facts = await check()
    except (store.Failure, DatabaseError, TimeoutError) as error:
        return {"status": "unavailable", "reason": str(error) or "no answer in time"}
    return {"status": "ok", "latencyMs": round((time.monotonic() - started) * 1000, 1), **facts}


async def _redis() -> dict[str, Any]:
    """Tell whether purchases can be decided. Raises store.Unavailable when no sale can sell."""
    with suppress(store.Unavailable):
        await snapshots.find("")  # it compares Redis with SQL when Redis has started again: nobody else may be asking
    listings, run_id, checked_run = await store.call(
        ("HGETALL", store.DIRECTORY), ("ECHO", store.RUN_ID), ("GET", store.CHECKED_RUN)
    )
    if checked_run != run_id:
        raise store.Unavailable("Redis is new or has started again; the next request compares it with SQL")
    sales = {slug.decode(): int(line.split()[0]) for slug, line in zip(listings[::2], listings[1::2], strict=True)}
    closed = await _closed(sales, run_id.decode())
    if sales and len(closed) == len(sales):
        raise store.Unavailable(f"every sale is closed: {closed}")
    durability = await check_on_lane()
    facts = {"sales": len(sales), "closed": closed, "durability": durability}
    return facts | ({"status": "degraded"} if closed or durability not in ("ok", UNKNOWN) else {})


async def _closed(sales: dict[str, int], run_id: str) -> dict[str, str]:
    """Return the sales that may not sell, and why."""
    if not sales:
        return {}
    fields = ("published", "run_id", "closed")
    replies = await store.call(*(("HMGET", store.key(sale_id, "config"), *fields) for sale_id in sales.values()))
    closed = {}
    for slug, (published, checked_run, reason) in zip(sales, replies, strict=True):
        if published != b"1":
            closed[slug] = f"Redis has lost the sale. Run manage.py restore_sale {slug}"
        elif reason:
            closed[slug] = reason.decode().partition(" ")[2]
        elif checked_run.decode() != run_id:
            closed[slug] = "Redis has started again; the next request compares it with SQL"
    return closed


async def _writer() -> dict[str, Any]:
    """Tell how far the order writer is behind: purchases that are not acknowledged, and how old the oldest is."""
    now, listings = await store.call(("TIME",), ("HVALS", store.DIRECTORY))
    streams = [store.key(int(line.split()[0]), "orders") for line in listings]
    exists = await store.call(*(("EXISTS", stream) for stream in streams)) if streams else []
    streams = [stream for stream, found in zip(streams, exists, strict=True) if found]
    if not streams:
        return {"backlog": 0, "lagMs": 0}
    groups = await store.call(*(("XINFO", "GROUPS", stream) for stream in streams))
    backlog, lag_ms = 0, 0
    for stream, reply in zip(streams, groups, strict=True):
        group = dict(zip(reply[0][::2], reply[0][1::2], strict=True))
        waiting = group[b"pending"] + (group[b"lag"] or 0)
        if waiting:
            oldest_ms = await _oldest_waiting_ms(stream, group)
            lag_ms = max(lag_ms, int(now[0]) * 1000 + int(now[1]) // 1000 - oldest_ms)
        backlog += waiting
    facts = {"backlog": backlog, "lagMs": max(0, lag_ms)}
    return facts | ({"status": "degraded"} if lag_ms > LONGEST_LAG_MS else {})


async def _oldest_waiting_ms(stream: str, group: dict[bytes, Any]) -> int:
    """Return when the oldest purchase was made that the order writer has not acknowledged, in ms since 1970."""
    pending, undelivered = await store.call(
        ("XPENDING", stream, store.WRITERS),
        ("XRANGE", stream, b"(" + group[b"last-delivered-id"], "+", "COUNT", 1),
    )
    oldest = [pending[1]] if pending[0] else []
    oldest += [entry[0] for entry in undelivered]
    return min(int(entry_id.partition(b"-")[0]) for entry_id in oldest) if oldest else 2**63


async def _database() -> dict[str, Any]:
    await sync_to_async(_select_one, thread_sensitive=False)()
    return {}


def _select_one() -> None:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    finally:
        connection.close()


class _Kept:
    def __init__(self) -> None:
        self._looked_at = -KEEP_SECONDS
        self._look: asyncio.Task[dict[str, Any]] | None = None

    async def get(self) -> dict[str, Any]:
        if self._look is None or (self._look.done() and time.monotonic() - self._looked_at > KEEP_SECONDS):
            self._look = asyncio.get_running_loop().create_task(_look())
            self._looked_at = time.monotonic()
        return await asyncio.shield(self._look)


@per_loop
def _kept() -> _Kept:
    return _Kept()
