"""Requests that two servers may read differently, heads without an end, and what is answered around them."""

import asyncio
import re
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

import httpx
import pytest
import uvicorn

from flashsale import closing, framing
from flashsale.protocol import LaneProtocol
from sales.models import Sale
from tests.servers import WebServer
from tests.test_dear_input import MakeCaller, make_caller  # noqa: F401 (a fixture)
from tests.test_protocol import _hello, get, post, purchases_of

LONG = "a" * 70_000


@pytest.fixture
def shown_sale(open_sale: Sale, seen: Callable[[], None]) -> Sale:
    """A sale that every worker knows of."""
    seen()
    return open_sale


def answers(server: WebServer, *parts: bytes) -> bytes:
    """Send bytes, each part a moment after the one before, and return what comes until the server closes."""
    url, received = httpx.URL(server.url), b""
    with socket.create_connection((url.host, url.port or 80), timeout=60) as client:
        for number, part in enumerate(parts):
            time.sleep(0.1 * bool(number))
            with suppress(ConnectionError):  # the server may have had enough
                client.sendall(part)
        with suppress(ConnectionResetError):  # it closed while more was on its way
            while part := client.recv(65536):
                received += part
    return received


def statuses(received: bytes) -> list[bytes]:
    return re.findall(rb"HTTP/1\.1 (\d+)", received)


def purchase(user_id: str) -> bytes:
    return b"".join(post(user_id))


def chunked_purchase(user_id: str, headers: str = "Transfer-Encoding: chunked\r\n", trailers: str = "") -> bytes:
    _, body = post(user_id)
    head = f"POST /api/sale/purchase HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{headers}\r\n"
    return head.encode() + b"%x\r\n%b\r\n0\r\n%b\r\n" % (len(body), body, trailers.encode())


@pytest.mark.pure
@pytest.mark.parametrize("target", [b"http://elsewhere/", b"http://you@localhost/", b"ftp://localhost/"])
def test_a_target_of_another_host_is_refused(target: bytes):
    with pytest.raises(framing.Refused):
        framing.checked_target("1.1", b"GET", target, [(b"host", b"localhost")])


@pytest.mark.pure
@pytest.mark.parametrize("codings", [b"gzip, chunked", b",chunked", b"x"])
def test_no_coding_but_chunked_is_taken(codings: bytes):
    with pytest.raises(framing.Refused):
        framing.checked_target("1.1", b"POST", b"/", [(b"transfer-encoding", codings)])


@pytest.mark.parametrize(
    "headers",
    [
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: ,chunked\r\n",
        "Transfer-Encoding: x\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: 5\r\nContent-Length: 5\r\n",
    ],
)
def test_a_body_with_ambiguous_length_is_refused(server: WebServer, shown_sale: Sale, headers: str):
    received = answers(server, chunked_purchase("ada", headers) + purchase("bob"))

    assert statuses(received) == [b"400"]
    assert b"connection: close\r\n" in received
    assert purchases_of(shown_sale) == []


def test_chunks_in_the_old_version_are_refused(server: WebServer, shown_sale: Sale):
    received = answers(server, chunked_purchase("ada").replace(b"HTTP/1.1", b"HTTP/1.0"))

    assert statuses(received) == [b"400"]
    assert purchases_of(shown_sale) == []


@pytest.mark.parametrize(
    "line",
    [
        "GET http://elsewhere/health/live HTTP/1.1",
        "GET ftp://localhost/health/live HTTP/1.1",
        "GET http://you@localhost/health/live HTTP/1.1",
        "GET /health/live#part HTTP/1.1",
        "GET * HTTP/1.1",
        "GET /health/live HTTP/2.0",
        "GET /health/live",
    ],
)
def test_a_request_line_that_is_not_plain_is_refused(server: WebServer, line: str):
    received = answers(server, f"{line}\r\nHost: localhost\r\n\r\n".encode() + get())

    assert statuses(received) == [b"400"]
    assert received.endswith(b"This is not a valid HTTP request.")


