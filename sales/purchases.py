"""The purchase service: one true answer to each attempt to buy."""

import hashlib
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from operator import itemgetter
from typing import Any, NamedTuple, TypeVar

from django.conf import settings

from flashsale.rates import Rate
from sales import acknowledged, archives, attempts, metrics, store
from sales.batcher import Batcher
from sales.per_loop import per_loop
from sales.ratelimits import Quota

# An attempt, or a sale's ID and a user_id.
Item = TypeVar("Item", bound=tuple[Any, ...])
_sale_of = itemgetter(0)

# Bounds how long one script call keeps Redis from everybody else: about 5 ms when every attempt wins.
LARGEST_BATCH = 500
# Before those of the attempts.
KEYS = "config", "stock", "purchases", "keys", "orders", "barred", "invited", "invited_list"
# From arrival to answer; the rest of the promised 1.5 s is for HTTP.
ANSWER_WITHIN_SECONDS = 1.3


class Attempt(NamedTuple):
    """One request to buy. `key_digest` stands for its Idempotency-Key; empty without one."""

    sale_id: int
    user_id: str
    key_digest: str


class Purchase(NamedTuple):
    """The answer to an attempt: `outcome` is a word of `outcomes`; `order_id` is empty without a unit.

    `quota` tells how many more attempts the shopper may make, if they are limited.
    """

    outcome: str
    order_id: str = ""
    remaining_stock: int | None = None
    quota: Quota | None = None


def new_deadline() -> float:
    """Return by when a request that arrives now is answered, whatever Redis does: a time of `time.monotonic`."""
    return time.monotonic() + ANSWER_WITHIN_SECONDS


async def buy(sale_id: int, user_id: str, idempotency_key: str = "", *, deadline: float | None = None) -> Purchase:
    """Return the store's answer to one attempt to buy, by `deadline` (without one, `new_deadline()`).

    `user_id` is as `shoppers.normalise` returns it. A refusal is an answer: read `outcome`. Safe to repeat: the second
    call carries the first one's `order_id`, and with the same key it is `replayed`.
    Raises store.Unavailable when Redis did not take the attempt, store.Unknown when it may have.
    """
    attempt, deadline = Attempt(sale_id, user_id, digest(idempotency_key)), deadline or new_deadline()
    try:
        return await _attempts()[store.place(sale_id)].submit(attempt, deadline)
    except store.Archived:
        return _decided_by_archive(attempt, await archives.look_up(sale_id, user_id, deadline))


def count_unavailable(sale_id: int | None, user_id: str, deadline: float) -> None:
    """Count an attempt that is refused before it is one of a sale, because Redis is away; of no known sale, nothing."""
    if sale_id is not None:
        _count([Attempt(sale_id, user_id, "")], [deadline], [store.Unavailable()])


async def find(sale_id: int, user_id: str, *, deadline: float | None = None) -> str | None:
    """Return the `order_id` of a shopper's purchase, or None. Raises store.Unavailable."""
    deadline = deadline or new_deadline()
    try:
        return await _searches()[store.place(sale_id)].submit((sale_id, user_id), deadline)
    except store.Archived:
        return (await archives.look_up(sale_id, user_id, deadline)).order_id or None
    except store.Unknown as error:
        raise store.Unavailable(*error.args) from error


def purchased_ms(order_id: str) -> int:
    """Return when an order was made, in milliseconds since 1970: the first part of its stream ID."""
    return int(order_id.partition("-")[0])


def digest(idempotency_key: str) -> str:
    """Return 96 bits of a key's hash: they bound what a client can make Redis remember."""
    return hashlib.blake2b(idempotency_key.encode(), digest_size=12).hexdigest() if idempotency_key else ""


async def _decide(batch: Sequence[Attempt]) -> list[Purchase | store.Failure]:
    """Decide the attempts in one exchange with Redis: one call of the script for each sale among them."""
    sales = _by_sale(batch)
    runs = {sale_id: acknowledged.known(sale_id).run_id for sale_id in sales}
    calls = [_script_call(sale_id, group, runs[sale_id]) for sale_id, group in sales.items()]
    sent_at = time.monotonic()
    replies = await store.run_scripts("purchase", calls)
    metrics.note_batch(len(batch), time.monotonic() - sent_at)
    answers = {
        sale_id: iter(_purchases(sale_id, group, reply, runs[sale_id]))
        for (sale_id, group), reply in zip(sales.items(), replies, strict=True)
    }
    return [next(answers[attempt.sale_id]) for attempt in batch]


def _script_call(sale_id: int, group: Sequence[Attempt], known_run: str) -> tuple[list[str], list[Any]]:
    """Return the script's keys and arguments."""
    keys = [store.key(sale_id, name) for name in KEYS]
    limit, period_us = 0, 0
    if settings.USER_RATE:
        limit, period_us = settings.USER_RATE.limit, settings.USER_RATE.period_seconds * 1_000_000
        ratelimit = store.key(sale_id, "ratelimit:")
        keys += [ratelimit + user_id for _, user_id, _ in group]
    words = [word for _, user_id, key_digest in group for word in (user_id, key_digest)]
    return keys, [store.RUN_ID, known_run, limit, period_us, *words]


