"""Bodies: how large they may be and how long they may take, whatever way a client sends them."""

import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import httpx
import pytest

from sales import store
from sales.models import Sale
from tests.servers import WebServer

HEAD = b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n%b\r\n"
WITH_LENGTH, CHUNKED = b"Content-Length: 8000\r\n", b"Transfer-Encoding: chunked\r\n"


def connect(server: WebServer) -> socket.socket:
    host, port = server.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=60)


def send(server: WebServer, request: bytes, until: bytes = b"\r\n\r\n") -> bytes:
    """Return the answer as far as these bytes."""
    with connect(server) as connection:
        connection.sendall(request)
        return received(connection, until)


def received(connection: socket.socket, until: bytes) -> bytes:
    found = b""
    while until not in found and (part := connection.recv(65536)):
        found += part
    return found


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def test_a_slowly_dripping_body_is_cut_off_in_time(server: WebServer):
    """One byte at a time, so that the connection is never idle: with a length, in chunks, and to a page of Django's."""
    drips = [(b"/api/sale/purchase", WITH_LENGTH, b" "), (b"/api/sale/purchase", CHUNKED, chunk(b" "))]
    drips.append((b"/orders/find/", WITH_LENGTH, b" "))
    began = time.monotonic()
    connections = [connect(server) for _ in drips]
    for connection, (path, framing, _) in zip(connections, drips, strict=True):
        connection.sendall(HEAD % (path, framing))

    with ThreadPoolExecutor(len(drips)) as threads:
        answers = [threads.submit(received, connection, b"\r\n\r\n") for connection in connections]
        while not all(answer.done() for answer in answers):
            for connection, (_, _, drop) in zip(connections, drips, strict=True):
                with suppress(ConnectionError):  # it has its answer
                    connection.sendall(drop)
            time.sleep(0.2)
    seconds = time.monotonic() - began
    for connection in connections:
        connection.close()

    assert [answer.result().split(b" ", 2)[1] for answer in answers] == [b"408"] * 3
    assert seconds > 4, "within its time a body may be slow"


def test_a_body_in_chunks_buys(server: WebServer, open_sale: Sale, seen: Callable[[], None]):
    seen()
    body = chunk(b'{"userId":') + chunk(b' "ada"}') + b"0\r\n\r\n"

    answer = send(server, HEAD % (b"/api/sale/purchase", CHUNKED) + body)

    assert answer.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("sizes", [[8193], [4096, 4096, 1], [100] * 82], ids=["at once", "in three", "in many"])
def test_chunks_that_come_to_more_than_8_kib_are_refused(
    server: WebServer, open_sale: Sale, seen: Callable[[], None], sizes: list[int]
):
    seen()
    body = b"".join(chunk(b" " * size) for size in sizes)

    answer = send(server, HEAD % (b"/api/sale/purchase", CHUNKED) + body)

    assert answer.startswith(b"HTTP/1.1 413 ")
    assert store.client().hlen(store.key(open_sale.id, "purchases")) == 0


def test_a_body_in_very_small_chunks_is_refused(server: WebServer, open_sale: Sale, seen: Callable[[], None]):
    """Of each chunk the parser tells apart: eight thousand in one packet cost a purchase's time forty times over."""
    seen()
    body = b"".join(chunk(b" ") for _ in range(4_000)) + chunk(b'{"userId": "ada"}') + b"0\r\n\r\n"

    answer = send(server, HEAD % (b"/api/sale/purchase", CHUNKED) + body, b"too many small chunks")

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"too many small chunks" in answer
    assert store.client().hlen(store.key(open_sale.id, "purchases")) == 0


@pytest.mark.parametrize("path", ["/orders/find/", "/shopper/", "/api/shopper/code", "/admin/login/", "/nowhere"])
def test_a_strangers_body_is_small_wherever_it_goes(server: WebServer, path: str):
    small = httpx.post(f"{server.url}{path}", data={"userId": "x" * 8_000})
    large = httpx.post(f"{server.url}{path}", data={"userId": "x" * 8_192})

    assert small.status_code != 413
    assert large.status_code == 413
    assert ("Sign in in another tab" in large.text) == path.startswith("/admin/")