@pytest.mark.parametrize(
    "target", ["http://localhost/health/live", "HTTP://LOCALHOST/health/live?x", "http://localhost"]
)
def test_a_target_with_the_host_in_it_is_understood(server: WebServer, shown_sale: Sale, target: str):
    received = answers(server, f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())

    assert statuses(received) == [b"200"]


def test_trailers_after_a_chunked_body_are_no_headers(server: WebServer, shown_sale: Sale):
    trailers = "Content-Type: text/plain\r\nOrigin: https://elsewhere\r\nIdempotency-Key: one\r\n"

    last = chunked_purchase("bob", "Transfer-Encoding: chunked\r\nConnection: close\r\n", trailers)
    received = answers(server, chunked_purchase("ada", trailers=trailers) + last)

    assert re.findall(rb'"code":"(\w+)"', received) == [b"purchased", b"purchased"]


def test_a_purchase_in_front_of_nonsense_has_its_answer(server: WebServer, shown_sale: Sale):
    received = answers(server, purchase("ada") + get() + b"nonsense\r\n\r\n" + purchase("bob"))

    assert statuses(received) == [b"200", b"200", b"400"]
    assert b'"code":"purchased"' in received
    assert purchases_of(shown_sale) == ["ada"]


def test_a_purchase_with_a_malformed_body_is_refused_once(server: WebServer, shown_sale: Sale):
    whole = chunked_purchase("ada")

    received = answers(server, get() + whole[:-10], b"nonsense\r\n\r\n", purchase("bob"))

    assert statuses(received) == [b"200", b"400"]
    assert purchases_of(shown_sale) == []


def test_a_malformed_body_after_the_answer_ends_the_connection(server: WebServer):
    start = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"

    received = answers(server, start, b"nonsense\r\n\r\n", get())

    assert statuses(received) == [b"200"]


@pytest.mark.pure
@pytest.mark.parametrize(("headers", "piece_bytes"), [("a:\r\n" * 101, 2_000), (f"X: {LONG}\r\n", 1_000)])
async def test_a_head_has_a_bound(make_caller: MakeCaller, headers: str, piece_bytes: int):  # noqa: F811
    raw = get(headers)

    _, answer = await make_caller("open").ask(
        *(raw[start : start + piece_bytes] for start in range(0, len(raw), piece_bytes))
    )

    assert statuses(answer) == [b"431"]


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize(
    "headers", [f"X: {LONG}\r\n", f"{LONG}: x\r\n", "X: x\r\n" * 100, "X: x\r\n" * 12_000, f"X: {LONG * 3}\r\n"]
)
def test_a_head_that_is_too_large_is_refused(server: WebServer, headers: str, parts: int):
    raw = get(headers)
    size = len(raw) // parts + 1

    received = answers(server, *(raw[start : start + size] for start in range(0, len(raw), size)))

    assert statuses(received) == [b"431"]
    assert b"connection: close\r\n" in received


@pytest.mark.parametrize("parts", [1, 3])
def test_a_head_that_is_just_not_too_large_is_read(server: WebServer, parts: int):
    raw = get("Connection: close\r\n" + "X: x\r\n" * 97 + f"X: {'a' * 15_700}\r\n")
    size = len(raw) // parts + 1

    received = answers(server, *(raw[start : start + size] for start in range(0, len(raw), size)))

    assert statuses(received) == [b"200"]


def test_an_unfinished_head_over_the_limit_is_refused(server: WebServer):
    many = answers(server, get("a:\r\n" * 101)[:-2])
    large = answers(server, *[get(f"X: {'a' * 20_000}")[start : start + 3_000] for start in range(0, 21_000, 3_000)])

    assert (statuses(many), statuses(large)) == ([b"431"], [b"431"])


