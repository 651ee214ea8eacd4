"""The dearest requests that fit the bounds: none costs the lane much more than ten plain ones, a millisecond."""

import asyncio
import time
from collections.abc import Callable
from math import inf
from typing import Any

import pytest
from pytest_django import Settings
from uvicorn.config import Config
from uvicorn.server import ServerState

from flashsale.framing import LARGEST_HEAD_BYTES
from flashsale.protocol import LaneProtocol
from sales import cookies, pages, store
from tests.load.bench import inside

ROUNDS = 5
MOST_ROUNDS = 100
# A quiet machine finds no more than ten. On a busy one, what reads much memory loses more than what reads little.
MOST_PLAIN_REQUESTS = 20
PACKET_BYTES = 256 * 1024  # uvloop hands over no more at once
FULL = LARGEST_HEAD_BYTES - 200


class Wire(inside.Connection):
    def __init__(self) -> None:
        super().__init__()
        self.written, self.is_open = b"", True

    def write(self, data: bytes) -> None:
        self.writes += 1
        self.written = self.written or data

    def close(self) -> None:
        self.is_open = False

    def is_closing(self) -> bool:
        return not self.is_open

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class Caller:
    """Asks the lane of this process; Redis says that it is sold out."""

    def __init__(self, identity: str):
        from flashsale.asgi import application

        self._show = inside._open_sale(0, identity)
        self._config = Config(application, ws="none", lifespan="off", log_config=None, proxy_headers=False)
        self._state = ServerState()

    async def ask(self, *packets: bytes) -> tuple[float, bytes]:
        """Return the CPU's seconds until the first answer is there, and it."""
        self._show()
        protocol, wire = self.open()
        began = time.process_time()
        for packet in packets:
            protocol.data_received(packet)
        while not wire.written:
            await asyncio.sleep(0)
        seconds = time.process_time() - began
        protocol.connection_lost(None)
        return seconds, wire.written

    def open(self) -> tuple[LaneProtocol, Wire]:
        """Return a connection."""
        wire = Wire()
        protocol = LaneProtocol(config=self._config, server_state=self._state, app_state={})
        protocol.connection_made(wire)  # type: ignore[arg-type]
        return protocol, wire

    async def costs(self, *requests: tuple[bytes, ...]) -> list[float]:
        """Return what each costs at best in plain requests. All are asked in turn; what seems dear is asked more often,
        because a busy machine makes a round slow, but not all of many."""
        plain = (get("/api/sale/status"),)
        best = [inf] * (1 + len(requests))
        for turn in range(MOST_ROUNDS):
            for place, packets in enumerate((plain, *requests)):
                if turn < ROUNDS or place == 0 or best[place] >= MOST_PLAIN_REQUESTS * best[0]:
                    best[place] = min(best[place], (await self.ask(*packets))[0])
        of_plain, *others = best
        return [seconds / of_plain for seconds in others]


MakeCaller = Callable[[str], Caller]


@pytest.fixture
def make_caller(monkeypatch: pytest.MonkeyPatch, settings: Settings, static_files: None) -> MakeCaller:
    monkeypatch.setattr(store, "run_scripts", inside.replies("sold_out"))
    settings.ADDRESS_RATE = None
    return Caller


def get(target: str, fields: str = "", host: str = "localhost") -> bytes:
    return f"GET {target} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n".encode()


