"""What the service depends on, and how each of it is."""

import asyncio
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from django.db import DatabaseError, connection

from flashsale.tracing import no_request
from sales import acknowledged, invited_mirror, missing, snapshots, store
from sales.directory import Listing
from sales.durability import UNKNOWN, summary, verdicts_on_lane
from sales.per_loop import per_loop

CHECK_WITHIN_SECONDS = 1.0
# However often it is asked, each worker looks this often.
KEEP_SECONDS = 0.5
# An order writer that is alive is never this far behind.
LONGEST_LAG_MS = 30_000

log = logging.getLogger(__name__)
# What was logged of each check that fails, so that it is logged once however often health is asked for.
_failing: dict[str, str] = {}


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
        if (told := str(error) or "no answer in time") != _failing.get(check.__name__):
            log.warning("%s is unavailable: %s", check.__name__.lstrip("_"), error if str(error) else told)
        _failing[check.__name__] = told
        return {"status": "unavailable", "latencyMs": _since(started), "reason": _reason(error)}
    _failing.pop(check.__name__, None)
    return {"status": "ok", "latencyMs": _since(started), **facts}


def _since(started: float) -> float:
    return round((time.monotonic() - started) * 1000, 1)


def _reason(error: Exception) -> str:
    """Return what everybody may know of an error. What Redis and SQL said names hosts and accounts: the log has it."""
    if isinstance(error, DatabaseError):
        return "SQL cannot be used; the log says why"
    if isinstance(error.__cause__, (store.RedisError, OSError, DatabaseError)):
        return f"{str(error).partition(':')[0]}; the log says why"
    return str(error) or "no answer in time"


async def _redis() -> dict[str, Any]:
    """Tell whether purchases can be decided. Raises store.Unavailable when no sale that is not over can sell."""
    # It compares Redis with SQL when Redis has started again: nobody else may be asking.
    directory = await snapshots.directory()
    closed, refusing, servers = await asyncio.gather(
        _closed({slug: listing.id for slug, listing in directory.items()}), _refusing(directory), verdicts_on_lane()
    )
    coming = {slug: listing for slug, listing in directory.items() if listing.ends_ms > snapshots.now_ms()}
    for slug, listing in coming.items():
        if reason := refusing.get(store.place(listing.id)):
            closed.setdefault(slug, reason)
    if coming and closed.keys() >= coming.keys():
        raise store.Unavailable(f"every sale is closed: {closed}")
    if refusing and not coming:
        raise store.Unavailable("; ".join(refusing.values()))
    durability = summary(servers)
    facts: dict[str, Any] = {"sales": len(directory), "closed": closed, "durability": durability}
    if len(servers) > 1:
        facts["servers"] = servers
    reasons = [f"closed: {', '.join(closed)}"] if closed else []
    if durability not in ("ok", UNKNOWN):
        reasons.append(f"acknowledged purchases may be lost: {durability}")
    return facts | ({"status": "degraded", "reason": "; ".join(reasons)} if reasons else {})


async def _refusing(directory: dict[str, Listing]) -> dict[object, str]:
    """Return the servers, as `store.place` has them, that can be read and take no purchase, and why."""
    keys = {store.place(listing.id): store.key(listing.id, "config") for listing in directory.values()}
    keys = keys or {None: store.DIRECTORY}
    replies = await store.ask_scripts("writable", [([key], ()) for key in keys.values()])
    answers = zip(keys, replies, strict=True)
    return {place: _reason(reply) for place, reply in answers if isinstance(reply, store.Failure)}


async def _closed(sales: dict[str, int]) -> dict[str, str]:
    """Return the sales that may not sell, and why."""
    if not sales:
        return {}
    fields = ("published", "run_id", "closed", "identity", "archived")
    answers = await store.ask(*(("HMGET", store.key(sale_id, "config"), *fields) for sale_id in sales.values()))
    closed = {}
    for (slug, sale_id), (reply, run_id) in zip(sales.items(), answers, strict=True):
        if isinstance(reply, store.Failure):
            closed[slug] = _reason(reply)
            continue
        published, checked_run, reason, identity, archived = reply
        if published != b"1":
            closed[slug] = f"Redis has lost the sale. Run manage.py restore_sale {slug}"
        elif reason:
            closed[slug] = reason.decode().partition(" ")[2]
        elif checked_run.decode() != run_id:
            closed[slug] = "Redis has started again; the next request compares it with SQL"
        elif identity == b"invited" and not archived and not await _has_list(sale_id):
            closed[slug] = "Redis does not hold its list of invited shoppers; the order writer mirrors it"
    return closed


async def _has_list(sale_id: int) -> bool:
    note, members = await store.call(
        ("GET", store.key(sale_id, "invited_list")), ("SCARD", store.key(sale_id, "invited"))
    )
    return invited_mirror.read(note, members).is_whole()


async def _writer() -> dict[str, Any]:
    """Tell how far the order writer is behind: purchases that are not acknowledged, and how old the oldest is.

    Of a cluster, the servers that are away are left out.
    """
    sale_ids, is_forgetful = await _published()
    calls = [([store.key(sale_id, "orders")], (store.WRITERS,)) for sale_id in sale_ids]
    replies = await store.ask_scripts("backlog", calls) if calls else []
    told = [reply for reply in replies if not isinstance(reply, store.Failure)]
    lag_ms = max((waited_ms for _, waited_ms in told), default=0)
    facts = {"backlog": sum(backlog for backlog, _ in told), "lagMs": lag_ms}
    reasons = [f"a purchase has waited {lag_ms // 1000} s to be an order in SQL"] if lag_ms > LONGEST_LAG_MS else []
    if is_forgetful:
        most = f"{acknowledged.MOST_ORDERS:,}"
        reasons.append(f"a web worker remembers {most} purchases that SQL does not have, and no more")
    reason = f"{'; '.join(reasons)}; see that manage.py write_orders runs"
    return facts | ({"status": "degraded", "reason": reason} if reasons else {})


async def _published() -> tuple[list[int], bool]:
    """Return the published sales, and whether a web worker, this one or another, remembers no more of what it
    acknowledges. While Redis's directory is away they are those that this worker knows."""
    try:
        (listings, _), (told, _) = await store.ask(("HVALS", store.DIRECTORY), ("EXISTS", store.FORGETFUL))
        if not isinstance(listings, store.Failure):
            return [int(line.split()[0]) for line in listings], told == 1 or acknowledged.is_full()
        failure = listings
    except store.Failure as error:
        failure = error
    if known := snapshots.last_known_directory():
        return [listing.id for listing in known.values()], acknowledged.is_full()
    raise failure


async def _database() -> dict[str, Any]:
    """Tell whether SQL can be asked, by asking which acknowledged purchases are missing.

    In one thread of its own: a database that hangs holds no more of them, however often it is looked at.
    """
    return await asyncio.get_running_loop().run_in_executor(_thread(), _told_by_sql)


def _told_by_sql() -> dict[str, Any]:
    try:
        return missing.told()
    finally:
        connection.close()


@per_loop
def _thread() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, "health")


class _Kept:
    def __init__(self) -> None:
        self._looked_at = -KEEP_SECONDS
        self._look: asyncio.Task[dict[str, Any]] | None = None

    async def get(self) -> dict[str, Any]:
        if self._look is None or (self._look.done() and time.monotonic() - self._looked_at > KEEP_SECONDS):
            self._look = asyncio.get_running_loop().create_task(_look(), context=no_request())
            self._looked_at = time.monotonic()
        return await asyncio.shield(self._look)


@per_loop
def _kept() -> _Kept:
    return _Kept()