@pytest.fixture
async def hasty(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    """The port of a server that waits for a head for 0.3 s, and for a request for 1 s."""
    monkeypatch.setattr(closing, "HEAD_WITHIN_SECONDS", 0.3)
    config = uvicorn.Config(_hello, http=LaneProtocol, lifespan="off", log_level="warning", timeout_keep_alive=1)
    server, listening = uvicorn.Server(config), socket.create_server(("127.0.0.1", 0))
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    yield listening.getsockname()[1]
    server.should_exit = True
    await serving


async def everything(reader: asyncio.StreamReader) -> bytes:
    """Return what comes until the server closes; to close while we still send resets the connection."""
    received = b""
    with suppress(ConnectionResetError):
        while piece := await reader.read(4096):
            received += piece
    return received


@pytest.mark.pure
@pytest.mark.parametrize("before", [b"", get()])
async def test_a_slowly_dripping_head_is_cut_off_in_time(hasty: int, before: bytes):
    reader, writer = await asyncio.open_connection("127.0.0.1", hasty)
    writer.write(before)
    reading = asyncio.create_task(everything(reader))

    for byte in get(f"X: {'a' * 1_000}"):
        writer.write(bytes([byte]))
        await asyncio.sleep(0.02)
        if reading.done():
            break
    writer.close()

    assert statuses(await reading) == [b"200"] * bool(before) + [b"408"]


@pytest.mark.pure
async def test_a_connection_without_a_request_is_closed_after_its_time(hasty: int):
    reader, writer = await asyncio.open_connection("127.0.0.1", hasty)

    received = await asyncio.wait_for(reader.read(), 60)
    writer.close()

    assert received == b""


def target(path: str, size: int) -> str:
    return f"{path}?{'x' * (size - len(path))}"


def test_an_address_of_the_crowd_is_short(server: WebServer, shown_sale: Sale):
    paths = ["/api/sale/status", "/", "/api/docs", "/health/live", "/admin/login/"]

    just = [httpx.get(server.url + target(path, 4_096)).status_code for path in paths]
    longer = [httpx.get(server.url + target(path, 4_097)) for path in paths]
    long_path = httpx.get(f"{server.url}/admin/{'x' * 4_096}/")

    assert just == [200] * 5
    assert [answer.status_code for answer in longer] == [414] * 4 + [200], "a list of the desk may have a long filter"
    assert longer[0].json()["code"] == "invalid_request"
    assert "<h1>We did not understand that</h1>" in longer[1].text
    assert long_path.status_code == 414


def test_a_large_body_does_not_count_towards_a_split_head(server: WebServer):
    body = b"x" * 200_000
    head = f"POST /api/sale/purchase HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode()

    received = answers(server, head[:30], head[30:] + body + get()[:30], get("Connection: close\r\n")[30:])

    assert statuses(received) == [b"413", b"200"]


@pytest.mark.parametrize(
    "rest", [b"2;" + b"a" * 400_000, b"0\r\n" + b"X: y\r\n" * 70_000, b"0\r\nX: " + b"a" * 400_000]
)
def test_framing_without_an_end_is_refused(server: WebServer, rest: bytes):
    start = chunked_purchase("ada").partition(b"\r\n\r\n")[0] + b"\r\n\r\n"

    received = answers(server, start, rest[:200_000], rest[200_000:])

    assert statuses(received) == [b"400"]


@pytest.mark.parametrize("cut", [b"", b"GET /health/li", purchase("bob")[:-3], chunked_purchase("bob")[:-3]])
def test_a_client_that_stops_sending_gets_its_answers(server: WebServer, shown_sale: Sale, cut: bytes):
    url = httpx.URL(server.url)
    received = b""

    with socket.create_connection((url.host, url.port or 80), timeout=60) as client:
        # Linux keeps the bytes back for the packet that says that they were the last.
        client.send(purchase("ada") + cut, getattr(socket, "MSG_MORE", 0))
        client.shutdown(socket.SHUT_WR)
        while part := client.recv(65536):
            received += part

    assert statuses(received) == [b"200"]
    assert purchases_of(shown_sale) == ["ada"]


def test_nonsense_leaves_no_line_in_the_log(server: WebServer):
    def lines() -> str:
        """Return what is logged meanwhile: also what a worker says of something else, but not each time."""
        before = server.log.read_text()
        answers(server, b"nonsense\r\n\r\n")
        answers(server, get("Connection: upgrade\r\nUpgrade: websocket\r\n"), b"nonsense\r\n\r\n")
        answers(server, get(f"X: {LONG}\r\n"))
        return server.log.read_text().removeprefix(before)

    assert any(lines() == "" for _ in range(10))
