"""What each worker knows of the published sales: read from Redis a few times a second, however many ask."""

import asyncio
import time
from collections.abc import Iterable
from typing import NamedTuple

from django.db import DatabaseError, connection

from sales import continuity, publishing, purchases, store
from sales.directory import Listing, current
from sales.per_loop import per_loop

# A snapshot older than this starts a new read in the background …
REFRESH_AFTER_SECONDS = 0.1
# … and one older than this is not shown any more: who asks waits for the read.
OLDEST_SECONDS = 0.25
# A sale that nobody has asked for in this time is not read.
FORGET_AFTER_SECONDS = 10
READ_WITHIN_SECONDS = 1.0
# What a snapshot takes from the configuration word for word.
TEXTS = "slug", "product_name", "description", "price", "image_url", "image_srcset", "image_width", "image_height"


class Snapshot(NamedTuple):
    """One sale as Redis had it. Times are milliseconds since 1970 by Redis's clock."""

    id: int
    slug: str
    product_name: str
    description: str
    price: str
    image_url: str
    image_srcset: str
    image_width: str
    image_height: str
    starts_ms: int
    ends_ms: int
    total_stock: int
    paused: bool
    remaining_stock: int
    # When the last unit went, if Redis tells; of no meaning while units are free again.
    sold_out_ms: int | None = None
    is_rehearsal: bool = False

    def status(self, now_ms: int) -> str:
        if now_ms < self.starts_ms:
            return "upcoming"
        if now_ms >= self.ends_ms:
            return "ended"
        if self.paused:
            return "paused"
        return "active" if self.remaining_stock > 0 else "sold_out"

    def sold_out_within_ms(self) -> int | None:
        """Return how long after the start the last unit went; None while units are free, or when nobody knows."""
        if self.remaining_stock or self.sold_out_ms is None or self.sold_out_ms < self.starts_ms:
            return None
        return self.sold_out_ms - self.starts_ms


async def find(slug: str = "") -> Snapshot | None:
    """Return the sale of that slug, or the current sale without one; at most 250 ms old. None when there is none.

    Raises store.Unavailable when Redis cannot be read, or has lost its directory of sales.
    """
    return await _reader().find(slug)


def now_ms() -> int:
    """Return Redis's time in milliseconds since 1970, as far as the latest read of this worker tells."""
    return _reader().now_ms()


def last_known_id(slug: str = "") -> int | None:
    """Return the ID of the sale of that slug, or of the current one, however long ago Redis told of it."""
    return _reader().last_known_id(slug)


async def directory() -> dict[str, Listing]:
    """Return the published sales by slug, as fresh as what `find` returns. Raises store.Unavailable."""
    return await _reader().directory()


async def find_all(slugs: Iterable[str]) -> list[Snapshot]:
    """Return the sales of those slugs, in one read. Those that are closed or gone by now are left out."""
    found = await asyncio.gather(*map(_find_open, slugs))
    return [sale for sale in found if sale]


async def _find_open(slug: str) -> Snapshot | None:
    try:
        return await find(slug)
    except store.Unavailable:
        return None


class _Reader:
    def __init__(self) -> None:
        # The directory and the rehearsals as Redis gave them at the last read, and what they mean.
        self._lines: list[list[bytes]] = []
        self._directory: dict[str, Listing] = {}
        self._rehearsals: dict[str, Listing] = {}
        self._snapshots: dict[str, Snapshot | store.Unavailable] = {}
        # What Redis said of each open sale at the last read.
        self._replies: dict[str, tuple[bytes, list[bytes], bytes | None]] = {}
        self._current = ""
        self._asked: dict[str, float] = {}
        self._read_at = -OLDEST_SECONDS
        self._clock_ahead_seconds = 0.0
        self._refresh_task: asyncio.Task[None] | None = None

    def now_ms(self) -> int:
        return int((time.monotonic() + self._clock_ahead_seconds) * 1000)

    def last_known_id(self, slug: str) -> int | None:
        wanted = slug or self._current
        found = self._directory.get(wanted) or self._rehearsals.get(wanted)
        return found.id if found else None

    async def directory(self) -> dict[str, Listing]:
        if time.monotonic() - self._read_at >= OLDEST_SECONDS:
            read = self._refresh()
            await asyncio.wait([read], timeout=READ_WITHIN_SECONDS)
            if not read.done():
                raise store.Unavailable("Redis could not be read in time")
            read.result()
        return self._directory

    async def find(self, slug: str) -> Snapshot | None:
        arrived = time.monotonic()
        # One read finds the sale, a second its details; a third when a read that was under way knew neither.
        for _ in range(3):
            wanted = slug or self._current
            age_seconds = time.monotonic() - self._read_at
            is_new = self._read_at >= arrived
            if wanted in self._directory or wanted in self._rehearsals:
                self._asked[wanted] = arrived
            elif is_new or age_seconds < REFRESH_AFTER_SECONDS:
                return None
            if (found := self._snapshots.get(wanted)) and (is_new or age_seconds < OLDEST_SECONDS):
                if age_seconds >= REFRESH_AFTER_SECONDS:
                    self._refresh()
                if isinstance(found, store.Unavailable):
                    raise store.Unavailable(*found.args)
                return found
            read = self._refresh()
            await asyncio.wait([read], timeout=READ_WITHIN_SECONDS - (time.monotonic() - arrived))
            if not read.done():
                break
            read.result()
        raise store.Unavailable("Redis could not be read in time, or has lost the details of the sale")

    def _refresh(self) -> asyncio.Task[None]:
        """Return the read that is under way, or start one."""
        if self._refresh_task is None or self._refresh_task.done():
            self._refresh_task = asyncio.get_running_loop().create_task(self._read())
            self._refresh_task.add_done_callback(_retrieve)
        return self._refresh_task

    async def _read(self) -> None:
        started = time.monotonic()
        try:
            async with asyncio.timeout(READ_WITHIN_SECONDS):
                now, *lines = await _read_directory()
                if lines != self._lines:
                    self._lines, (self._directory, self._rehearsals) = lines, map(_directory, lines)
                self._clock_ahead_seconds = int(now[0]) + int(now[1]) / 1e6 - time.monotonic()
                self._current = current(self._directory, self.now_ms())
                self._snapshots = await self._read_sales(self._wanted(started))
        except (TimeoutError, store.Unknown) as error:
            raise store.Unavailable("Redis did not answer in time") from error
        self._read_at = started

    def _wanted(self, now: float) -> list[str]:
        self._asked = {slug: at for slug, at in self._asked.items() if now - at < FORGET_AFTER_SECONDS}
        return [slug for slug in {*self._asked, self._current} if slug in self._directory or slug in self._rehearsals]

    async def _read_sales(self, slugs: Iterable[str]) -> dict[str, Snapshot | store.Unavailable]:
        """Return each sale, or why it is closed."""
        sale_ids = {slug: (self._directory.get(slug) or self._rehearsals[slug]).id for slug in slugs}
        kinds = ("HGETALL", "config"), ("GET", "stock")
        commands = [(command, store.key(sale_id, name)) for sale_id in sale_ids.values() for command, name in kinds]
        run_id, *replies = await store.call(("ECHO", store.RUN_ID), *commands)
        found: dict[str, Snapshot | store.Unavailable] = {}
        replies_then, self._replies = self._replies, {}
        for (slug, sale_id), config, stock in zip(sale_ids.items(), replies[::2], replies[1::2], strict=True):
            reply = run_id, config, stock
            if reply == replies_then.get(slug):  # of many open sales, most have not changed in a tenth of a second
                found[slug] = self._snapshots[slug]
            elif reason := await _why_closed(sale_id, _pairs(config), stock, run_id.decode()):
                found[slug] = store.Unavailable(reason)
                continue
            else:
                found[slug] = _snapshot(sale_id, _pairs(config), int(stock))
            self._replies[slug] = reply
        return found


