"""Streams of a sale's status: server-sent events (HTML Standard, section 9.2), written to all listeners in one pass.

A stream costs its connection and nothing else: no task, no queue. One task of each worker reads the sales that somebody
listens to, and writes what has changed. When there are so many listeners that the writing would keep the worker from
its purchases, the passes become rarer; beyond `settings.EVENT_LISTENERS` listeners the next one is told to poll.
"""

import asyncio
import logging
import random
import time
from typing import Any, NamedTuple

import orjson
from django.conf import settings

from flashsale import machine
from flashsale.tracing import no_request
from sales import endpoints, snapshots, statuses, store
from sales.headers import OF_DATA
from sales.per_loop import per_loop

# As often the sales are looked at, and at most this part of a worker's time goes into writing.
EVERY_SECONDS = 0.5
LARGEST_SHARE = 0.15
# Something is written at least so often: a proxy closes a connection that says nothing, and who has gone is noticed.
HEARTBEAT_SECONDS = 15
HEARTBEAT = b":\n\n"
# Between so many writes the loop sees to others.
WRITES_AT_ONCE = 100
# A listener that has not read so much yet hears the next state only when it has.
MOST_UNREAD_BYTES = 4096

HEADERS = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # nginx would hold events back
    **OF_DATA,
}

log = logging.getLogger(__name__)


class News(NamedTuple):
    """An event, and what makes it one: as long as `state` is the same, there is nothing to tell."""

    state: object
    event: bytes


class Listener(asyncio.Protocol):
    """The connection of one stream, from the head of the answer to its end. `slug` is what was asked for."""

    __slots__ = ("_connections", "is_behind", "news", "slug", "transport")

    def __init__(self, slug: str, news: News):
        self.slug, self.news = slug, news
        self.is_behind = False

    def take_over(self, transport: asyncio.Transport, connections: set[Any]) -> None:
        """Listen on a connection that HTTP has left; `connections` are those that the server closes when it stops."""
        self.transport, self._connections = transport, connections
        connections.add(self)
        transport.set_write_buffer_limits(high=MOST_UNREAD_BYTES)
        transport.set_protocol(self)
        _broadcast().join(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        _broadcast().leave(self)

    def pause_writing(self) -> None:
        self.is_behind = True

    def resume_writing(self) -> None:
        self.is_behind = False
        self.transport.write(_broadcast().news(self.slug).event)

    def shutdown(self) -> None:
        """End the stream: the server stops. The browser connects again by itself."""
        self.transport.close()


class EventStream(endpoints.Answer):
    """The answer that does not end: it begins with the state of `sale`, then `listener` gets the connection."""

    def __init__(self, slug: str, sale: snapshots.Snapshot):
        news = _news_of(sale)
        # After a restart of the server all come back, but not at the same moment.
        retry = b"retry: %d\n\n" % random.randint(1000, 5000)
        super().__init__(retry + news.event, 200, HEADERS)
        self.listener = Listener(slug, news)


def has_room() -> bool:
    """Return whether this worker takes one more listener."""
    return count() < min(settings.EVENT_LISTENERS, machine.most_connections() // 2)


def count() -> int:
    """Return how many listeners this worker has."""
    return _broadcast().count


def _news_of(sale: snapshots.Snapshot) -> News:
    now_ms = snapshots.now_ms()
    state = statuses.fields(sale, now_ms)
    return News(state, _event("status", state | statuses.moment(sale, now_ms)))


def _event(name: str, body: dict[str, object]) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (name.encode(), orjson.dumps(body))


class _Audience:
    """The listeners to one sale, and what they were told last."""

    def __init__(self, news: News) -> None:
        self.listeners: set[Listener] = set()
        self.news = news
        self.told_at = time.monotonic()


class _Broadcast:
    def __init__(self) -> None:
        self._audiences: dict[str, _Audience] = {}
        self._task: asyncio.Task[None] | None = None
        self.count = 0

    def join(self, listener: Listener) -> None:
        audience = self._audiences.setdefault(listener.slug, _Audience(listener.news))
        audience.listeners.add(listener)
        if audience.news.state != listener.news.state:  # the others heard it after this one's stream was begun
            listener.transport.write(audience.news.event)
        self.count += 1
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), context=no_request())

    def leave(self, listener: Listener) -> None:
        audience = self._audiences[listener.slug]
        audience.listeners.discard(listener)
        self.count -= 1
        if not audience.listeners:
            del self._audiences[listener.slug]

    def news(self, slug: str) -> News:
        return self._audiences[slug].news

    async def _run(self) -> None:
        while self._audiences:
            spent_seconds = 0.0
            for slug, audience in list(self._audiences.items()):
                try:
                    spent_seconds += await self._tell(slug, audience)
                except Exception:  # a defect: the others must hear their news, and these the next
                    log.exception("the streams of %r missed a pass", slug)
            await asyncio.sleep(max(EVERY_SECONDS, spent_seconds / LARGEST_SHARE))
        self._task = None

    async def _tell(self, slug: str, audience: _Audience) -> float:
        """Write to an audience what is new, or a heartbeat when one is due; return the seconds that writing took."""
        try:
            sale = await snapshots.find(slug)
        except store.Failure as failure:
            news = News(failure.outcome, _event("unavailable", endpoints.refusal_body(failure.outcome)))
        else:
            if sale is None:
                return _end(audience)
            news = _news_of(sale)
        now = time.monotonic()
        if news.state != audience.news.state:
            audience.news, audience.told_at = news, now
            return await _write(audience, news.event)
        if now - audience.told_at > HEARTBEAT_SECONDS:
            audience.told_at = now
            return await _write(audience, HEARTBEAT)
        return 0.0


def _end(audience: _Audience) -> float:
    """End all streams: who connects again is told that there is no such sale."""
    for listener in audience.listeners:
        listener.shutdown()
    return 0.0


async def _write(audience: _Audience, event: bytes) -> float:
    """Write to all who can keep up; return the seconds that it took, without those that others had in between."""
    spent_seconds = 0.0
    listeners = list(audience.listeners)
    for start in range(0, len(listeners), WRITES_AT_ONCE):
        began = time.monotonic()
        for listener in listeners[start : start + WRITES_AT_ONCE]:
            if not listener.is_behind:
                listener.transport.write(event)
        spent_seconds += time.monotonic() - began
        await asyncio.sleep(0)
    return spent_seconds


@per_loop
def _broadcast() -> _Broadcast:
    return _Broadcast()
