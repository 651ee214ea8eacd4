"""Messages that no server may understand: each could hide a request from one reader or show it to another.

The ideas are those of RFC 9112 (sections 2.2, 3.2, 5, 6, 7 and 11.2), of PortSwigger's research on desynchronised
servers, and of what was reported of llhttp, h11, gunicorn, uWSGI, Kestrel and Go.
"""

import random
from collections.abc import Callable

from tests.fuzz.messages import BUY, HIDDEN, HOST, JSON, STATUS, attempt, chunked, head, length

CHUNKED = b"Transfer-Encoding: chunked\r\n"
_LINE = b"POST " + BUY
_BODY = attempt(f"{HIDDEN}-in")


def _lines(template: bytes, values: bytes) -> list[bytes]:
    """Return the template with each of the values, which | divides, in place of @."""
    return [template.replace(b"@", value) for value in values.split(b"|")]


# Length fields that contradict themselves, each other, or the grammar.
LENGTHS = [
    *_lines(b"Content-Length: @\r\n", b"+5|-5|5,5|5, 5|0x5||5 5|5;|\x0b5|5\x0c|1e1|5.0|five|\xb2|0b1|1_0"),
    *_lines(b"Content-Length: @\r\n", b"18446744073709551616|9999999999999999999999999999999999999999"),
    *_lines(b"Content-Length: 0\r\nContent-Length: @\r\n", b"0|5||00"),
    *_lines(b"Content-Length: 5\r\nTransfer-Encoding: @\r\n", b"chunked|identity|x"),
    *_lines(b"Transfer-Encoding: @\r\nContent-Length: 5\r\n", b"chunked|gzip, chunked|chunked\r\nX: y"),
    *_lines(b"Content-Length@: 0\r\n", b" |\t|\x00|\r\n|\xa0|\x85|\x0b"),
]
CODINGS = [
    *_lines(b"Transfer-Encoding: @\r\n", b'xchunked|x chunked|chunked x|chunked;q=1|"chunked"|chunke|ch\xc3\xbcnked'),
    *_lines(b"Transfer-Encoding: @\r\n", b",chunked|chunked,||chunked, chunked|chunked, gzip|gzip, chunked|identity"),
    *_lines(
        b"Transfer-Encoding: @\r\n", b"identity, chunked|chunke\x00d|chunked\x0b|chunked\xa0|\x0cchunked|chunked\r\n\t"
    ),
    *_lines(b"Transfer-Encoding@: chunked\r\n", b" |\t|\x00|\r\n|\xa0|\x85"),
    *_lines(b"@Transfer-Encoding: chunked\r\n", b" |X: y\r\n |X: y\n|X: y\r|X:\r\n\t|\x00|: y\r\n"),
    *_lines(b"Transfer-Encoding: @\r\n" + CHUNKED, b"chunked|x|identity"),
    *_lines(CHUNKED + b"Transfer-Encoding: @\r\n", b"x|identity"),
    *_lines(b"Transfer-Encoding:@", b"\r\n chunked\r\n| chunked\n"),
]
FIELDS = [
    *_lines(b"X: @\r\n", b"\x00|a\x00b|\x01|\x1b[2J|\x7f|a\rb|a\nb|\x0b|\x08|a\r\n b"),
    *_lines(b"@: y\r\n", b'| |X Y|X(|X\x00|X\xff|X\t|"X"|X@|X/|X\r|{X}|[X]'),
    *_lines(b"@", b"X\r\n|X: a\n|X: a\r|\r|\x00\r\n| X: y\r\n|\tX: y\r\n|X: y\r\n z\r\n"),
]
LINES = [
    *_lines(b"GET /api/sale/status @\r\n", b"HTTP/0.9|HTTP/1.2|HTTP/2.0|HTTP/3.0|HTTP/1.10|HTTP/01.1|http/1.1"),
    *_lines(b"GET /api/sale/status@\r\n", b"| | HTTP/1.1 | HTTP/1.1X| HTTP/1,1| HTTP /1.1|\r\n| HTTP/1.1\r"),
    *_lines(b"GET /api/sale/status@", b" HTTP/1.1\n| HTTP/1.1\r|\n"),
    *_lines(b"GET @ HTTP/1.1\r\n", b"*|a|?a|*a|localhost:80|http:/x|http:///x|ftp://localhost/|file:///x"),
    *_lines(
        b"GET http://@ HTTP/1.1\r\n", b"elsewhere/api/sale/status|u@localhost/|localhost:x/|localhost:1/|localhost\\"
    ),
    *_lines(b"GET /@ HTTP/1.1\r\n", b"\x00|\x01|\x7f|\xff|?\xff|a\tb|a\x0cb|#f|a b|\x1b[m"),
    *_lines(b"@/api/sale/status HTTP/1.1\r\n", b" GET |get |GET\t|GETT |GE\x00T |FOO ||\xef\xbb\xbfGET "),
    *_lines(b"@\r\n", b"GET HTTP/1.1|GET|HTTP/1.1 200 OK|CONNECT|PRI * HTTP/2.0|POST / HTTP/1.1 x: y"),
]
CHUNKS = [
    *_lines(
        b"@\r\n{}\r\n0\r\n\r\n", b"0x2|-2|+2| 2|2 ||2_0|g|2;\n|2\n|2;a\rb|2;\x00|2;a=\x7f|2;a=\xff|2;\ta|2\x00|2,2"
    ),
    *_lines(b"@\r\n{}\r\n0\r\n\r\n", b'fffffffffffffffff|10000000000000000|2;a="\n|2,2'),
    *_lines(b"2\r\n{}@0\r\n\r\n", b"|\n|\r|XX|\n\r|\r\r\n"),
    *_lines(b"2\r\n{}\r\n0\r\n@", b"X : y\r\n\r\n| X: y\r\n\r\n|X\r\n\r\n|X: \x00\r\n\r\n|X: y\n\r\n|\n|X: a\rb\r\n"),
    *_lines(b"2\r\n{}\r\n0\r\n@\r\n\r\n", b"Content-Length: 2|Transfer-Encoding: chunked"),
    *_lines(b"2@{}\r\n0\r\n\r\n", b"\r|\n|\r\r\n|;\n|\x0b\r\n"),
]

