"""`python -m tests.fuzz.dear CASES SEED`: search for requests that cost the server much, and print the dearest of each
address.

Hypothesis looks for what raises the CPU time of the one web worker (`hypothesis.target`): long runs of characters that
are dear to normalise, to split or to decode, many fields, deep nesting, in every part of a request that its bounds let
through. Exit status 1 when one costs more than BOUNDS_MS; noise is told apart by trying again.
"""

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote_from_bytes, urlencode

import orjson
import psutil
from hypothesis import HealthCheck, Phase, given, seed, settings, target
from hypothesis import strategies as st

from tests.fuzz.addresses import ADDRESSES, Address
from tests.load.profiles import Stock
from tests.load.shop import Shop

# What a request may cost beyond a plain one to the same address: of the event loop, of one of Django's threads.
BOUNDS_MS = {"lane": 1.0, "django": 20.0}
# A dear one is measured as often, and the least is believed: other processes only add.
TRIES = 5
HEAD_BYTES, BODY_BYTES = 16 * 1024, 8 * 1024

# Characters that somebody's loop may be quadratic in, or that become many.
UNITS = (
    *("a", "1", "0", " ", "\t", "%41", "%", "&", "=", ";", ",", ".", "-", "_", "/", "@", ":", '"', "'", "\\", "\0"),
    *(
        "[",
        "{",
        "(",
        "<",
        "a=b&",
        "a=b; ",
        "en,",
        "de;q=0.1,",
        "1.1.1.1,",
        '"x",',
        "W/",
        "eyJ",
        "Bearer ",
        "+",
        "=?utf-8?",
    ),
    *("\u0301\u0316", "\u0316\u0301", "\u0345", "\ufdfa", "\u1e9e", "\u0130", "\u0390", "\uac01", "\u1100\u1161\u11a8"),
    *("\u00ad", "\u3164", "\ufb03", "\u2126", "\u0958", "\U0001d160", "\U0001f600", "xn--", "a.", "\u3002", "\u200d"),
)
HEADERS = (
    *(
        "Cookie",
        "Accept-Language",
        "Authorization",
        "X-Forwarded-For",
        "If-None-Match",
        "Origin",
        "Referer",
        "User-Agent",
    ),
    *("traceparent", "X-Request-Id", "Accept-Encoding", "Accept", "Content-Type", "Idempotency-Key", "Range"),
    *("If-Modified-Since", "X-Requested-With", "Forwarded", "X-Forwarded-Proto"),
)


class Request(NamedTuple):
    """A request as the search makes it: what is in its target, a head field, its body."""

    path: str
    headers: dict[str, bytes]
    body: bytes | None
    words: str


@dataclass
class Found:
    """The dearest request to an address, and what it cost."""

    address: Address
    plain_ms: float
    cost_ms: float = 0.0
    words: str = "nothing costs more than a plain one"
    status: int = 0
    grown_mib: float = 0.0

    @property
    def is_over(self) -> bool:
        return self.cost_ms - self.plain_ms > BOUNDS_MS[self.address.kind]


class Worker:
    """The one web worker of a shop, and what it has cost so far."""

    def __init__(self, shop: Shop):
        self._shop = shop
        (self._process,) = psutil.Process(shop.pid("web")).children()
        self._connection = HTTPConnection("127.0.0.1", shop.port, timeout=30)

    def cost_ms(self, method: str, request: Request) -> tuple[float, int]:
        """Return the CPU time that all threads of the worker took until its answer was here, and its status; 0 where it
        closed the connection without one."""
        before = self._cpu_ns()
        try:
            self._connection.request(method, request.path, request.body, request.headers)
            response = self._connection.getresponse()
            response.read()
            status = response.status
        except (HTTPException, OSError):
            status = 0
            self._connection.close()
        return (self._cpu_ns() - before) / 1e6, status

    def memory_mib(self) -> float:
        return self._process.memory_info().rss / 2**20

    def get(self, path: str) -> tuple[dict[str, str], str]:
        """Return the cookies that a page sets, and its text."""
        self._connection.request("GET", path)
        response = self._connection.getresponse()
        text = response.read().decode(errors="replace")
        cookies = dict(line.split(";")[0].split("=", 1) for line in response.headers.get_all("Set-Cookie") or [])
        return cookies, text

    def _cpu_ns(self) -> int:
        """Return the time on a core of every thread, as the kernel counts it (proc(5), schedstat)."""
        tasks = Path(f"/proc/{self._process.pid}/task").glob("*/schedstat")
        return sum(int(task.read_text().split()[0]) for task in tasks)


