"""The limit of one address, over HTTP: nothing that a client writes moves it to another address's share."""

import random
import socket
from collections import Counter
from collections.abc import Callable, Iterator

import httpx
import pytest

from sales.models import Sale
from tests.servers import PATIENT, WebServer, free_port

SHARE = 40
# Linux answers on all of 127.0.0.0/8, so that one machine has as many peers as a test needs.
STRANGER, PROXY, CAMPUS, OTHER_STRANGER = "127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4"
NAMES = [
    *("X-Forwarded-For", "X_Forwarded_For", "Forwarded", "X-Real-IP", "True-Client-IP", "CF-Connecting-IP"),
    *("X-Client-IP", "Via", "X-Forwarded", "Forwarded-For", "X-Cluster-Client-IP", "Fastly-Client-IP", "Client-IP"),
    *("X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Port", "X-Originating-IP", "Remote-Addr", "REMOTE_ADDR"),
]


@pytest.fixture(scope="module")
def guarded(redis_server: object, static_files: None, django_db_setup: None) -> Iterator[WebServer]:
    """One worker, so that one share is all that an address has; the shares last longer than the tests."""
    with WebServer(
        {
            "PORT": str(free_port()),
            "WEB_CONCURRENCY": "1",
            "ADDRESS_RATE": f"{SHARE}/10h",
            "TRUSTED_PROXIES": f"{PROXY}/32,10.0.0.0/8,fd00::/8",
        },
        PATIENT,
    ) as server:
        yield server


@pytest.fixture(autouse=True)
def _seen(request: pytest.FixtureRequest, seen: Callable[[], None]) -> None:
    request.getfixturevalue("open_sale")
    seen()


def connect(server: WebServer, peer: str) -> socket.socket:
    host, port = server.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=60, source_address=(peer, 0))


class Wire:
    """A connection that is opened again where the server closes it."""

    def __init__(self, server: WebServer, peer: str):
        self._server, self._peer = server, peer
        self._open()

    def _open(self) -> None:
        self._socket = connect(self._server, self._peer)
        self._file = self._socket.makefile("rb")

    def ask(self, headers: bytes) -> int:
        """Return the status that GET /api/sale/user/ada is answered with these header lines."""
        self._socket.sendall(b"GET /api/sale/user/ada HTTP/1.1\r\nHost: localhost\r\n%b\r\n" % headers)
        status, length, closes = int(self._file.readline().split()[1]), 0, False
        while (line := self._file.readline().lower()) not in (b"\r\n", b""):
            length = int(line.split()[1]) if line.startswith(b"content-length") else length
            closes = closes or line.startswith(b"connection: close")
        self._file.read(length)
        if closes or status == 400:
            self.close()
            self._open()
        return status

    def close(self) -> None:
        self._file.close()
        self._socket.close()


def address(rng: random.Random) -> str:
    """Return an address as nobody, somebody or an attacker writes it."""
    plain = ".".join(str(rng.randrange(1, 255)) for _ in range(4))
    six = f"2001:db8:{rng.randrange(65536):x}::{rng.randrange(65536):x}"
    octal = ".".join(f"0{rng.randrange(1, 255):o}" for _ in range(4))
    forms = [plain, six, octal, f"{plain}:{rng.randrange(65536)}", f"[{six}]", f"[{six}]:443", f"::ffff:{plain}"]
    forms += [f"{six}%eth0", f"fe80::1%{rng.randrange(9)}", str(rng.randrange(2**32)), hex(rng.randrange(2**32))]
    forms += ["127.0.0.2", "127.0.0.1", "10.1.2.3", "fd00::1", "localhost", "unknown", "_hidden", "", "*", "0", "-1"]
    forms += [
        f" \t{plain}\t ",
        f"{plain}\x00",
        f"\x01{plain}",
        f"{plain}\x7f",
        f"ünïcode-{plain}",
        f"for={plain};by=10.0.0.1",
    ]
    return rng.choice(forms)


