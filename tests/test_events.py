"""Event streams: what a listener hears, when, and when it is told to poll."""

import asyncio
import heapq
import json
import socket
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx
import pytest
from django.utils import timezone

from sales import publishing, snapshots
from sales.events import EventStream, Listener
from sales.models import Sale
from sales.statuses import Calendar
from tests.conftest import MakeSale
from tests.servers import RedisServer, WebServer, free_port

HEARD_WITHIN_SECONDS = 1.0


def change(sale: Sale, **fields: Any) -> None:
    for name, value in fields.items():
        setattr(sale, name, value)
    sale.save()
    publishing.publish(sale)


class Stream:
    """A listener, event by event."""

    def __init__(self, server: WebServer, path: str = "/api/sale/events", more: bytes = b""):
        url = httpx.URL(server.url)
        self.socket = socket.create_connection((url.host, url.port or 80), timeout=5)
        self.socket.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode() + more)
        self._file = self.socket.makefile("rb")
        self.head = b"".join(iter(self._file.readline, b"\r\n")).decode()

    def hear(self) -> dict[str, Any] | None:
        """Return the next event: its data, and its name as `event`; None at the end of the stream."""
        name = ""
        for line in self._file:
            word, _, value = line.decode().rstrip().partition(": ")
            if word == "event":
                name = value
            elif word == "data":
                return {"event": name, **json.loads(value)}
        return None

    def is_silent(self, seconds: float) -> bool:
        self.socket.settimeout(seconds)
        try:
            self.hear()
            return False
        except TimeoutError:
            return True

    def close(self) -> None:
        self._file.close()
        self.socket.close()


@pytest.fixture
def listen(server: WebServer, seen: Callable[[], None]) -> Iterator[Callable[..., Stream]]:
    with ExitStack() as opened:

        def open_it(path: str = "/api/sale/events", **options: Any) -> Stream:
            seen()
            stream = Stream(options.pop("server", server), path, **options)
            opened.callback(stream.close)
            return stream

        yield open_it


@contextmanager
def running_server(**environment: str) -> Iterator[WebServer]:
    with WebServer({"PORT": str(free_port()), **environment}) as server:
        yield server


def test_a_stream_begins_with_the_status(listen: Callable[..., Stream], open_sale: Sale, http: httpx.Client):
    stream = listen()

    assert "200 OK" in stream.head
    assert "content-type: text/event-stream" in stream.head
    assert "cache-control: no-store" in stream.head
    assert "content-length" not in stream.head
    asked = http.get("/api/sale/status").json()
    assert (stream.hear() or {}) | {"serverTime": 0} == asked | {"serverTime": 0, "event": "status"}


@pytest.mark.long
def test_a_change_reaches_every_listener_of_every_worker(listen: Callable[..., Stream], open_sale: Sale):
    streams = [listen(f"/api/sales/{open_sale.slug}/events") for _ in range(10)]
    for stream in streams:
        assert stream.hear()

    change(open_sale, paused=True)
    published = time.monotonic()

    assert [heard["status"] for stream in streams if (heard := stream.hear())] == ["paused"] * 10
    assert time.monotonic() - published < HEARD_WITHIN_SECONDS


def test_a_purchase_changes_what_is_left(listen: Callable[..., Stream], open_sale: Sale, http: httpx.Client):
    stream = listen()
    stream.hear()

    http.post("/api/sale/purchase", json={"userId": "ada@example.com"})

    heard = stream.hear()
    assert heard
    assert heard["remainingStock"] == 9


@pytest.mark.long
def test_a_listener_hears_the_start(listen: Callable[..., Stream], make_sale: MakeSale):
    sale = make_sale(starts_in=2)
    stream = listen()

    first, second = stream.hear(), stream.hear()

    assert [heard["status"] for heard in (first, second) if heard] == ["upcoming", "active"]
    assert abs((timezone.now() - sale.starts_at).total_seconds()) < HEARD_WITHIN_SECONDS


def test_nothing_is_sent_while_nothing_changes(listen: Callable[..., Stream], open_sale: Sale):
    stream = listen()
    stream.hear()

    assert stream.is_silent(1.5)


def test_without_a_sale_there_is_no_stream(http: httpx.Client, seen: Callable[[], None], db: None):
    seen()

    response = http.get("/api/sales/nothing/events")

    assert (response.status_code, response.json()["code"]) == (404, "no_sale")


def test_the_streams_of_a_sale_end_when_it_is_unpublished(listen: Callable[..., Stream], open_sale: Sale):
    stream = listen()
    stream.hear()

    change(open_sale, published=False)

    assert stream.hear() is None


def test_head_gets_the_head_alone(http: httpx.Client, open_sale: Sale, seen: Callable[[], None]):
    seen()

    response = http.head("/api/sale/events")

    assert response.headers["content-type"] == "text/event-stream"
    assert http.get("/health/live").status_code == 200