async def _read_directory() -> list[list[bytes]]:
    """Return Redis's time, its directory (made SQL's first, when Redis has started again), and the rehearsals."""
    commands = ("TIME",), ("HGETALL", store.DIRECTORY), ("HGETALL", store.REHEARSALS)
    # The mark is read last: a directory that was emptied before it was read has none.
    *found, run_id, checked_run = await store.call(*commands, ("ECHO", store.RUN_ID), ("GET", store.CHECKED_RUN))
    if checked_run != run_id:
        await asyncio.to_thread(_list_all, run_id.decode())
        found = await store.call(*commands)
    return found


async def _why_closed(sale_id: int, config: dict[str, str], stock: bytes | None, run_id: str) -> str:
    """Return why Redis may not sell, or "". A server that has started again is checked against SQL here."""
    if config.get("published") != "1" or stock is None:
        return "Redis has lost the details of the sale"
    if continuity.is_closed_for(config, run_id):
        return continuity.closed_reason(config)
    if "epoch" not in config:
        return f"Its restoration was interrupted. Run manage.py restore_sale {config['slug']}"
    known = purchases.known(sale_id)
    if known.epoch != config["epoch"]:  # published for the first time, or restored: what was answered before is settled
        known.epoch, known.newest_order = config["epoch"], ""
    # Another worker's comparison is not enough: it does not know what this one has answered.
    is_compared = config["run_id"] == run_id and (not known.newest_order or known.run_id == run_id)
    reason = "" if is_compared else await asyncio.to_thread(_confirm, sale_id, run_id, known.newest_order)
    if not reason:
        known.run_id = run_id
    return reason


def _list_all(run_id: str) -> None:
    try:
        publishing.list_all(run_id)
    except (DatabaseError, store.RedisError) as error:
        raise store.Unavailable(f"Redis has started again, and could not be compared with SQL: {error}") from error
    finally:
        connection.close()


def _confirm(sale_id: int, run_id: str, newest_seen: str) -> str:
    try:
        return continuity.confirm(sale_id, run_id, newest_seen, grace_seconds=OLDEST_SECONDS)
    except (DatabaseError, store.RedisError) as error:
        return f"Redis has started again, and could not be compared with SQL: {error}"
    finally:
        connection.close()


def _retrieve(task: asyncio.Task[None]) -> None:
    """Mark a failed read as seen: who waited for it has the error, and when nobody did the next one will."""
    if not task.cancelled():
        task.exception()


def _pairs(reply: list[bytes]) -> dict[str, str]:
    words = [word.decode() for word in reply]
    return dict(zip(words[::2], words[1::2], strict=True))


def _directory(reply: list[bytes]) -> dict[str, Listing]:
    return {slug: Listing(*map(int, line.split())) for slug, line in _pairs(reply).items()}


def _snapshot(sale_id: int, config: dict[str, str], stock: int) -> Snapshot:
    return Snapshot(
        id=sale_id,
        **{name: config[name] for name in TEXTS},
        starts_ms=int(config["starts_ms"]),
        ends_ms=int(config["ends_ms"]),
        total_stock=int(config["total_stock"]),
        paused=config["paused"] == "1",
        remaining_stock=stock,
        sold_out_ms=int(config["sold_out_ms"]) if "sold_out_ms" in config else None,
        is_rehearsal=config.get("is_rehearsal") == "1",
    )


@per_loop
def _reader() -> _Reader:
    return _Reader()