def search(address: Address, worker: Worker, cases: int, number: int) -> Found:
    """Return the dearest request to an address that `cases` tries find."""
    cookies, hidden = address.form(worker.get)
    plain = min(worker.cost_ms(address.method, plain_request(address, cookies, hidden))[0] for _ in range(TRIES * 2))
    found, began_mib = Found(address, plain), worker.memory_mib()

    @seed(number)
    @settings(
        max_examples=cases,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.target),
        suppress_health_check=list(HealthCheck),
    )
    @given(requests(address, cookies, hidden))
    def look(request: Request) -> None:
        cost, status = worker.cost_ms(address.method, request)
        if cost > found.cost_ms:
            cost, status = min(worker.cost_ms(address.method, request) for _ in range(TRIES))
        target(cost)
        if cost > found.cost_ms:
            found.cost_ms, found.words, found.status = cost, request.words, status

    look()
    found.grown_mib = worker.memory_mib() - began_mib
    return found


def plain_request(address: Address, cookies: dict[str, str], hidden: dict[str, str]) -> Request:
    return _request(address, cookies, hidden, "", "", "plain")


@st.composite
def requests(draw: st.DrawFn, address: Address, cookies: dict[str, str], hidden: dict[str, str]) -> Request:
    """Make a request to an address, one part of which is dear."""
    parts = ["query", *HEADERS, *(["path"] if "{}" in address.path else []), *address.fields]
    parts += ["many fields", "nested"] if address.method == "POST" else []
    part = draw(st.sampled_from(parts))
    runs = draw(st.lists(st.tuples(st.sampled_from(UNITS), st.integers(1, 8_000)), min_size=1, max_size=3))
    room = BODY_BYTES - 300 if part in (*address.fields, "many fields", "nested") else HEAD_BYTES - 1_500
    text = "".join(unit * count for unit, count in runs).encode()[:room].decode(errors="ignore")
    words = f"{part}: {' + '.join(f'{unit!r} x {count}' for unit, count in runs)}, {len(text.encode())} bytes"
    return _request(address, cookies, hidden, part, text, words)


def _request(
    address: Address, cookies: dict[str, str], hidden: dict[str, str], part: str, text: str, words: str
) -> Request:
    path = address.path.replace(
        "{}", quote_from_bytes(text.encode())[: HEAD_BYTES - 1_500] if part == "path" else "ada"
    )
    if part == "query":
        path += "?" + quote_from_bytes(text.encode(), safe="&=;%+,")[: HEAD_BYTES - 1_500]
    headers = {"Host": b"localhost"}
    if cookies:
        headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in cookies.items()).encode()
    body = None
    if address.method == "POST":
        body, headers["Content-Type"] = _body(address, hidden, part, text)
    if part in HEADERS:
        dear = text.encode().translate(None, b"\r\n\0")
        headers[part] = headers["Cookie"] + b"; " + dear if part == "Cookie" and cookies else dear
    return Request(path, headers, body, words)


def _body(address: Address, hidden: dict[str, str], part: str, text: str) -> tuple[bytes, bytes]:
    fields = {name: text if name == part else "ada@example.com" for name in address.fields}
    if address.is_json:
        if part == "nested":
            return b'{"userId":' + text.encode() + b"}", b"application/json"
        if part == "many fields":
            return orjson.dumps(dict.fromkeys((str(number) for number in range(900)), 1)), b"application/json"
        return orjson.dumps(fields), b"application/json"
    if part == "many fields":
        return b"&".join(b"f%d=1" % number for number in range(900)), b"application/x-www-form-urlencoded"
    if part == "nested":
        return text.encode()[:BODY_BYTES], b"application/x-www-form-urlencoded"
    return urlencode({**hidden, **fields}).encode()[:BODY_BYTES], b"application/x-www-form-urlencoded"


def main(cases: int, number: int) -> int:
    """Return the exit status."""
    started = time.monotonic()
    results = list(_search_all(max(20, cases // len(ADDRESSES)), number))
    for found in results:
        over = "  OVER ITS BOUND" if found.is_over else ""
        _say(
            f"{found.address.method:4} {found.address.path:36} plain {found.plain_ms:6.2f} ms, dearest "
            f"{found.cost_ms:6.2f} ms ({found.status}), memory {found.grown_mib:+.1f} MiB: {found.words}{over}"
        )
    count = sum(found.is_over for found in results)
    _say(f"{len(results)} addresses, {count} over their bound, {time.monotonic() - started:.0f} s, seed {number}")
    return 1 if count else 0


def _search_all(cases: int, number: int) -> Iterator[Found]:
    with Shop(EMAIL_URL="memory:", WEB_CONCURRENCY="1") as shop:
        shop.open_sale(Stock(1_000_000), -60.0)
        worker = Worker(shop)
        for address in ADDRESSES:
            yield search(address, worker, cases, number)


def _say(words: str) -> None:
    sys.stdout.write(f"{words}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    match sys.argv[1:]:
        case [cases, number]:
            sys.exit(main(int(cases), int(number)))
        case _:
            sys.exit("usage: python -m tests.fuzz.dear CASES SEED")
