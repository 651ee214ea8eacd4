"""Requests that make no sense, and the one answer that docs/api.md has for each."""

from typing import NamedTuple

from tests.load.contract import JSON

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
BUY = "/api/sale/purchase"
# Nobody buys as this one: each request that names it is refused.
NOBODY = b'{"userId": "nobody@example.com"}'


class Nonsense(NamedTuple):
    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    status: int
    code: str


NONSENSE = [
    Nonsense("POST", BUY, JSON, b'{"userId": ', 400, "invalid_request"),
    Nonsense("POST", BUY, JSON, b"\xff\xfe", 400, "invalid_request"),
    Nonsense("POST", BUY, JSON, b'["ada@example.com"]', 400, "invalid_request"),
    Nonsense("POST", BUY, JSON, b"{}", 400, "invalid_request"),
    Nonsense("POST", BUY, JSON, b'{"userId": 7}', 400, "invalid_request"),
    Nonsense("POST", BUY, JSON, b'{"userId": "  "}', 400, "invalid_request"),
    Nonsense("POST", BUY, JSON, b'{"userId": "a\\u0000b"}', 400, "invalid_request"),
    Nonsense("POST", BUY, JSON, b'{"userId": "%s"}' % (b"a" * 255), 400, "invalid_request"),
    Nonsense("POST", BUY, {**JSON, "Idempotency-Key": "k" * 256}, NOBODY, 400, "invalid_request"),
    Nonsense("POST", BUY, {"Content-Type": "text/plain"}, NOBODY, 415, "unsupported_media_type"),
    Nonsense("POST", BUY, FORM, b"userId=nobody", 415, "unsupported_media_type"),
    Nonsense("POST", BUY, JSON, b'{"userId": "%s"}' % (b"a" * 9000), 413, "payload_too_large"),
    Nonsense("POST", BUY, {**JSON, "Sec-Fetch-Site": "cross-site"}, NOBODY, 403, "forbidden"),
    Nonsense("POST", BUY, {**JSON, "Origin": "https://elsewhere.example"}, NOBODY, 403, "forbidden"),
    Nonsense("GET", BUY, {}, b"", 405, "method_not_allowed"),
    Nonsense("PUT", BUY, JSON, NOBODY, 405, "method_not_allowed"),
    Nonsense("DELETE", "/api/sale/status", {}, b"", 405, "method_not_allowed"),
    Nonsense("POST", "/api/sale/user/nobody@example.com", JSON, NOBODY, 405, "method_not_allowed"),
    Nonsense("POST", "/api/sales/no-such-sale/purchase", JSON, NOBODY, 404, "no_sale"),
    Nonsense("GET", "/api/sales/no-such-sale/status", {}, b"", 404, "no_sale"),
]