def post(target: str, media_type: str, body: bytes) -> bytes:
    head = f"POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {media_type}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def full(text: str) -> str:
    return (text * (FULL // len(text) + 1))[:FULL]


FIELDS = {
    "cookies": "Cookie: " + ";".join(f"{number:x}=" for number in range(2500)),
    "cookies without a name": f"Cookie: {full(';')}",
    "cookies that look like ours": f"Cookie: {full('xshopper=')}",
    "our cookie, often": f"Cookie: {full('shopper=;')}",
    "languages": "Accept-Language: " + full(",".join(f"{chr(97 + n % 26)}{n % 7}-x;q=0.{n % 9}" for n in range(900))),
    "a token": f"Authorization: Bearer {full('a.')}",
    "a token just too short": f"Authorization: Bearer {'a.' * 1_999}",
    "proxies": f"X-Forwarded-For: {full('10.0.0.1,')}",
    "an address of colons": f"X-Forwarded-For: {full(':')}",
    "an address of dots": f"X-Forwarded-For: {full('1.')}",
    "versions": f"If-None-Match: {full('abc,')}",
    "codings": f"Accept-Encoding: {full('gzip;q=0,')}",
    "many fields": "\r\n".join(f"x-{number}: {'y' * 150}" for number in range(95)),
    "one field, often": "\r\n".join(f"X-Forwarded-For: {'1' * 140}" for _ in range(95)),
    "a trace": f"Traceparent: 00-{full('a')}",
    "a request's name": f"X-Request-Id: {full('a')}",
    "an origin": f"Origin: http://{full('A')}",
    "a key": f"Idempotency-Key: {full('ß')[:8000]}",
}
QUERIES = ["x=" + "%41" * 1_300, "&a" * 2_000, "&fresh" * 650, "%C3%A4=" * 550]
PATHS = ["/", "/sales/", "/sales/widget/", "/api/sale/status", "/api/sale/shopper", "/api/docs", "/health/live"]


@pytest.mark.parametrize("identity", ["open", "verified"])
@pytest.mark.parametrize("path", PATHS)
async def test_no_head_is_dear(make_caller: MakeCaller, path: str, identity: str):
    heads = {name: get(path, f"{field}\r\n") for name, field in FIELDS.items()}
    heads |= {query[:10]: get(f"{path}?{query}") for query in QUERIES}
    heads["host"] = get(path, host=full("A"))

    costs = await make_caller(identity).costs(*((head,) for head in heads.values()))

    dearest = max(zip(costs, heads, strict=True))
    assert dearest[0] < MOST_PLAIN_REQUESTS, dearest


@pytest.mark.parametrize("identity", ["open", "verified"])
async def test_no_lookup_is_dear(make_caller: MakeCaller, identity: str, settings: Settings):
    """Also where what came through proxies is read."""
    names = ["a" * 4_000, "%41" * 1_300, "%F0%9F%98%80" * 330, "/" * 4_000, "%2F" * 1_300]
    lookups = [get(f"/api/sale/user/{name}", f"{field}\r\n") for name in names for field in ("", *FIELDS.values())]

    costs = await make_caller(identity).costs(*((head,) for head in lookups))

    assert max(costs) < MOST_PLAIN_REQUESTS


JSON_BODIES = [
    b"[" * 8_000,
    b'{"a":' * 1_600,
    b'{"userId":"a",' + b",".join(b'"%d":0' % number for number in range(900)) + b"}",
    b"[" + b"0," * 4_000 + b"0]",
    b'{"userId":' + b"9" * 8_000 + b"}",
    b'{"userId":0.' + b"9" * 8_000 + b"}",
    b'{"userId":"' + b"\\u0041" * 1_300 + b'"}',
    b'{"userId":"' + b"\\" * 8_000 + b'"}',
    b" " * 8_000,
]


@pytest.mark.pure
async def test_no_json_is_dear(make_caller: MakeCaller):
    requests = [post("/api/sale/purchase", "application/json", body) for body in JSON_BODIES]

    costs = await make_caller("open").costs(*((request,) for request in requests))

    assert max(costs) < MOST_PLAIN_REQUESTS


FORM = "application/x-www-form-urlencoded"
FORMS = [b"a&" * 4_000, b"userId=&" * 1_000, b"userId=" + b"%41" * 2_600, b"userId=" + b"+" * 8_000, b"&" * 8_000, b""]


@pytest.mark.pure
@pytest.mark.parametrize("identity", ["open", "verified"])
async def test_no_form_is_dear(make_caller: MakeCaller, identity: str):
    forms = [post("/", FORM, form) for form in [*FORMS, b"userId=ada", b"userId=" + b'"' * 3_000]]

    costs = await make_caller(identity).costs(*((form,) for form in forms))

    assert max(costs) < MOST_PLAIN_REQUESTS


def chunked(path: str, chunks: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked"
    return f"{head}\r\n\r\n".encode() + chunks


PACKETS = {
    "fields": b"GET / HTTP/1.1\r\n" + b"a:\r\n" * 70_000,
    "one field": b"GET / HTTP/1.1\r\na:" + b"a" * 300_000,
    "an address": b"GET /" + b"%41" * 90_000,
    "requests": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 8_000,
    "empty lines": b"\r\n" * 140_000,
    "small chunks": chunked("/api/sale/purchase", b"1\r\n \r\n" * 50_000),
    "what stands beside a chunk": chunked("/api/sale/purchase", b"1;" + b"a" * 300_000),
    "what follows the last chunk": chunked("/api/sale/purchase", b"0\r\n" + b"a:\r\n" * 70_000),
    "a body": post("/api/sale/purchase", "application/json", b" " * 300_000),
    "a form for the desk": post("/admin/login/", FORM, b" " * 300_000),
}


@pytest.mark.parametrize("kind", PACKETS)
async def test_the_largest_packet_is_not_read_to_its_end(make_caller: MakeCaller, kind: str):
    (cost,) = await make_caller("open").costs((PACKETS[kind][:PACKET_BYTES],))

    assert cost < MOST_PLAIN_REQUESTS


@pytest.mark.pure
async def test_a_form_answer_is_rendered_once_per_state(make_caller: MakeCaller, monkeypatch: pytest.MonkeyPatch):
    caller, rendered = make_caller("open"), []
    render = pages.render_to_string

    def note(*args: Any) -> str:
        rendered.append(args)
        return render(*args)

    monkeypatch.setattr(pages, "render_to_string", note)
    pages._rendered_answer.cache_clear()

    empty = [(await caller.ask(post("/", FORM, b"userId=")))[1] for _ in range(5)]
    control = [(await caller.ask(post("/", FORM, b"userId=%%00%d" % number)))[1] for number in range(5)]
    sold_out = [(await caller.ask(post("/", FORM, b"userId=%d" % number)))[1] for number in range(5)]

    assert len(rendered) == 2
    assert {answer.split(b" ", 2)[1] for answer in empty + control} == {b"400"}
    assert {answer.split(b" ", 2)[1] for answer in sold_out} == {b"409"}
    assert all(b'value="%d"' % number in answer for number, answer in enumerate(sold_out))


@pytest.mark.pure
async def test_the_shared_page_escapes_the_typed_name(make_caller: MakeCaller):
    _, answer = await make_caller("open").ask(post("/", FORM, b"userId=%00%3Cb%3E%22%26"))

    assert b'value="\x00&lt;b&gt;&quot;&amp;"' in answer
    assert pages.TYPED not in answer


@pytest.mark.pure
@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("shopper=a", "a"),
        ("x=1; shopper=a; y=2", "a"),
        ("shopper=a;shopper= b ", "b"),
        ("xshopper=a", ""),
        ("x=shopper=a", ""),
        ("shopper", ""),
        ("", ""),
        ("; shopper=a; " + "x=shopper=; " * 9, "a"),
    ],
)
def test_one_cookie_is_found_as_django_finds_it(header: str, value: str):
    from django.http import parse_cookie

    assert cookies.named(header, "shopper") == value == parse_cookie(header).get("shopper", "")
