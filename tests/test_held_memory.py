"""What a stranger's connection may hold of a worker's memory, and what all bodies of a worker hold together."""

import asyncio
import gc
import socket
import time
import tracemalloc
from collections.abc import Callable, Iterator

import httpx
import psutil
import pytest

from flashsale import bodies
from sales.models import Sale
from tests.servers import PATIENT, WebServer, free_port
from tests.test_dear_input import FORM, MakeCaller, full, get, make_caller, post  # noqa: F401 (a fixture)

LARGEST_BYTES = 64 * 1024
CONNECTIONS = 40

FIELDS = "".join(f"x-{number}: {'y' * 140}\r\n" for number in range(95))
LONG_QUERY = "/admin/login/?" + full("a")[:13_000]
ASKED = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"


def begun(path: str, fields: str, declared: int = 8_192, sent: int = 8_190) -> bytes:
    """Return a request whose body does not end."""
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {FORM}\r\n{fields}"
    return f"{head}Content-Length: {declared}\r\n\r\n".encode() + b"x" * sent


HELD = {
    "a head of many fields": get("/", FIELDS)[:-2],
    "a head of empty fields": get("/", "a:\r\n" * 98)[:-2],
    "a head of one field": get("/", f"x: {full('y')}\r\n")[:-2],
    "a long address": get(LONG_QUERY)[:-2],
    "a body under a head of many fields": begun("/api/sale/purchase", FIELDS),
    "a body under many cookies": begun("/admin/login/", f"Cookie: {full('a=;')}\r\n"),
    "a body under a long address": begun(LONG_QUERY, ""),
    "a body of 9 MB": begun("/admin/login/", FIELDS, 9_500_000, 200_000),
    "a body of 9 MB at the sale's form": begun("/admin/sales/sale/add/", "Cookie: sessionid=x\r\n", 9_500_000, 200_000),
    "requests": ASKED * 5_000,
    "requests of many fields": get("/", "a:\r\n" * 98) * 500,
    "a body behind a request": ASKED + begun("/api/sale/purchase", FIELDS, 300_000, 200_000),
    "nothing after a large head": get("/", FIELDS),
    "nothing after a large form": post("/", FORM, b"userId=" + b"x" * 8_000),
    "a body that nobody asked for": begun("/", FIELDS, 300_000, 200_000).replace(b"POST", b"GET", 1),
}


async def until(is_so: Callable[[], bool]) -> None:
    """Return once it is so."""
    deadline = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


def held_by_each() -> float:
    gc.collect()
    return tracemalloc.get_traced_memory()[0] / CONNECTIONS


@pytest.mark.long
@pytest.mark.parametrize("kind", HELD)
async def test_a_strangers_connection_holds_little(make_caller: MakeCaller, kind: str):  # noqa: F811
    caller = make_caller("open")
    for _ in range(3):
        await caller.ask(ASKED)
    opened = [caller.open() for _ in range(CONNECTIONS)]
    gc.collect()
    tracemalloc.start()

    try:
        for protocol, _ in opened:
            protocol.data_received(bytes(bytearray(HELD[kind])))
        await until(lambda: held_by_each() < LARGEST_BYTES)
    finally:
        tracemalloc.stop()
        for protocol, wire in opened:
            wire.written = b""
            protocol.connection_lost(None)
        await asyncio.sleep(0.05)


@pytest.mark.pure
async def test_the_body_that_is_longest_under_way_makes_room(make_caller: MakeCaller, monkeypatch: pytest.MonkeyPatch):  # noqa: F811
    monkeypatch.setattr(bodies, "MOST_BYTES", 5 * 8_190)
    caller = make_caller("open")
    opened = [caller.open() for _ in range(8)]

    for protocol, _ in opened:
        protocol.data_received(begun("/api/sale/purchase", ""))
        await asyncio.sleep(0.01)
    answers = [wire.written for _, wire in opened]
    held = bodies.Held.total_bytes
    small = (await caller.ask(post("/api/sale/purchase", "application/json", b'{"userId":"ada"}')))[1]
    large = (await caller.ask(post("/api/sale/purchase", "application/json", b'{"userId":"ada"}' + b" " * 8_000)))[1]
    for protocol, _ in opened:
        protocol.connection_lost(None)
    await until(lambda: bodies.Held.total_bytes == 0)

    assert [answer[9:12] for answer in answers] == [b"503"] * 3 + [b""] * 5
    assert all(b'"code":"unavailable"' in answer and b"retry-after: 1" in answer for answer in answers[:3])
    assert held == 5 * 8_190
    assert (small[9:12], large[9:12]) == (b"409", b"409")


@pytest.mark.pure
async def test_bodies_that_are_whole_are_not_given_up(make_caller: MakeCaller, monkeypatch: pytest.MonkeyPatch):  # noqa: F811
    monkeypatch.setattr(bodies, "MOST_BYTES", 10_000)
    caller, large = make_caller("open"), post("/nowhere", FORM, b"x" * 8_000)
    opened = [caller.open() for _ in range(2)]

    for protocol, _ in opened:  # Django's thread has the first
        protocol.data_received(large)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    refused = opened[1][1].written
    while not opened[0][1].written:
        await asyncio.sleep(0.01)

    assert refused[9:12] == b"503"
    assert opened[0][1].written[9:12] == b"404"
    await until(lambda: bodies.Held.total_bytes == 0)


@pytest.fixture
def one_worker(redis_server: object, static_files: None, django_db_setup: None) -> Iterator[WebServer]:
    with WebServer({"PORT": str(free_port()), "WEB_CONCURRENCY": "1", "ADDRESS_RATE": "off"}, PATIENT) as server:
        yield server


def memory_bytes(server: WebServer) -> int:
    assert server.popen
    return max(child.memory_info().rss for child in psutil.Process(server.popen.pid).children())


@pytest.mark.long
def test_unfinished_bodies_take_little_memory_and_block_no_purchase(
    one_worker: WebServer, open_sale: Sale, seen: Callable[[], None]
):
    seen()
    url = httpx.URL(one_worker.url)
    before = memory_bytes(one_worker)
    requests = [begun("/admin/login/", "", 9_500_000, 200_000), begun("/api/sale/purchase", FIELDS)]
    opened = [socket.create_connection((url.host, url.port or 80)) for _ in range(400)]
    try:
        for number, connection in enumerate(opened):
            connection.setblocking(False)
            connection.send(requests[number % 2])
        time.sleep(1)  # it has read some; the more it has read the stricter this is
        grown = memory_bytes(one_worker) - before
        bought = httpx.post(f"{one_worker.url}/api/sale/purchase", json={"userId": "ada"})
    finally:
        for connection in opened:
            connection.close()

    assert bought.json()["code"] == "purchased"
    assert grown < len(opened) * LARGEST_BYTES
