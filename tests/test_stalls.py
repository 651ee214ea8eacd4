"""Clients that ask and do not read: nobody waits for them, and their connections are closed."""

import re
import select
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import httpx
import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from sales.models import Order, Sale
from tests.servers import WebServer, free_port

# As many as had held all threads of both workers, and more than this server has.
CONNECTIONS = 24
LONG_FILE = re.compile(r"admin/js/vendor/xregexp/xregexp\.min\.[0-9a-f]{12}\.js")
PICTURE = "products/long-960.webp"
HEAD = "GET {path} HTTP/1.1\r\nHost: localhost\r\n{more}\r\n"


@pytest.fixture(scope="module")
def impatient_server(static_files: None, redis_server: object, django_db_setup: None) -> Iterator[WebServer]:
    """One worker with two threads, whose clients get a second to read."""
    environment = {"PORT": str(free_port()), "WEB_CONCURRENCY": "1", "DJANGO_THREADS": "2"}
    with WebServer(environment, "tests.stalling:application") as server:
        yield server


@pytest.fixture
def cookie(transactional_db: None) -> str:
    """The header by which an operator is signed in."""
    client = Client()
    client.force_login(User.objects.create_superuser("operator"))
    return f"Cookie: {settings.SESSION_COOKIE_NAME}={client.cookies[settings.SESSION_COOKIE_NAME].value}\r\n"


def connected(server: WebServer, receive_bytes: int = 2048) -> socket.socket:
    url = httpx.URL(server.url)
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    client.settimeout(60)
    client.connect((url.host, url.port or 80))
    return client


@contextmanager
def unread(server: WebServer, path: str, more: str = "") -> Iterator[list[socket.socket]]:
    """Ask for an answer on many connections, and read nothing of it."""
    with ExitStack() as stack:
        clients = [stack.enter_context(connected(server)) for _ in range(CONNECTIONS)]
        for client in clients:
            client.sendall(HEAD.format(path=path, more=more).encode())
        yield clients


def is_reset(client: socket.socket) -> bool:
    """Return whether the server resets the connection within a minute, while nothing is read."""
    poll = select.poll()
    poll.register(client, 0)
    return any(event & select.POLLERR for _, event in poll.poll(60_000))


def long_file() -> str:
    names = (path.relative_to(settings.STATIC_ROOT).as_posix() for path in settings.STATIC_ROOT.rglob("*.js"))
    return f"/static/{next(name for name in names if LONG_FILE.fullmatch(name))}"


def long_picture() -> str:
    picture = Path(settings.MEDIA_ROOT, PICTURE)
    picture.parent.mkdir(parents=True, exist_ok=True)
    picture.write_bytes(bytes(160_000))
    return f"/media/{PICTURE}"


ANSWERS: dict[str, Callable[[], str]] = {
    "a static file": long_file,
    "a picture": long_picture,
    "the API's page": lambda: "/api/docs",
    "the API's document": lambda: "/api/openapi.json",
    "a page of the admin": lambda: "/admin/sales/order/",
    "an export": lambda: "/admin/sales/order/export/",
    "a stream": lambda: "/api/sale/events",
}


@pytest.mark.parametrize("answer", ANSWERS)
def test_nobody_waits_for_clients_that_read_nothing(
    impatient_server: WebServer, open_sale: Sale, cookie: str, answer: str
):
    bought = {"sale": open_sale, "purchased_at": timezone.now(), "remaining_stock": 0}
    Order.objects.bulk_create(Order(user_id=f"{n}@example.com", order_id=f"{n}-0", **bought) for n in range(2_000))

    with unread(impatient_server, ANSWERS[answer](), cookie) as clients:
        for path in ("/admin/login/", long_file()) * 3:
            assert httpx.get(f"{impatient_server.url}{path}").status_code == 200
        assert all(is_reset(client) for client in clients)


def test_a_client_that_reads_slowly_gets_all_of_it(impatient_server: WebServer):
    whole = httpx.get(f"{impatient_server.url}{long_file()}", headers={"Accept-Encoding": "identity"}).content

    def read_slowly() -> tuple[bytes, float]:
        """Return what was received, and the longest time between two looks."""
        received, longest, looked = b"", 0.0, time.monotonic()
        with connected(impatient_server) as client:
            client.sendall(HEAD.format(path=long_file(), more="Connection: close\r\n").encode())
            with suppress(ConnectionResetError):
                while part := client.recv(2048):
                    received += part
                    time.sleep(0.04)
                    longest, looked = max(longest, time.monotonic() - looked), time.monotonic()
        return received, longest

    for _ in range(20):  # a busy machine may let the client stand still for as long as one that reads nothing
        began = time.monotonic()
        received, longest = read_slowly()
        if received.partition(b"\r\n\r\n")[2] == whole or longest < 0.5:
            break

    assert received.partition(b"\r\n\r\n")[2] == whole
    assert time.monotonic() - began > 2 * 1.0, "it took longer than a client gets that reads nothing"