def _purchases(sale_id: int, group: Sequence[Attempt], reply: Any, run_id: str) -> list[Purchase | store.Failure]:
    """Return what the script answered to each attempt, in that run of the server; and remember what has an order."""
    if isinstance(reply, store.Failure):
        return [reply] * len(group)
    purchases: list[Purchase | store.Failure] = []
    answered: dict[str, acknowledged.Answered] = {}
    columns, rate = (reply[place::5] for place in range(5)), settings.USER_RATE
    for (_, user_id, key_digest), outcome, order_id, number, left, seconds in zip(group, *columns, strict=True):
        if not order_id:
            purchases.append(_refused(outcome, number, rate, left, seconds))
            continue
        quota, order_id = _quota(rate, left, seconds), order_id.decode()
        purchases.append(Purchase(outcome.decode(), order_id, number, quota))
        # An attempt that did not buy has another key than the purchase, or none.
        answered[order_id] = user_id, number, "" if outcome == b"already_purchased" else key_digest
    if answered:
        acknowledged.remember(sale_id, run_id, answered)
    return purchases


_count = partial(attempts.count, within_seconds=ANSWER_WITHIN_SECONDS)


@lru_cache(maxsize=1000)
def _refused(outcome: bytes, number: int, rate: Rate | None, attempts_left: int, seconds: int) -> Purchase:
    """Return what the script says to all whom it refuses alike."""
    remaining_stock = None if outcome == b"rate_limited" else number
    return Purchase(outcome.decode(), "", remaining_stock, _quota(rate, attempts_left, seconds))


@lru_cache(maxsize=1000)
def _quota(rate: Rate | None, attempts_left: int, seconds: int) -> Quota | None:
    return Quota("shopper", rate, attempts_left, seconds) if rate else None


def _decided_by_archive(attempt: Attempt, held: archives.Held) -> Purchase:
    """Return what the script would have said, had Redis kept the purchases of a sale that has ended.

    Who was not invited hears that it has ended.
    """
    if held.order_id and attempt.key_digest and attempt.key_digest == held.key_digest:
        return Purchase("replayed", held.order_id, held.remaining_then)
    if held.order_id:
        return Purchase("already_purchased", held.order_id, held.remaining_stock)
    return Purchase("order_cancelled" if held.is_barred else "ended", "", held.remaining_stock)


async def _search(wanted: Sequence[tuple[int, str]]) -> list[str | store.Failure | None]:
    """Return the order_id of each shopper, by sale and user_id."""
    sales = _by_sale(wanted)
    commands: list[tuple[Any, ...]] = []
    for sale_id, group in sales.items():
        commands.append(("HMGET", store.key(sale_id, "purchases"), *(user_id for _, user_id in group)))
        # Read last: when it is not there, the purchases were.
        commands.append(("HEXISTS", store.key(sale_id, "config"), "archived"))
    answers = await store.ask(*commands)
    pairs = zip(answers[::2], answers[1::2], strict=True)
    found = {
        sale_id: iter(_found(sale_id, [user_id for _, user_id in group], *pair))
        for (sale_id, group), pair in zip(sales.items(), pairs, strict=True)
    }
    return [next(found[sale_id]) for sale_id, _ in wanted]


def _found(
    sale_id: int, user_ids: Sequence[str], held: store.Answer, archived: store.Answer
) -> list[str | store.Failure | None]:
    """Return the order_id of each shopper, of what Redis says of one sale; and remember those."""
    for answer in (held, archived):
        if isinstance(answer.reply, store.Failure):
            return [answer.reply] * len(user_ids)
    if archived.reply:
        return [store.Archived()] * len(user_ids)
    order_ids: list[str | store.Failure | None] = []
    answered: dict[str, acknowledged.Answered] = {}
    for user_id, purchase in zip(user_ids, held.reply, strict=True):
        if not purchase:
            order_ids.append(None)
            continue
        order_id, remaining_then, key_digest = purchase.decode().split(" ", 2)
        answered[order_id] = user_id, int(remaining_then), key_digest
        order_ids.append(order_id)
    if answered:
        acknowledged.remember(sale_id, held.run_id, answered)
    return order_ids


def _by_sale(items: Sequence[Item]) -> dict[int, list[Item]]:
    """Return items, whose first field is a sale's ID, by sale and in their order."""
    sales: dict[int, list[Item]] = defaultdict(list)
    for item in items:
        sales[item[0]].append(item)
    return sales


class _ByServer(dict[object, Batcher[Any, Any]]):
    """A batcher for each server, so that who waits for one of them need not wait for another."""

    def __init__(self, make: Callable[[], Batcher[Any, Any]]):
        super().__init__()
        self._make = make

    def __missing__(self, place: object) -> Batcher[Any, Any]:
        batcher = self[place] = self._make()
        return batcher


@per_loop
def _attempts() -> _ByServer:
    return _ByServer(partial(Batcher, _decide, LARGEST_BATCH, _count, _sale_of))


@per_loop
def _searches() -> _ByServer:
    return _ByServer(partial(Batcher, _search, LARGEST_BATCH, group=_sale_of))
