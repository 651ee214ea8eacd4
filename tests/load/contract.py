"""What docs/api.md allows as the answer to each request. Each function returns what is wrong with a reply, or ""."""

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import orjson

JSON = {"Content-Type": "application/json"}
CODES: Mapping[int, frozenset[str]] = {
    200: frozenset({"purchased"}),
    409: frozenset({"already_purchased", "sold_out", "not_started", "ended", "paused", "order_cancelled"}),
    422: frozenset({"idempotency_key_reused"}),
    429: frozenset({"rate_limited"}),
}
# What an answer with an order tells of it.
FIELDS = {
    "purchased": {"orderId", "purchaseTime", "orderCode", "receiptUrl"},
    "already_purchased": {"orderId", "purchaseTime"},
}
STATES = frozenset({"upcoming", "active", "paused", "sold_out", "ended"})


class Reply:
    """An HTTP answer. `status` is 0 when none came."""

    def __init__(self, status: int = 0, headers: Mapping[str, str] | None = None, content: bytes = b""):
        self.status, self.headers, self.content = status, headers or {}, content

    @cached_property
    def body(self) -> dict[str, Any]:
        """Return the JSON object, or an empty one when it is none."""
        try:
            body = orjson.loads(self.content)
        except ValueError:
            return {}
        return body if isinstance(body, dict) else {}

    @property
    def code(self) -> str:
        return str(self.body.get("code", "")) if self.status else "broken"

    @property
    def retry_after_seconds(self) -> int:
        """Return how long it says to wait; 0 when it does not."""
        words = self.headers.get("retry-after") or ""
        return int(words) if words.isdecimal() else 0

    @property
    def bought(self) -> bool:
        return self.code == "purchased"


Check = Callable[[Reply], str]


def purchase(reply: Reply) -> str:
    """Check the answer to a well-formed attempt to buy."""
    if wrong := _general(reply):
        return wrong
    body = reply.body
    if reply.code not in CODES.get(reply.status, ()):
        return f"{reply.status} {reply.code!r} is not an answer to an attempt"
    remaining = body.get("remainingStock", "missing")
    if body.get("success") is not reply.bought or not body.get("message"):
        return f"{reply.code} with success {body.get('success')} and message {body.get('message')!r}"
    if remaining is not None and not (isinstance(remaining, int) and remaining >= 0):
        return f"remainingStock is {remaining}"
    missing = FIELDS.get(reply.code, set()) - {name for name, value in body.items() if value}
    if missing:
        return f"{reply.code} without {', '.join(sorted(missing))}"
    return ""


def replay_of(first: Reply) -> Check:
    """Return the check of a repeat with the key that bought: the same body, and marked."""

    def check(reply: Reply) -> str:
        if wrong := purchase(reply):
            return wrong
        if reply.status == 429 or (reply.content == first.content and is_replay(reply)):
            return ""
        return f"the key that bought was answered {reply.status} {reply.code}, another body or not marked as replayed"

    return check


def repeat_of(first: Reply) -> Check:
    """Return the check of a repeat with another key: `already_purchased`, with the first order."""

    def check(reply: Reply) -> str:
        if wrong := purchase(reply):
            return wrong
        order_id = first.body.get("orderId")
        if reply.status == 429 or (reply.code == "already_purchased" and reply.body.get("orderId") == order_id):
            return ""
        return f"a second attempt was answered {reply.status} {reply.code} instead of already_purchased"

    return check


def is_replay(reply: Reply) -> bool:
    return reply.headers.get("idempotent-replayed") == "true"


def status(reply: Reply) -> str:
    if (wrong := _general(reply)) or reply.status in (304, 429):
        return wrong
    if reply.status != 200 or reply.body.get("status") not in STATES:
        return f"{reply.status} {reply.body.get('status')!r} is not a status"
    missing = {"startTime", "serverTime", "totalStock", "remainingStock", "pollAfterMs"} - reply.body.keys()
    return f"the status lacks {', '.join(sorted(missing))}" if missing else ""


def page(reply: Reply) -> str:
    if wrong := _general(reply):
        return wrong
    return "" if reply.status in (200, 304, 429) else f"the page is {reply.status}"


def user(reply: Reply) -> str:
    if (wrong := _general(reply)) or reply.status == 429:
        return wrong
    has_purchased, purchase_time = reply.body.get("hasPurchased"), reply.body.get("purchaseTime", "missing")
    if reply.status != 200 or not isinstance(has_purchased, bool):
        return f"{reply.status}, hasPurchased {has_purchased}"
    is_whole = isinstance(purchase_time, str) and purchase_time != "missing" if has_purchased else purchase_time is None
    return "" if is_whole else f"hasPurchased {has_purchased} with purchaseTime {purchase_time}"


def exactly(expected: int, code: str) -> Check:
    """Return the check of a request that can have but one answer, or that of a limit."""

    def check(reply: Reply) -> str:
        if wrong := _general(reply):
            return wrong
        if (reply.status, reply.code) not in ((expected, code), (429, "rate_limited")):
            return f"{reply.status} {reply.code!r} instead of {expected} {code}"
        return "405 without Allow" if reply.status == 405 and not reply.headers.get("allow") else ""

    return check


def _general(reply: Reply) -> str:
    if not reply.status:
        return "the connection broke"
    if reply.status >= 500:
        return f"{reply.status} {reply.code}"
    return "429 without Retry-After" if reply.status == 429 and not reply.retry_after_seconds else ""
