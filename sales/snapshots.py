"""What each worker knows of the published sales: read from Redis a few times a second, however many ask."""

import asyncio
import time
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from sales import archive_mirror, closures, store
from sales.batcher import Batcher
from sales.directory import OLDEST_SECONDS, Directory, Listing
from sales.per_loop import per_loop

# A snapshot older than this starts a new read in the background.
REFRESH_AFTER_SECONDS = 0.1
# What was read so long ago is forgotten: nobody asks for it.
FORGET_AFTER_SECONDS = 10
READ_WITHIN_SECONDS = 1.0
# In a cluster, who asks for the directory waits for a server that hangs no longer than this: what is known stands.
KNOWN_STANDS_AFTER_SECONDS = 0.3
# Bounds how long a worker makes snapshots without doing anything else: some milliseconds.
LARGEST_READ = 200
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
    identity: str = "open"
    one_mailbox: bool = False
    key_number: int = 1
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
    return _reader().directory.now_ms()


def last_known_id(slug: str = "") -> int | None:
    """Return the ID of the sale of that slug, or of the current one, however long ago Redis told of it."""
    directory = _reader().directory
    found = directory.find(slug or directory.current)
    return found.id if found else None


def last_known_directory() -> dict[str, Listing]:
    """Return the published sales by slug, however long ago Redis told of them; {} when it has not yet."""
    return _reader().directory.published


async def directory() -> dict[str, Listing]:
    """Return the published sales by slug, as fresh as what `find` returns; while a server of a cluster hangs, as they
    were known to be. Raises store.Unavailable."""
    return (await _reader().fresh_directory()).published


async def find_all(slugs: Iterable[str]) -> list[Snapshot]:
    """Return the sales of those slugs, in one read. Those that are closed or gone by now are left out."""
    found = await asyncio.gather(*map(_find_open, slugs))
    return [sale for sale in found if sale]


async def _find_open(slug: str) -> Snapshot | None:
    try:
        return await find(slug)
    except store.Unavailable:
        return None


class _Seen(NamedTuple):
    """What was read of a sale, or why it is closed; when the read began; the sale's ID; and what Redis said."""

    sale: Snapshot | store.Unavailable
    read_at: float
    id: int
    reply: closures.Reply


