"""Requests that are right: their bytes, and what must be answered."""

import random
from collections.abc import Callable
from dataclasses import dataclass

import orjson

HOST = b"Host: localhost\r\n"
JSON = b"Content-Type: application/json\r\n"
BUY = b"/api/sale/purchase"
STATUS = b"/api/sale/status"
LIVE = b"/health/live"
# Names of who must not buy, and of who leaves before the answer.
HIDDEN, LEAVER = "hidden", "leaver"
_HARMLESS = (b"Accept", b"X-Request-Id", b"User-Agent", b"Cookie", b"x_y", b"Content_Length", b"!#$%&'*+-.^_`|~")


@dataclass(frozen=True)
class Message:
    """One request. `status` is that of its answer, `code` the word in it, if it has one.

    `user_id` buys by it. `closes` says that nothing is answered behind it.
    """

    kind: str
    raw: bytes
    status: int
    code: str = ""
    user_id: str = ""
    is_head: bool = False
    closes: bool = False


def head(rng: random.Random, line: bytes, *fields: bytes) -> bytes:
    """Return a request's head: its line, Host, `fields`, and harmless ones in between."""
    lines = [HOST, *fields, *(_harmless(rng) for _ in range(rng.choice((0, 0, 1, 3, 8))))]
    rng.shuffle(lines)
    return line + b" HTTP/1.1\r\n" + b"".join(lines) + b"\r\n"


def _harmless(rng: random.Random) -> bytes:
    name = rng.choice(_HARMLESS)
    value = bytes(rng.choice(b"abc ,;=\"'\t\xe4\xff:") for _ in range(rng.choice((0, 1, 5, 40))))
    return name + b":" + rng.choice((b"", b" ", b"\t ")) + value + b"\r\n"


def attempt(user_id: str) -> bytes:
    return orjson.dumps({"userId": user_id})


def length(body: bytes) -> bytes:
    return b"Content-Length: %d\r\n" % len(body)


def chunked(rng: random.Random, body: bytes, trailers: bytes = b"") -> bytes:
    """Return a body in chunks of random sizes, some with extensions."""
    parts = []
    while body:
        size = rng.randint(1, len(body))
        extension = rng.choice((b"", b"", b";a", b";a=b", b';a="b c"', b";a=b;c"))
        digits = rng.choice((b"%x", b"%X", b"00%x")) % size
        parts.append(digits + extension + b"\r\n" + body[:size] + b"\r\n")
        body = body[size:]
    return b"".join(parts) + b"0\r\n" + trailers + b"\r\n"


def _get(rng: random.Random, user_id: str) -> Message:
    path, status = rng.choice(
        ((STATUS, 200), (LIVE, 200), (b"/api/sales/nothing/status", 404), (b"//localhost/x", 404))
    )
    return Message("get", head(rng, b"GET " + path), status)


def _head(rng: random.Random, user_id: str) -> Message:
    return Message("head", head(rng, b"HEAD " + STATUS), 200, is_head=True)


def _absolute(rng: random.Random, user_id: str) -> Message:
    return Message("absolute target", head(rng, b"GET http://localhost" + rng.choice((STATUS, LIVE, b"/", b""))), 200)


def _asterisk(rng: random.Random, user_id: str) -> Message:
    return Message("asterisk target", head(rng, b"OPTIONS *"), 404)


def _long_head(rng: random.Random, user_id: str) -> Message:
    many = [b"X-%d: %b\r\n" % (number, b"a" * rng.randint(0, 60)) for number in range(rng.randint(20, 60))]
    return Message("long head", head(rng, b"GET " + STATUS, *many), 200)


def _get_with_body(rng: random.Random, user_id: str) -> Message:
    inside = head(rng, b"POST " + BUY, JSON, length(b"{}")) + b"{}"
    if rng.random() < 0.5:
        return Message("get with a body", head(rng, b"GET " + STATUS, length(inside)) + inside, 200)
    first = head(rng, b"HEAD " + STATUS, b"Transfer-Encoding: chunked\r\n")
    return Message("head with a body", first + chunked(rng, inside), 200, is_head=True)


def _purchase(rng: random.Random, user_id: str) -> Message:
    body = attempt(user_id)
    return Message("purchase", head(rng, b"POST " + BUY, JSON, length(body)) + body, 200, "purchased", user_id)


