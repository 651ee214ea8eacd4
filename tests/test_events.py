"""Event streams: what a listener hears, when, and when it is told to poll."""

import asyncio
import heapq
import json
import socket
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest
from django.utils import timezone

from sales import publishing, snapshots
from sales.events import EVERY_SECONDS, EventStream, Listener
from sales.models import Sale
from sales.statuses import Calendar
from tests.conftest import MakeSale
from tests.servers import PATIENT, RedisServer, WebServer, free_port

# Far longer than any event takes: who waits for one goes on as soon as it has come.
HEARD_WITHIN_SECONDS = 60


def change(sale: Sale, **fields: Any) -> None:
    for name, value in fields.items():
        setattr(sale, name, value)
    sale.save()
    publishing.publish(sale)


class Stream:
    """A listener, event by event."""

    def __init__(self, server: WebServer, path: str = "/api/sale/events", more: bytes = b""):
        url = httpx.URL(server.url)
        self.socket = socket.create_connection((url.host, url.port or 80), timeout=HEARD_WITHIN_SECONDS)
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

    def hear_until(self, is_it: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
        """Return the events up to the first that is it."""
        heard: list[dict[str, Any]] = []
        while event := self.hear():
            heard.append(event)
            if is_it(event):
                return heard
        raise AssertionError(f"the stream has ended after {heard}")

    def read_until(self, words: bytes) -> bytes:
        """Return all that comes, up to the line with these words."""
        received = b""
        for line in self._file:
            received += line
            if words in line:
                return received
        raise AssertionError(f"the stream has ended after {received!r}")

    def close(self) -> None:
        self._file.close()
        self.socket.close()


@pytest.fixture
def listen(server: WebServer, seen: Callable[[], None]) -> Iterator[Callable[..., Stream]]:
    with ExitStack() as opened:
        is_first = iter([True])

        def open_it(path: str = "/api/sale/events", **options: Any) -> Stream:
            if next(is_first, False):
                seen()
            stream = Stream(options.pop("server", server), path, **options)
            opened.callback(stream.close)
            return stream

        yield open_it


@contextmanager
def running_server(**environment: str) -> Iterator[WebServer]:
    with WebServer({"PORT": str(free_port()), **environment}, PATIENT) as server:
        yield server


def test_a_stream_begins_with_the_status(listen: Callable[..., Stream], open_sale: Sale, http: httpx.Client):
    stream = listen()

    assert "200 OK" in stream.head
    assert "content-type: text/event-stream" in stream.head
    assert "cache-control: no-store" in stream.head
    assert "content-length" not in stream.head
    asked = http.get("/api/sale/status").json()
    assert (stream.hear() or {}) | {"serverTime": 0} == asked | {"serverTime": 0, "event": "status"}


def test_a_change_reaches_every_listener_of_every_worker(listen: Callable[..., Stream], open_sale: Sale):
    streams = [listen(f"/api/sales/{open_sale.slug}/events") for _ in range(10)]
    for stream in streams:
        assert stream.hear()

    change(open_sale, paused=True)

    assert [stream.hear_until(is_status)[-1]["status"] for stream in streams] == ["paused"] * 10


def test_a_purchase_changes_what_is_left(listen: Callable[..., Stream], open_sale: Sale, http: httpx.Client):
    stream = listen()
    stream.hear()

    http.post("/api/sale/purchase", json={"userId": "ada@example.com"}).raise_for_status()

    assert stream.hear_until(is_status)[-1]["remainingStock"] == 9


def test_a_listener_hears_the_start(listen: Callable[..., Stream], make_sale: MakeSale):
    sale = make_sale(starts_in=3600)
    stream = listen()
    first = stream.hear()
    change(sale, starts_at=timezone.now() + timedelta(seconds=1))

    *before, started = stream.hear_until(lambda heard: heard.get("status") == "active")

    assert first
    assert {heard["status"] for heard in (first, *before) if is_status(heard)} == {"upcoming"}
    assert datetime.fromisoformat(started["serverTime"]) >= datetime.fromisoformat(started["startTime"])


def test_nothing_is_sent_while_nothing_changes(listen: Callable[..., Stream], open_sale: Sale):
    stream = listen()
    stream.hear()
    time.sleep(2.5 * EVERY_SECONDS)

    change(open_sale, paused=True)

    heard = stream.hear()
    assert heard
    assert heard["status"] == "paused"


def test_without_a_sale_there_is_no_stream(http: httpx.Client, seen: Callable[[], None], db: None):
    seen()

    response = http.get("/api/sales/nothing/events")

    assert (response.status_code, response.json()["code"]) == (404, "no_sale")


def test_the_streams_of_a_sale_end_when_it_is_unpublished(listen: Callable[..., Stream], open_sale: Sale):
    stream = listen()
    stream.hear()

    change(open_sale, published=False)

    assert stream.hear() is None


def test_head_gets_only_the_headers(http: httpx.Client, open_sale: Sale, seen: Callable[[], None]):
    seen()

    response = http.head("/api/sale/events")

    assert response.headers["content-type"] == "text/event-stream"
    assert http.get("/health/live").status_code == 200


def test_further_requests_on_the_connection_are_not_answered(listen: Callable[..., Stream], open_sale: Sale):
    stream = listen(more=b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
    stream.hear()

    stream.socket.sendall(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
    change(open_sale, paused=True)

    received = stream.read_until(b"paused")
    assert b"HTTP/1.1" not in received
    assert b'"pid"' not in received


def test_a_full_worker_tells_the_next_listener_to_poll(
    listen: Callable[..., Stream], open_sale: Sale, redis_server: RedisServer, static_files: None
):
    with running_server(WEB_CONCURRENCY="1", EVENT_LISTENERS="2") as server:
        first, second = listen(server=server), listen(server=server)
        first.hear()
        second.hear()

        refused = httpx.get(f"{server.url}/api/sale/events")
        second.close()
        thirds = [listen(server=server)]
        while "200 OK" not in thirds[-1].head:  # until it has noticed that there is room
            thirds.append(listen(server=server))

        assert (refused.status_code, refused.json()["code"]) == (503, "too_many_listeners")
        assert int(refused.headers["retry-after"]) > 0
        assert thirds[-1].hear()

    while first.hear():  # a server that stops ends its streams
        pass


@pytest.mark.django_db(transaction=True)
def test_listeners_hear_of_a_redis_outage_and_its_end(
    listen: Callable[..., Stream], make_sale: MakeSale, redis_server: RedisServer
):
    make_sale()
    stream = listen()
    stream.hear()

    redis_server.stop()
    try:
        gone = stream.hear_until(lambda heard: not is_status(heard))[-1]
    finally:
        redis_server.start()
    back = stream.hear_until(is_status)[-1]

    assert (gone["event"], gone["code"]) == ("unavailable", "unavailable")
    assert back["status"] == "active"


def is_status(heard: dict[str, Any]) -> bool:
    """Return whether it is a status; while Redis does not answer in time, listeners hear that."""
    return bool(heard["event"] == "status")


async def until(is_so: Callable[[], object]) -> None:
    deadline = time.monotonic() + HEARD_WITHIN_SECONDS
    while not is_so():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


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
async def test_a_late_listener_hears_the_latest_change(make_sale: MakeSale):
    sale = await asyncio.to_thread(make_sale)
    (first, first_connection), (late, late_connection) = await two_listeners()

    first.take_over(first_connection, set())
    await asyncio.to_thread(change, sale, total_stock=11)
    await until(lambda: first_connection.written)
    late.take_over(late_connection, set())
    first.connection_lost(None)
    late.connection_lost(None)

    assert late_connection.written == first_connection.written
    assert b'"totalStock":11' in late_connection.written[0]


@pytest.mark.django_db(transaction=True)
async def test_a_slow_listener_hears_only_the_latest_state(make_sale: MakeSale):
    sale = await asyncio.to_thread(make_sale)
    (slow, slow_connection), (quick, quick_connection) = await two_listeners()
    slow.take_over(slow_connection, set())
    quick.take_over(quick_connection, set())

    slow.pause_writing()
    for number, total in enumerate((11, 12), start=1):
        await asyncio.to_thread(change, sale, total_stock=total)
        await until(lambda number=number: len(quick_connection.written) == number)  # type: ignore[misc]
    slow.resume_writing()
    slow.connection_lost(None)
    quick.connection_lost(None)

    assert [event.count(b'"totalStock":11') for event in quick_connection.written] == [1, 0]
    assert [event.count(b'"totalStock":12') for event in quick_connection.written] == [0, 1]
    assert slow_connection.written == quick_connection.written[1:]


@pytest.mark.parametrize(("pages", "pace_ms"), [(100, 2_000), (4_000, 2_000), (20_000, 10_000), (100_000, 30_000)])
def test_polling_slows_as_more_pages_poll(pages: int, pace_ms: int):
    calendar = Calendar()
    asks_at = [page * 2 / pages for page in range(pages)]  # in the first two seconds, then as told
    heapq.heapify(asks_at)
    told = []

    while asks_at[0] < 80:
        now = asks_at[0]
        told.append(calendar.next_pace_ms(now))
        heapq.heapreplace(asks_at, now + told[-1] / 1000)

    assert statistics.mean(told[-1000:]) == pytest.approx(pace_ms, rel=0.1)