class _Reader:
    """One loop's knowledge: read when somebody asks, one read at a time, of nothing but what was asked for since."""

    def __init__(self) -> None:
        self.directory = Directory()
        # Of the sales that it lists.
        self._seen: dict[str, _Seen] = {}
        self._reads: dict[str, asyncio.Future[None]] = {}
        self._batcher = Batcher(self._read, LARGEST_READ)

    async def fresh_directory(self) -> Directory:
        arrived = time.monotonic()
        if arrived - self.directory.read_at < OLDEST_SECONDS:
            return self.directory
        if store.is_cluster() and self.directory.is_known:
            await asyncio.wait([self._refresh("")], timeout=KNOWN_STANDS_AFTER_SECONDS)
        else:
            await self._refreshed("", arrived)
        return self.directory

    async def find(self, slug: str) -> Snapshot | None:
        arrived = now = time.monotonic()
        # One read finds the sale, a second its details; others that were under way may have known neither.
        for _ in range(4):
            wanted, read_at = slug or self.directory.current, self.directory.read_at
            seen = self._seen.get(wanted)
            if seen and seen.read_at < read_at:
                read_at = seen.read_at
            is_new, age_seconds = read_at >= arrived, now - read_at
            # Of a closed sale nothing older will do: it may have been opened, or published again, since.
            sale = seen.sale if seen else None
            if isinstance(sale, store.Unavailable):
                if seen and seen.read_at >= arrived:
                    raise store.Unavailable(*sale.args)
            elif sale and (is_new or age_seconds < OLDEST_SECONDS):
                if age_seconds >= REFRESH_AFTER_SECONDS:
                    self._refresh(wanted)
                return sale
            if not self.directory.find(wanted) and (is_new or age_seconds < REFRESH_AFTER_SECONDS):
                return None
            await self._refreshed(wanted, arrived)
            now = time.monotonic()
        raise store.Unavailable("Redis has lost the details of the sale")

    async def _refreshed(self, slug: str, arrived: float) -> None:
        """Wait for a read, but not longer than who arrived then may wait. Raises store.Unavailable."""
        read = self._refresh(slug)
        await asyncio.wait([read], timeout=READ_WITHIN_SECONDS - (time.monotonic() - arrived))
        if not read.done():
            raise store.Unavailable("Redis could not be read in time")
        try:
            read.result()
        except store.Unknown as error:
            raise store.Unavailable("Redis did not answer in time") from error

    def _refresh(self, slug: str) -> asyncio.Future[None]:
        """Return the read of that sale that is under way or waits for its turn, or ask for one. Whatever is not listed
        shares one read, which finds whether it is by now."""
        slug = slug if self.directory.find(slug) else ""
        if not (read := self._reads.get(slug)):
            read = self._reads[slug] = self._batcher.submit(slug, time.monotonic() + READ_WITHIN_SECONDS)
            read.add_done_callback(lambda done: self._note_end(slug, done))
        return read

    def _note_end(self, slug: str, read: asyncio.Future[None]) -> None:
        del self._reads[slug]
        if not read.cancelled():
            read.exception()  # who waited for it has the error, and when nobody did the next one will

    async def _read(self, slugs: Sequence[str]) -> list[None]:
        started = time.monotonic()
        listings = {slug: self.directory.find(slug) for slug in {slug or self.directory.current for slug in slugs}}
        reads = [self._read_sales({slug: listing.id for slug, listing in listings.items() if listing})]
        # At the same time: in a cluster one server that hangs holds up the reading for its time once, not twice.
        if started - self.directory.read_at >= REFRESH_AFTER_SECONDS:
            reads.append(self.directory.read())
        for failure in await asyncio.gather(*reads, return_exceptions=True):
            if failure:
                raise failure
        if len(reads) > 1:
            self._forget(started)
        return [None] * len(slugs)

    def _forget(self, now: float) -> None:
        """Forget the sales that are listed no more, or as another one, or that nobody has asked for lately."""
        listed = ((slug, seen, self.directory.find(slug)) for slug, seen in self._seen.items())
        self._seen = {
            slug: seen
            for slug, seen, listing in listed
            if listing and listing.id == seen.id and now - seen.read_at < FORGET_AFTER_SECONDS
        }

    async def _read_sales(self, sale_ids: dict[str, int]) -> None:
        """Read each sale, or why it is closed."""
        read_at = time.monotonic()
        replies = dict(zip(sale_ids, await closures.ask(list(sale_ids.values())), strict=True))
        known = {slug: self._seen.get(slug) for slug in sale_ids}
        # Of many open sales, most have not changed in a tenth of a second.
        same = {
            slug: seen.sale
            for slug, seen in known.items()
            if seen and seen.reply == replies[slug] and isinstance(seen.sale, Snapshot)
        }
        changed = [slug for slug in sale_ids if slug not in same]
        reasons = await asyncio.gather(*(closures.reason(sale_ids[slug], replies[slug]) for slug in changed))
        found: dict[str, Snapshot | store.Unavailable] = {**same}
        for slug, reason in zip(changed, reasons, strict=True):
            found[slug] = store.Unavailable(reason) if reason else _snapshot(sale_ids[slug], replies[slug])
        for slug, sale in found.items():
            self._seen[slug] = _Seen(sale, read_at, sale_ids[slug], replies[slug])


def _snapshot(sale_id: int, reply: closures.Reply) -> Snapshot:
    config, stock = reply.fields(), reply.stock.reply
    return Snapshot(
        id=sale_id,
        **{name: config[name] for name in TEXTS},
        starts_ms=int(config["starts_ms"]),
        ends_ms=int(config["ends_ms"]),
        total_stock=int(config["total_stock"]),
        paused=config["paused"] == "1",
        remaining_stock=archive_mirror.units(config)[1] if stock is None else int(stock),
        identity=config["identity"],
        one_mailbox=config["one_mailbox"] == "1",
        key_number=int(config["key_number"]),
        sold_out_ms=int(config["sold_out_ms"]) if "sold_out_ms" in config else None,
        is_rehearsal=config.get("is_rehearsal") == "1",
    )


@per_loop
def _reader() -> _Reader:
    return _Reader()
