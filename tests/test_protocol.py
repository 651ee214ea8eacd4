"""Responses on the wire: whole, in order, and as HTTP wants them."""

import asyncio
import gc
import re
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import httpx
import orjson
import pytest
import uvicorn

from flashsale.exchange import EXCHANGE, Exchange
from flashsale.framing import memory_bytes
from flashsale.protocol import MOST_QUEUED_BYTES, LaneProtocol
from sales import store
from sales.models import Sale
from tests.servers import WebServer


def answers(server: WebServer, *parts: bytes) -> bytes:
    """Send bytes, each part a moment after the one before, and return what comes until the server closes."""
    url = httpx.URL(server.url)
    with socket.create_connection((url.host, url.port or 80), timeout=60) as client:
        for part in parts:
            with suppress(ConnectionError):  # the server may have had enough
                client.sendall(part)
            time.sleep(0.1)
        received = b""
        with suppress(ConnectionResetError):  # it closed while more was on its way
            while part := client.recv(65536):
                received += part
        return received


def purchases_of(sale: Sale) -> list[str]:
    return sorted(name.decode() for name in store.client().hkeys(store.key(sale.id, "purchases")))


def get(headers: str = "", version: str = "1.1", method: str = "GET") -> bytes:
    return f"{method} /health/live HTTP/{version}\r\nHost: localhost\r\n{headers}\r\n".encode()


