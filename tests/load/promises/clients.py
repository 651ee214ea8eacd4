"""How long a client may take that sends or reads slowly: it gets its time, and no more."""

import select
import socket
import time
from contextlib import suppress

from tests.load.promises.promise import promised
from tests.load.promises.shops import Shop, plain

CONNECTIONS = 8
HEAD = (
    b"POST /api/sale/purchase HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 99\r\n"
)
ASK_FOR_A_LONG_ANSWER = b"GET /api/openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
DRIP_SECONDS = 0.1


@promised(
    "A head that drips in is refused, after 10 s",
    "docs/api.md",
    within=11.0,
    on=plain,
    rounds=CONNECTIONS,
    together=True,
)
def slow_head(shop: Shop) -> float:
    return _refused_after(shop, HEAD + b"X-Slow: ", b"a", least_seconds=10)


@promised(
    "A body that drips in is refused, after 5 s", "docs/api.md", within=6.0, on=plain, rounds=CONNECTIONS, together=True
)
def slow_body(shop: Shop) -> float:
    return _refused_after(shop, HEAD + b"\r\n", b" ", least_seconds=5)


@promised(
    "A client that reads nothing is cut off, after 10 s",
    "docs/security.md",
    within=13.0,
    on=plain,
    rounds=CONNECTIONS,
    together=True,
)
def stalled(shop: Shop) -> float:
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2_048)
        client.connect(("127.0.0.1", shop.port))
        client.sendall(ASK_FOR_A_LONG_ANSWER)
        began, poll = time.monotonic(), select.poll()
        poll.register(client, 0)
        assert any(event & select.POLLERR for _, event in poll.poll(30_000)), "it is never reset"
        seconds = time.monotonic() - began
    assert seconds > 10, f"it was reset after {seconds:.1f} s"
    return seconds


def _refused_after(shop: Shop, first: bytes, drop: bytes, least_seconds: float) -> float:
    """Send `first` and then a drop at a time; return when 408 came, which must not be too soon."""
    with socket.create_connection(("127.0.0.1", shop.port), timeout=30) as client:
        client.sendall(first)
        began = time.monotonic()
        while not select.select([client], [], [], DRIP_SECONDS)[0]:
            assert time.monotonic() - began < 30, "it is never refused"
            with suppress(OSError):
                client.sendall(drop)
        seconds, answer = time.monotonic() - began, client.recv(4_096)
    assert b" 408 " in answer.partition(b"\r\n")[0], answer
    assert seconds >= least_seconds - DRIP_SECONDS, f"it was refused after {seconds:.1f} s"
    return seconds
