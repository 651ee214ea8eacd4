"""The directory of published sales: which there are, which one is current, and which ones a list shows."""

import asyncio
import time
from math import inf
from typing import NamedTuple

from django.db import DatabaseError, connection

from sales import directory_mirror, store

# What a worker read so long ago is not shown any more: who asks waits for a new read.
OLDEST_SECONDS = 0.25
# A list shows no more sales than these: each is read from Redis while somebody looks at it.
MOST_LIVE, MOST_NEXT, MOST_PAST = 100, 20, 12


class Listing(NamedTuple):
    """One line of the directory. Times are milliseconds since 1970 by Redis's clock."""

    id: int
    starts_ms: int
    ends_ms: int


def current(directory: dict[str, Listing], now_ms: int) -> str:
    """Return the slug of the current sale, or "" when there is none: the active one (of several the
    latest to start), else the next to start, else the last to end."""

    def rank(item: tuple[str, Listing]) -> tuple[int, int]:
        _, listing = item
        if listing.starts_ms <= now_ms < listing.ends_ms:
            return 2, listing.starts_ms
        if now_ms < listing.starts_ms:
            return 1, -listing.starts_ms
        return 0, listing.ends_ms

    return max(directory.items(), key=rank)[0] if directory else ""


def shown(directory: dict[str, Listing], now_ms: int) -> tuple[list[str], list[str], list[str]]:
    """Return the slugs of a list's sales: live (the next to end first), next (the next to start first), past (the last
    to end first)."""
    live = {slug: line.ends_ms for slug, line in directory.items() if line.starts_ms <= now_ms < line.ends_ms}
    coming = {slug: line.starts_ms for slug, line in directory.items() if now_ms < line.starts_ms}
    past = {slug: -line.ends_ms for slug, line in directory.items() if line.ends_ms <= now_ms}
    return (
        sorted(live, key=live.__getitem__)[:MOST_LIVE],
        sorted(coming, key=coming.__getitem__)[:MOST_NEXT],
        sorted(past, key=past.__getitem__)[:MOST_PAST],
    )


class Directory:
    """What a worker knows of the directory: the published sales by slug, which of them is current, the rehearsals; and
    Redis's time. `read_at` is when the latest read began, -inf before the first."""

    def __init__(self) -> None:
        # As Redis gave both at the last read.
        self._lines: list[list[bytes]] = []
        self._rehearsals: dict[str, Listing] = {}
        self._clock_ahead_seconds = 0.0
        self.published: dict[str, Listing] = {}
        self.current = ""
        self.read_at = -inf

    @property
    def is_known(self) -> bool:
        return self.read_at > -inf

    def now_ms(self) -> int:
        """Return Redis's time in milliseconds since 1970, as far as the latest read tells."""
        return int((time.monotonic() + self._clock_ahead_seconds) * 1000)

    def find(self, slug: str) -> Listing | None:
        """Return the line of a sale, or of a rehearsal."""
        return self.published.get(slug) or self._rehearsals.get(slug)

    async def read(self) -> None:
        """Read it anew. Raises store.Failure; but where Redis is a cluster, what is known stands while the directory's
        server is away: the sales of the others go on."""
        started = time.monotonic()
        try:
            now, *lines = await _read()
        except store.Failure:
            if not (store.is_cluster() and self.is_known):
                raise
        else:
            if lines != self._lines:
                self._lines, (self.published, self._rehearsals) = lines, map(_listings, lines)
            self._clock_ahead_seconds = int(now[0]) + int(now[1]) / 1e6 - time.monotonic()
        self.current = current(self.published, self.now_ms())
        self.read_at = started


async def _read() -> list[list[bytes]]:
    """Return Redis's time, its directory (made SQL's first, when Redis has started again), and the rehearsals."""
    commands = ("TIME",), ("HGETALL", store.DIRECTORY), ("HGETALL", store.REHEARSALS)
    # The mark is read last: a directory that was emptied before it was read has none.
    *found, mark = await store.ask(*commands, ("GET", store.CHECKED_RUN))
    for answer in (*found, mark):
        if isinstance(answer.reply, store.Failure):
            raise answer.reply
    # Each has its run: the directory may be moving from one server of a cluster to another.
    if mark.reply != mark.run_id.encode() or any(answer.run_id != mark.run_id for answer in found[1:]):
        await asyncio.to_thread(_list_all, mark.run_id)
        return await store.call(*commands)
    return [answer.reply for answer in found]


def _listings(reply: list[bytes]) -> dict[str, Listing]:
    return {slug: Listing(*map(int, line.split())) for slug, line in pairs(reply).items()}


def pairs(reply: list[bytes]) -> dict[str, str]:
    """Return a hash's fields, of what Redis replies to HGETALL."""
    words = [word.decode() for word in reply]
    return dict(zip(words[::2], words[1::2], strict=True))


def _list_all(run_id: str) -> None:
    try:
        directory_mirror.list_all(run_id)
    except (DatabaseError, store.RedisError) as error:
        raise store.Unavailable(f"Redis has started again, and could not be compared with SQL: {error}") from error
    finally:
        connection.close()
