"""What the service depends on, and how each of it is."""

import asyncio
import time
from typing import Any

from asgiref.sync import sync_to_async
from django.db import DatabaseError, connection

from sales import store
from sales.per_loop import per_loop

CHECK_WITHIN_SECONDS = 1.0
# However often it is asked, each worker looks this often.
KEEP_SECONDS = 0.5


async def report() -> dict[str, Any]:
    """Return `status` and one entry per dependency. `unavailable` when no purchase can be decided, `degraded` when
    purchases are decided but something else is wrong."""
    return await _kept().get()


async def _look() -> dict[str, Any]:
    redis, database = await asyncio.gather(_timed(_redis), _timed(_database))
    status = "unavailable" if redis["status"] != "ok" else "degraded" if database["status"] != "ok" else "ok"
    return {"status": status, "redis": redis, "database": database}


async def _timed(check: Any) -> dict[str, Any]:
    started = time.monotonic()
    try:
        async with asyncio.timeout(CHECK_WITHIN_SECONDS):
            facts = await check()
    except (store.Failure, DatabaseError, TimeoutError) as error:
        return {"status": "unavailable", "reason": str(error) or "no answer in time"}
    return {"status": "ok", "latencyMs": round((time.monotonic() - started) * 1000, 1), **facts}


async def _redis() -> dict[str, Any]:
    mirrored, listings = await store.call(("GET", store.MIRRORED), ("HVALS", store.DIRECTORY))
    if mirrored is None:
        raise store.Unavailable("Redis holds no sales: it is new, or has lost them. Run manage.py publish_sales")
    streams = [store.key(int(listing.split()[0]), "orders") for listing in listings]
    groups = await store.call(*(("XINFO", "GROUPS", stream) for stream in streams)) if streams else []
    return {"sales": len(listings), "ordersWaiting": sum(_waiting(reply) for reply in groups)}


def _waiting(groups: list[list[Any]]) -> int:
    """Return how many purchases of one stream are not yet acknowledged by the order writer."""
    facts = dict(zip(groups[0][::2], groups[0][1::2], strict=True)) if groups else {}
    return (facts.get(b"pending") or 0) + (facts.get(b"lag") or 0)


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