Malformed = Callable[[random.Random, bytes], bytes]


def _with_field(fields: list[bytes]) -> Malformed:
    """Return what makes a purchase with one of `fields`, and `hidden` where another reader would see its end."""

    def make(rng: random.Random, hidden: bytes) -> bytes:
        bodies = (b"", b"0\r\n\r\n", b"5\r\nabcde\r\n0\r\n\r\n", chunked(rng, _BODY), _BODY)
        return head(rng, _LINE, JSON, rng.choice(fields)) + rng.choice(bodies) + hidden

    return make


def _field(rng: random.Random, hidden: bytes) -> bytes:
    return head(rng, _LINE, JSON, length(_BODY), rng.choice(FIELDS)) + _BODY + hidden


def _line(rng: random.Random, hidden: bytes) -> bytes:
    return rng.choice(LINES) + HOST + b"\r\n" + hidden


def _chunk(rng: random.Random, hidden: bytes) -> bytes:
    return head(rng, _LINE, JSON, CHUNKED) + rng.choice(CHUNKS) + hidden


def _old_chunks(rng: random.Random, hidden: bytes) -> bytes:
    raw = head(rng, _LINE, JSON, CHUNKED, rng.choice((b"", b"Connection: keep-alive\r\n")))
    return raw.replace(b" HTTP/1.1", b" HTTP/1.0") + chunked(rng, _BODY) + hidden


def _huge_head(rng: random.Random, hidden: bytes) -> bytes:
    huge = (
        b"X: " + b"a" * rng.randint(66_000, 400_000) + b"\r\n",
        b"X" * rng.randint(66_000, 400_000) + b": a\r\n",
        b"".join(b"X-%d: a\r\n" % number for number in range(rng.choice((101, 120, 1_000, 20_000)))),
        b"X: y\r\n" * rng.choice((101, 120, 1_000, 20_000)),
        b"Cookie: " + b"a=b; " * 20_000 + b"\r\n",
    )
    if rng.random() < 0.2:
        return head(rng, b"GET /" + b"a" * rng.randint(66_000, 400_000)) + hidden
    return head(rng, b"GET " + STATUS, rng.choice(huge)) + hidden


def _endless(rng: random.Random, hidden: bytes) -> bytes:
    """Return what never comes to an end: a head, a chunk's extension, trailers, or empty lines."""
    started, much = head(rng, _LINE, JSON, CHUNKED), rng.randint(600_000, 1_000_000)
    return rng.choice(
        (
            b"GET " + STATUS + b" HTTP/1.1\r\n" + HOST + b"X-%d: a\r\n" % rng.randint(0, 9) * (much // 8),
            b"GET " + STATUS + b" HTTP/1.1\r\n" + HOST + b"X: " + b"a" * much,
            b"GET /" + b"a" * much,
            started + b"2;" + b"a" * much,
            started + b"2\r\n{}\r\n0\r\n" + b"X: y\r\n" * (much // 6),
            started + b"2\r\n{}\r\n0\r\nX: " + b"a" * much,
            started + b"0" * much,
        )
    )


def _other_protocol(rng: random.Random, hidden: bytes) -> bytes:
    return rng.choice(
        (
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
            b"\x16\x03\x01\x00\xf1\x01\x00\x00\xed\x03\x03" + rng.randbytes(220),
            b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10" + rng.randbytes(40),
            b"SSH-2.0-OpenSSH_9.2p1\r\n",
            b"*1\r\n$4\r\nPING\r\n",
            b"EHLO localhost\r\n",
            b"PROXY TCP4 1.2.3.4 1.2.3.4 1 1\r\n",
            b"\r\n\r\n\x00\r\nQUIT\n" + rng.randbytes(8),
            rng.randbytes(rng.randint(20, 3_000)).replace(b"\n", b"\x00"),
        )
    ) + (hidden if rng.random() < 0.5 else b"")


def _tunnel(rng: random.Random, hidden: bytes) -> bytes:
    """Return a request for another protocol with a body, which the parser would take for that protocol's bytes."""
    upgrade = (b"Connection: upgrade\r\n", b"Upgrade: " + rng.choice((b"h2c", b"websocket")) + b"\r\n")
    framing = rng.choice((length(hidden), CHUNKED))
    return head(rng, _LINE, JSON, framing, *upgrade) + hidden


def _connect(rng: random.Random, hidden: bytes) -> bytes:
    target = rng.choice((b"localhost:80", b"elsewhere:443", b"/", b"http://localhost/", b"[::1]:6379"))
    return head(rng, b"CONNECT " + target) + hidden


MALFORMED: dict[str, Malformed] = {
    "length": _with_field(LENGTHS),
    "coding": _with_field(CODINGS),
    "field": _field,
    "line": _line,
    "chunk": _chunk,
    "chunks in HTTP/1.0": _old_chunks,
    "huge head": _huge_head,
    "endless": _endless,
    "other protocol": _other_protocol,
    "tunnel": _tunnel,
    "connect": _connect,
}
# How often of each: the large ones take the time of many others.
WEIGHTS = [20, 20, 15, 15, 20, 4, 1, 1, 5, 2, 2]
