"""The purchase service: one true answer to each attempt to buy."""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, NamedTuple, TypeVar

from django.conf import settings

from sales import attempts, store
from sales.batcher import Batcher
from sales.per_loop import per_loop

# An attempt, or a sale's ID and a user_id.
Item = TypeVar("Item", bound=tuple[Any, ...])

# Bounds how long one script call keeps Redis from everybody else: about 5 ms when every attempt wins.
LARGEST_BATCH = 500
# From arrival to answer; the rest of the promised 1.5 s is for HTTP.
ANSWER_WITHIN_SECONDS = 1.3


class Attempt(NamedTuple):
    """One request to buy. `key_digest` stands for its Idempotency-Key; empty without one."""

    sale_id: int
    user_id: str
    key_digest: str


class Purchase(NamedTuple):
    """The answer to an attempt: `outcome` is a word of `outcomes`; `order_id` is empty without a unit."""

    outcome: str
    order_id: str = ""
    remaining_stock: int | None = None
    retry_after_seconds: int = 0


def new_deadline() -> float:
    """Return by when a request that arrives now is answered, whatever Redis does: a time of `time.monotonic`."""
    return time.monotonic() + ANSWER_WITHIN_SECONDS


async def buy(sale_id: int, user_id: str, idempotency_key: str = "", *, deadline: float | None = None) -> Purchase:
    """Return the store's answer to one attempt to buy, by `deadline` (without one, `new_deadline()`).

    `user_id` is as `shoppers.normalise` returns it. A refusal is an answer: read `outcome`. Safe to repeat: the second
    call carries the first one's `order_id`, and with the same key it is `replayed`.
    Raises store.Unavailable when Redis did not take the attempt, store.Unknown when it may have.
    """
    return await _attempts().submit(Attempt(sale_id, user_id, digest(idempotency_key)), deadline or new_deadline())


def count_unavailable(sale_id: int | None, user_id: str, deadline: float) -> None:
    """Count an attempt that is refused before it is one of a sale, because Redis is away; of no known sale, nothing."""
    if sale_id is not None:
        _count([Attempt(sale_id, user_id, "")], [deadline], [store.Unavailable()])


async def find(sale_id: int, user_id: str, *, deadline: float | None = None) -> str | None:
    """Return the `order_id` of a shopper's purchase, or None. Raises store.Unavailable."""
    try:
        return await _searches().submit((sale_id, user_id), deadline or new_deadline())
    except store.Unknown as error:
        raise store.Unavailable(*error.args) from error


@dataclass
class Known:
    """What this worker knows of a sale in Redis: the publication (`epoch`), the run of the server that it knows to hold
    all that it has answered, and the newest order_id that it has answered. All empty before the first look."""

    epoch: str = ""
    run_id: str = ""
    newest_order: str = ""


def known(sale_id: int) -> Known:
    return _known().setdefault(sale_id, Known())


def purchased_ms(order_id: str) -> int:
    """Return when an order was made, in milliseconds since 1970: the first part of its stream ID."""
    return int(order_id.partition("-")[0])


def digest(idempotency_key: str) -> str:
    """Return 96 bits of a key's hash: they bound what a client can make Redis remember."""
    return hashlib.blake2b(idempotency_key.encode(), digest_size=12).hexdigest() if idempotency_key else ""


async def _decide(batch: Sequence[Attempt]) -> list[Purchase | store.Failure]:
    """Decide the attempts in one exchange with Redis: one call of the script for each sale among them."""
    sales = _by_sale(batch)
    calls = [_script_call(sale_id, group) for sale_id, group in sales.items()]
    answers = {
        sale_id: iter(_purchases(sale_id, len(group), reply))
        for (sale_id, group), reply in zip(sales.items(), await store.run_scripts("purchase", calls), strict=True)
    }
    return [next(answers[attempt.sale_id]) for attempt in batch]


def _script_call(sale_id: int, group: Sequence[Attempt]) -> tuple[list[str], list[Any]]:
    """Return the script's keys and arguments."""
    keys = [store.key(sale_id, name) for name in ("config", "stock", "purchases", "keys", "orders", "barred")]
    limit, period_us = 0, 0
    if settings.USER_RATE:
        limit, period_us = settings.USER_RATE.limit, settings.USER_RATE.period_seconds * 1_000_000
        ratelimit = store.key(sale_id, "ratelimit:")
        keys += [ratelimit + user_id for _, user_id, _ in group]
    words = [word for _, user_id, key_digest in group for word in (user_id, key_digest)]
    return keys, [store.RUN_ID, known(sale_id).run_id, limit, period_us, *words]


def _purchases(sale_id: int, count: int, reply: Any) -> list[Purchase | store.Failure]:
    """Return what the script answered to each of `count` attempts."""
    if isinstance(reply, store.Failure):
        return [reply] * count
    purchases: list[Purchase | store.Failure] = []
    newest_order = b""
    for outcome, order_id, number in zip(reply[::3], reply[1::3], reply[2::3], strict=True):
        if not order_id:
            purchases.append(_refused(outcome, number))
            continue
        purchases.append(Purchase(outcome.decode(), order_id.decode(), number))
        if outcome == b"purchased":
            newest_order = order_id
    if newest_order:
        known(sale_id).newest_order = newest_order.decode()
    return purchases


_count = partial(attempts.count, within_seconds=ANSWER_WITHIN_SECONDS)


@lru_cache(maxsize=1000)
def _refused(outcome: bytes, number: int) -> Purchase:
    """Return what the script says to all whom it refuses alike."""
    if outcome == b"rate_limited":
        return Purchase("rate_limited", retry_after_seconds=-(-number // 1000))
    return Purchase(outcome.decode(), remaining_stock=number)


async def _search(wanted: Sequence[tuple[int, str]]) -> list[str | None]:
    """Return the order_id of each shopper, by sale and user_id."""
    sales = _by_sale(wanted)
    commands = (
        ("HMGET", store.key(sale_id, "purchases"), *(user_id for _, user_id in group))
        for sale_id, group in sales.items()
    )
    replies = dict(zip(sales, map(iter, await store.call(*commands)), strict=True))
    found = (next(replies[sale_id]) for sale_id, _ in wanted)
    return [purchase.decode().partition(" ")[0] if purchase else None for purchase in found]


def _by_sale(items: Sequence[Item]) -> dict[int, list[Item]]:
    """Return items, whose first field is a sale's ID, by sale and in their order."""
    sales: dict[int, list[Item]] = {}
    for item in items:
        sales.setdefault(item[0], []).append(item)
    return sales


@per_loop
def _known() -> dict[int, Known]:
    return {}


@per_loop
def _attempts() -> Batcher[Attempt, Purchase]:
    return Batcher(_decide, LARGEST_BATCH, _count)


@per_loop
def _searches() -> Batcher[tuple[int, str], str | None]:
    return Batcher(_search, LARGEST_BATCH)