def test_what_else_is_sent_on_the_connection_is_not_answered(listen: Callable[..., Stream], open_sale: Sale):
    stream = listen(more=b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
    stream.hear()

    stream.socket.sendall(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")

    assert stream.is_silent(1)


def test_a_worker_takes_so_many_listeners_and_tells_the_next_to_poll(
    listen: Callable[..., Stream], open_sale: Sale, redis_server: RedisServer, static_files: None
):
    with running_server(WEB_CONCURRENCY="1", EVENT_LISTENERS="2") as server:
        first, second = listen(server=server), listen(server=server)
        first.hear()
        second.hear()

        refused = httpx.get(f"{server.url}/api/sale/events")
        second.close()
        time.sleep(0.2)
        third = listen(server=server)

        assert (refused.status_code, refused.json()["code"]) == (503, "too_many_listeners")
        assert int(refused.headers["retry-after"]) > 0
        assert third.hear()


@pytest.mark.long
def test_a_server_that_stops_ends_its_streams(
    listen: Callable[..., Stream], open_sale: Sale, redis_server: RedisServer, static_files: None
):
    with running_server(WEB_CONCURRENCY="1") as server:
        stream = listen(server=server)
        stream.hear()
        before = time.monotonic()

    assert stream.hear() is None
    assert time.monotonic() - before < 5


@pytest.mark.django_db(transaction=True)
def test_listeners_hear_that_redis_is_gone_and_that_it_is_back(
    listen: Callable[..., Stream], make_sale: MakeSale, redis_server: RedisServer
):
    make_sale()
    stream = listen()
    stream.hear()

    redis_server.stop()
    try:
        gone = stream.hear()
    finally:
        redis_server.start()
    back = stream.hear()

    assert gone
    assert (gone["event"], gone["code"]) == ("unavailable", "unavailable")
    assert back
    assert (back["event"], back["status"]) == ("status", "active")


class Connection:
    """A transport that keeps what is written to it."""

    def __init__(self) -> None:
        self.written: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def set_write_buffer_limits(self, high: int) -> None:
        pass

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        pass


async def two_listeners() -> list[tuple[Listener, Any]]:
    """Return two who ask at the same moment for the events of the current sale, and a connection for each."""
    snapshot = await snapshots.find()
    assert snapshot
    return [(EventStream("", snapshot).listener, Connection()) for _ in range(2)]


@pytest.mark.django_db(transaction=True)
async def test_who_joins_after_the_others_were_told_hears_it(make_sale: MakeSale):
    sale = await asyncio.to_thread(make_sale)
    (first, first_connection), (late, late_connection) = await two_listeners()

    first.take_over(first_connection, set())
    await asyncio.to_thread(change, sale, total_stock=11)
    await asyncio.sleep(HEARD_WITHIN_SECONDS)
    late.take_over(late_connection, set())
    first.connection_lost(None)
    late.connection_lost(None)

    assert late_connection.written == first_connection.written
    assert b'"totalStock":11' in late_connection.written[0]


@pytest.mark.django_db(transaction=True)
async def test_who_cannot_keep_up_hears_the_latest_state_alone(make_sale: MakeSale):
    sale = await asyncio.to_thread(make_sale)
    (slow, slow_connection), (quick, quick_connection) = await two_listeners()
    slow.take_over(slow_connection, set())
    quick.take_over(quick_connection, set())

    slow.pause_writing()
    for total in (11, 12):
        await asyncio.to_thread(change, sale, total_stock=total)
        await asyncio.sleep(HEARD_WITHIN_SECONDS)
    slow.resume_writing()
    slow.connection_lost(None)
    quick.connection_lost(None)

    assert [event.count(b'"totalStock":11') for event in quick_connection.written] == [1, 0]
    assert [event.count(b'"totalStock":12') for event in quick_connection.written] == [0, 1]
    assert slow_connection.written == quick_connection.written[1:]


@pytest.mark.parametrize(("pages", "pace_ms"), [(100, 2_000), (4_000, 2_000), (20_000, 10_000), (100_000, 30_000)])
def test_the_more_pages_poll_the_more_rarely_each_is_told_to(pages: int, pace_ms: int):
    calendar = Calendar()
    asks_at = [page * 2 / pages for page in range(pages)]  # in the first two seconds, then as told
    heapq.heapify(asks_at)
    told = []

    while asks_at[0] < 120:
        now = asks_at[0]
        told.append(calendar.next_pace_ms(now))
        heapq.heapreplace(asks_at, now + told[-1] / 1000)

    assert statistics.mean(told[-1000:]) == pytest.approx(pace_ms, rel=0.1)