def value(rng: random.Random) -> bytes:
    length = rng.choices([1, 2, 3, 10, 200], weights=[8, 4, 2, 1, 0.1])[0]
    separator = rng.choice([",", ", ", " ,\t", ";", " "])
    return separator.join(address(rng) for _ in range(length)).encode()


def name(rng: random.Random) -> bytes:
    written = rng.choice(NAMES) if rng.random() < 0.6 else "X-Forwarded-For"
    return rng.choice([written, written.lower(), written.upper(), written.swapcase()]).encode()


def variant(rng: random.Random) -> bytes:
    count = rng.choices([1, 2, 3, 8], weights=[6, 3, 2, 1])[0]
    return b"".join(b"%b:%b%b\r\n" % (name(rng), rng.choice([b"", b" ", b"\t"]), value(rng)) for _ in range(count))


@pytest.mark.parametrize(
    ("peer", "variants"), [(STRANGER, 1_000), pytest.param(OTHER_STRANGER, 10_000, marks=pytest.mark.long)]
)
def test_no_header_of_a_stranger_moves_it_to_another_share(
    guarded: WebServer, open_sale: Sale, peer: str, variants: int
):
    rng, wire = random.Random(7), Wire(guarded, peer)

    statuses = Counter(wire.ask(variant(rng)) for _ in range(variants))
    wire.close()

    # The parser refuses control characters in a value; what it refuses asked nothing.
    assert statuses.keys() == {200, 400, 429}
    assert statuses[200] <= SHARE, statuses
    assert statuses[429] > variants / 2, "most of the variants must get as far as the limit"


def test_addresses_that_a_client_prepends_do_not_matter(guarded: WebServer, open_sale: Sale):
    rng, wire = random.Random(8), Wire(guarded, PROXY)

    def behind(client: str) -> bytes:
        """Return headers as a client and then two proxies write them, of which we are behind the second."""
        chain = b"X-Forwarded-For: %b, %b, 10.0.0.9\r\n" % (value(rng), client.encode())
        return b"%b%bX_Forwarded_For: %b\r\n" % (variant(rng), chain, value(rng))

    statuses = Counter(wire.ask(behind("198.51.100.7")) for _ in range(1_000))
    others = [wire.ask(b"X-Forwarded-For: 198.51.100.%d\r\n" % number) for number in range(8, 20)]
    wire.close()

    assert statuses[200] <= SHARE, statuses
    assert statuses[429] > 250
    assert set(others) == {200}, "each client has a share of its own"


def test_an_ipv6_client_has_one_share_for_its_network(guarded: WebServer, open_sale: Sale):
    wire = Wire(guarded, PROXY)

    same = Counter(wire.ask(b"X-Forwarded-For: 2001:db8:1:2:%x::1\r\n" % number) for number in range(SHARE + 10))
    other = wire.ask(b"X-Forwarded-For: 2001:db8:1:3::1\r\n")
    wire.close()

    assert same == {200: SHARE, 429: 10}
    assert other == 200


def test_a_crowd_behind_one_address_may_poll_freely(guarded: WebServer, open_sale: Sale):
    def get(path: str) -> httpx.Response:
        return client.get(path)

    transport = httpx.HTTPTransport(local_address=CAMPUS)
    with httpx.Client(base_url=guarded.url, transport=transport) as client:
        polled = Counter(get("/api/sale/status").status_code for _ in range(500))
        by_slug = get(f"/api/sales/{open_sale.slug}/status").status_code
        bought = [client.post("/api/sale/purchase", json={"userId": f"s-{number}"}) for number in range(SHARE + 5)]
        still_polled = get("/api/sale/status").status_code
        page = get("/")

    assert polled == {200: 500}
    assert (by_slug, still_polled) == (200, 200)
    assert Counter(response.status_code == 429 for response in bought) == {False: SHARE, True: 5}
    refused = bought[-1]
    assert refused.headers["ratelimit-policy"] == f'"address";q={SHARE};w=36000'
    assert refused.headers["ratelimit"] == f'"address";r=0;t={refused.headers["retry-after"]}'
    assert (page.status_code, page.headers["ratelimit"]) == (429, f'"address";r=0;t={page.headers["retry-after"]}')