def _chunked_purchase(rng: random.Random, user_id: str) -> Message:
    coding = rng.choice((b"Transfer-Encoding: chunked\r\n", b"transfer-encoding:Chunked\r\n"))
    # Were trailers headers, these would make it another request.
    trailers = b"Content-Type: text/plain\r\nX-Forwarded-For: 1.2.3.4\r\nHost: elsewhere\r\nExpect: 100-continue\r\n"
    body = chunked(rng, attempt(user_id), rng.choice((b"", b"", b"X: y\r\n", trailers)))
    return Message("chunked purchase", head(rng, b"POST " + BUY, JSON, coding) + body, 200, "purchased", user_id)


def _patient_purchase(rng: random.Random, user_id: str) -> Message:
    body = attempt(user_id)
    raw = head(rng, b"POST " + BUY, JSON, length(body), b"Expect: 100-continue\r\n") + body
    return Message("purchase that asks first", raw, 200, "purchased", user_id)


def _no_json(rng: random.Random, user_id: str) -> Message:
    body = rng.choice((b"\x00" * 9, b"{", b"[]", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", b"\xff\xfe"))
    return Message("no JSON", head(rng, b"POST " + BUY, JSON, length(body)) + body, 400, "invalid_request")


def _large_body(rng: random.Random, user_id: str) -> Message:
    body = attempt(user_id + "x" * rng.randint(9_000, 100_000))
    return Message("large body", head(rng, b"POST " + BUY, JSON, length(body)) + body, 413, "payload_too_large")


def _other_type(rng: random.Random, user_id: str) -> Message:
    body = attempt(user_id)
    raw = head(rng, b"POST " + BUY, b"Content-Type: text/plain\r\n", length(body)) + body
    return Message("other type", raw, 415, "unsupported_media_type")


def _other_method(rng: random.Random, user_id: str) -> Message:
    method = rng.choice((b"DELETE", b"PUT", b"PATCH", b"TRACE", b"PROPFIND", b"M-SEARCH", b"LINK"))
    return Message("other method", head(rng, method + b" " + BUY), 405, "method_not_allowed")


def _empty_lines_first(rng: random.Random, user_id: str) -> Message:
    return Message("empty lines first", b"\r\n" * rng.randint(1, 5) + head(rng, b"GET " + LIVE), 200)


def _old(rng: random.Random, user_id: str) -> Message:
    raw = head(rng, b"GET " + LIVE).replace(b" HTTP/1.1", b" HTTP/1.0")
    return Message("HTTP/1.0", raw, 200, closes=True)


def _upgrade(rng: random.Random, user_id: str) -> Message:
    protocol = rng.choice((b"h2c", b"websocket", b"TLS/1.0"))
    raw = head(rng, b"GET " + LIVE, b"Connection: Upgrade\r\n", b"Upgrade: " + protocol + b"\r\n")
    return Message("upgrade", raw, 200, closes=True)


def _other_name(rng: random.Random, user_id: str) -> Message:
    """Return a request in RTSP: the parser takes that for another name of HTTP, and does not tell."""
    return Message("other name", head(rng, b"GET " + LIVE).replace(b" HTTP/1.1", b" RTSP/1.1"), 200)


def _last(rng: random.Random, user_id: str) -> Message:
    return Message("last", head(rng, b"GET " + LIVE, b"Connection: close\r\n"), 200, closes=True)


PURCHASES = (_purchase, _chunked_purchase, _patient_purchase)
LASTS = (_old, _upgrade, _last)
_OTHERS = (_get, _head, _absolute, _long_head, _get_with_body, _no_json, _large_body, _other_type, _other_method)
# Those that Django answers take a thread, and are as rare as they are slow.
VALID: tuple[Callable[[random.Random, str], Message], ...] = (
    *PURCHASES,
    *_OTHERS * 3,
    _empty_lines_first,
    _other_name,
    _asterisk,
)


def last(rng: random.Random) -> Message:
    return _last(rng, "")


def again(rng: random.Random, bought: Message) -> Message:
    """Return another attempt of who has bought."""
    body = attempt(bought.user_id)
    raw = head(rng, b"POST " + BUY, JSON, length(body)) + body
    return Message("second purchase", raw, 409, "already_purchased")