def test_a_connection_stays_open_for_the_next_request(server: WebServer):
    url, received = httpx.URL(server.url), b""
    with socket.create_connection((url.host, url.port or 80), timeout=60) as client:
        client.sendall(get())
        while not received.endswith(b"}"):
            received += client.recv(65536)
        client.sendall(get("Connection: close\r\n"))
        second = b"".join(iter(lambda: client.recv(65536), b""))

    head, body = received.split(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"date: " in head
    assert b"connection: close" not in head
    assert f"content-length: {len(body)}".encode() in head
    assert body.startswith(b'{"status":"ok"')
    assert second.startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize("request_bytes", [get("Connection: close\r\n"), get(version="1.0")])
def test_a_connection_is_closed_when_the_client_wants_so(server: WebServer, request_bytes: bytes):
    received = answers(server, request_bytes)

    assert b"connection: close\r\n" in received
    assert received.endswith(b"}")


def test_the_answer_to_head_has_the_length_and_no_body(server: WebServer):
    received = answers(server, get("Connection: close\r\n", method="HEAD"))

    head, body = received.split(b"\r\n\r\n")
    assert (b"content-length: " in head, body) == (True, b"")


def test_requests_in_one_packet_are_answered_in_their_order(server: WebServer):
    nothing = b"GET /api/sales/nothing/status HTTP/1.1\r\nHost: localhost\r\n\r\n"

    received = answers(server, get() + nothing + get("Connection: close\r\n"))

    assert received.count(b"HTTP/1.1 ") == 3
    first, second, third = received.split(b"HTTP/1.1 ")[1:]
    assert (first[:3], second[:3], third[:3]) == (b"200", b"404", b"200")
    assert first.endswith(b"}")
    assert second.endswith(b"}")


def post(user_id: str, headers: str = "") -> tuple[bytes, bytes]:
    """Return the head and the body of an attempt to buy."""
    body = orjson.dumps({"userId": user_id})
    head = f"Host: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
    return f"POST /api/sale/purchase HTTP/1.1\r\n{head}".encode(), body


@pytest.fixture
def shown_sale(open_sale: Sale, seen: Callable[[], None]) -> Sale:
    """A sale that every worker knows of."""
    seen()
    return open_sale


def test_attempts_in_one_packet_are_decided_separately(server: WebServer, shown_sale: Sale):
    packet = b"".join(b"".join(post(*shopper)) for shopper in (("ada",), ("bob",), ("ada", "Connection: close\r\n")))

    received = answers(server, packet)

    assert re.findall(rb'"code":"(\w+)"', received) == [b"purchased", b"purchased", b"already_purchased"]
    assert set(purchases_of(shown_sale)) == {"ada", "bob"}


def test_a_body_that_comes_in_pieces_is_read_whole(server: WebServer, shown_sale: Sale):
    head, body = post("ada", "Connection: close\r\n")

    received = answers(server, head, body[:5], body[5:])

    assert b'"code":"purchased"' in received
    assert purchases_of(shown_sale) == ["ada"]


def test_expect_100_continue_is_answered_before_the_body(server: WebServer, shown_sale: Sale):
    head, body = post("ada", "Connection: close\r\nExpect: 100-continue\r\n")

    received = answers(server, head, body)

    assert received.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")
    assert purchases_of(shown_sale) == ["ada"]


@pytest.mark.parametrize("padding", ["", "?" + "x" * 500])
def test_an_address_is_read_decoded(server: WebServer, shown_sale: Sale, padding: str):
    answers(server, b"".join(post("ada b/c", "Connection: close\r\n")))

    path = f"/api/sale/user/ada%20b/c{padding}"
    received = answers(server, f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())

    assert b'"hasPurchased":true' in received


def test_an_upgrade_request_is_answered_and_ends_the_connection(server: WebServer):
    upgrade = "Connection: upgrade\r\nUpgrade: h2c\r\n"

    received = answers(server, get(upgrade) + get(), get())

    assert received.count(b"HTTP/1.1") == 1
    assert received.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"connection: close\r\n" in received


def test_an_upgrade_request_with_a_body_is_refused(server: WebServer, shown_sale: Sale):
    head, body = post("ada", "Connection: upgrade\r\nUpgrade: h2c\r\n")

    received = answers(server, head, body, b"".join(post("bob")))

    assert re.findall(rb"HTTP/1.1 (\d+)", received) == [b"400"]
    assert b"without the header Upgrade" in received
    assert purchases_of(shown_sale) == []


@asynccontextmanager
async def served(app: Any, **options: Any) -> AsyncIterator[tuple[uvicorn.Server, tuple[str, int]]]:
    """Serve an application by our protocol; give the server and its address."""
    config = uvicorn.Config(app, http=LaneProtocol, lifespan="off", log_config=None, **options)
    server, listening = uvicorn.Server(config), socket.create_server(("127.0.0.1", 0))
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    yield server, listening.getsockname()
    server.should_exit = True
    await serving


async def _hello(scope: Any, receive: Any, send: Any) -> None:
    scope[EXCHANGE].respond(200, b"content-length: 5\r\n", b"hello")


async def test_pipelined_requests_with_unread_answers_stay_outside():
    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(0.01)
        await _hello(scope, receive, send)

    held: list[int] = []

    async with served(slow) as (_, address):
        _, writer = await asyncio.open_connection(*address)
        writer.write(get() * 5_000)
        for _ in range(8):
            await asyncio.sleep(0.05)
            held.append(sum(type(found) is Exchange for found in gc.get_objects()))
        writer.close()

    assert max(held) <= MOST_QUEUED_BYTES / memory_bytes(b"/health/live", []) + 10


@pytest.mark.pure
async def test_requests_of_a_departed_client_are_not_run(caplog: pytest.LogCaptureFixture):
    ran: list[str] = []
    has_left = asyncio.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        ran.append(scope["path"])
        await has_left.wait()
        await _hello(scope, receive, send)

    async with served(slow) as (server, address):
        _, writer = await asyncio.open_connection(*address)
        writer.write(get() * 10)
        await until(lambda: bool(ran))
        writer.transport.abort()
        with suppress(ConnectionError):
            await writer.wait_closed()
        has_left.set()
        await until(lambda: not server.server_state.connections and not server.server_state.tasks)

    assert 1 <= len(ran) <= 3  # it shows when an answer cannot be written
    assert caplog.records == []


async def until(is_so: Callable[[], bool]) -> None:
    """Return once it is so."""
    async with asyncio.timeout(60):
        while not is_so():
            await asyncio.sleep(0.01)


@pytest.mark.pure
async def test_an_idle_connection_is_closed_after_its_timeout():
    async def ask_twice(address: tuple[str, int]) -> tuple[bytes, float]:
        """Return what came after two answers, and how long after the second request the connection was closed."""
        reader, writer = await asyncio.open_connection(*address)
        for pause in (0.0, 0.3):
            await asyncio.sleep(pause)
            asked = time.monotonic()
            writer.write(get())
            await reader.readuntil(b"hello")
        rest = await reader.read()
        writer.close()
        return rest, time.monotonic() - asked

    async with served(_hello, timeout_keep_alive=1) as (_, address):
        for _ in range(20):  # a machine that stands still for a second has closed it too soon
            with suppress(asyncio.IncompleteReadError, ConnectionError):
                rest, idle_seconds = await ask_twice(address)
                break
    assert rest == b""
    assert idle_seconds >= 1.0


@pytest.mark.pure
async def test_finished_requests_leave_nothing_for_garbage_collection():
    async with served(_hello) as (_, address):
        gc.collect()
        gc.disable()  # what is found now was freed by nobody
        try:
            reader, writer = await asyncio.open_connection(*address)
            for _ in range(2):
                writer.write(get())
                await reader.readuntil(b"hello")
            writer.close()
            await until(lambda: not any(type(found) in (LaneProtocol, Exchange) for found in gc.get_objects()))
        finally:
            gc.enable()


async def _fails(scope: Any, receive: Any, send: Any) -> None:
    raise ZeroDivisionError


async def _forgets(scope: Any, receive: Any, send: Any) -> None:
    pass


async def _breaks_off(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})


@pytest.mark.pure
@pytest.mark.parametrize(
    ("app", "status", "logged"),
    [
        (_fails, b"500", "has failed"),
        (_forgets, b"500", "without a whole answer"),
        (_breaks_off, b"200", "without a whole"),
    ],
)
async def test_a_broken_application_is_answered_for(
    app: Any, status: bytes, logged: str, caplog: pytest.LogCaptureFixture
):
    async with served(app) as (_, address):
        reader, writer = await asyncio.open_connection(*address)
        writer.write(get() * 2)
        received = await reader.read()  # to the end of the connection
        writer.close()

    assert re.findall(rb"HTTP/1.1 (\d+)", received) == [status]
    assert [logged in record.message for record in caplog.records] == [True]


@pytest.mark.pure
@pytest.mark.usefixtures("static_files")
async def test_another_server_gets_the_messages_of_asgi():
    from flashsale.asgi import application

    transport: Any = httpx.ASGITransport(app=application)  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        response = await client.get("/health/live")

    assert (response.status_code, response.headers["content-type"]) == (200, "application/json")
    assert response.json()["status"] == "ok"
