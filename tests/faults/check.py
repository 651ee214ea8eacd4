"""The one checker: what must be true after any fault, or what is not."""

import hashlib
import time
from collections import Counter, defaultdict
from typing import Any, NamedTuple, Protocol

from tests.faults.cancellations import Cancellation
from tests.faults.load import Answer, Load

# Once nothing is broken any more, an answer may still be a 503 on a busy machine.
SETTLED_WITHIN_SECONDS = 60.0
# The writer takes a dead writer's entries over after 5 s, and up to 10 s later when Redis's clock went back that far.
DRAINED_WITHIN_SECONDS = 120.0
CODES = {
    200: {"purchased"},
    409: {"already_purchased", "sold_out", "order_cancelled"},
    503: {"unavailable", "unknown"},
    0: {"unknown"},
}


Purchase = tuple[str, str]


class Sold(Protocol):
    """The sale that is checked, with its Redis and its database, as `stage.Stage` explains it."""

    @property
    def total_stock(self) -> int: ...
    @property
    def malformed_entries(self) -> int: ...
    @property
    def settled_at(self) -> float: ...
    @property
    def redis(self) -> Any: ...
    @property
    def sale_id(self) -> int: ...
    @property
    def database(self) -> Any: ...
    def key(self, name: str) -> str: ...
    def orders(self) -> list[Purchase]: ...
    def cancelled_orders(self) -> dict[Purchase, bool]: ...
    def told_cancellations(self) -> list[Cancellation]: ...
    def audit(self) -> dict[str, Any]: ...


class Loss(NamedTuple):
    """What Redis no longer had when it came back, of what shoppers or SQL knew, and what SQL knew then."""

    lost: set[Purchase]
    in_sql: set[Purchase]


class Complaints(list[str]):
    """What is wrong, in words."""

    def unless(self, is_right: bool, words: str, *examples: Any) -> None:
        if not is_right:
            self.append(f"{words}: {', '.join(map(str, examples[:5]))}" if examples else words)


def complaints(stage: Sold, load: Load, loss: Loss | None = None, *, may_drop: bool = False) -> Complaints:
    """Settle what is unknown, wait for the order writer, and return what is wrong. The load has stopped.

    `loss` is given after a fault that takes data from Redis; `may_drop` allows broken connections.
    """
    found = Complaints()
    _settle(load, found)
    _drain(stage, found)
    _check_answers(load.answers, found, may_drop=may_drop)
    held = {user_id: value.split(" ") for user_id, value in stage.redis.hgetall(stage.key("purchases")).items()}
    purchases = {user_id: words[0] for user_id, words in held.items()}
    cancelled = stage.cancelled_orders()
    _check_purchases(load.answers, held, loss, set(cancelled), found)
    _check_cancellations(stage, load.answers, purchases, cancelled, found)
    _check_stock(stage, len(purchases), load.answers, loss, found)
    _check_places(stage, purchases, loss, found)
    return found


def _settle(load: Load, found: Complaints) -> None:
    """Repeat, with its key, each attempt whose latest answer is `unknown`, until it is answered."""
    latest = {(answer.user_id, answer.key): answer for answer in list(load.answers)}
    client = load.client()
    for (user_id, key), answer in latest.items():
        if answer.code == "unknown":
            deadline = time.monotonic() + SETTLED_WITHIN_SECONDS
            while (settled := client.buy(user_id, key)).status == 503 and time.monotonic() < deadline:
                load.answers.append(settled)
            load.answers.append(settled)
            found.unless(settled.status in (200, 409), "an unknown answer was not settled by a retry", settled)
    client.close()


def _drain(stage: Sold, found: Complaints) -> None:
    """Wait until the order writers have moved and acknowledged everything."""
    deadline = time.monotonic() + DRAINED_WITHIN_SECONDS
    while (waiting := _waiting(stage)) != (0, False):
        if time.monotonic() > deadline:
            found.append(f"not drained: {waiting[0]} entries are pending, undelivered: {waiting[1]}")
            return
        time.sleep(0.05)


def _waiting(stage: Sold) -> tuple[int, bool]:
    """Return how many entries are pending, and whether some are not delivered yet."""
    client, stream = stage.redis, stage.key("orders")
    (group,) = client.xinfo_groups(stream)
    return group["pending"], bool(client.xrange(stream, min=f"({group['last-delivered-id']}", count=1))


def _check_answers(answers: list[Answer], found: Complaints, *, may_drop: bool) -> None:
    wrong = [answer for answer in answers if answer.code not in CODES.get(answer.status, ())]
    found.unless(not wrong, f"{len(wrong)} answers that no shopper should get", *wrong)
    dropped = [answer for answer in answers if answer.status == 0]
    found.unless(may_drop or not dropped, f"{len(dropped)} connections broke", *dropped)


def _check_purchases(
    answers: list[Answer], held: dict[str, list[str]], loss: Loss | None, cancelled: set[Purchase], found: Complaints
) -> None:
    """Acknowledged ⊆ purchases and cancelled ones ⊆ attempted, and what was refused was not bought."""
    forgivable = loss.lost - loss.in_sql if loss else set()
    purchases = {user_id: words[0] for user_id, words in held.items()}
    told = {(answer.user_id, answer.order_id) for answer in answers if answer.order_id}
    missing = [(user, order_id) for user, order_id in told - forgivable - cancelled if purchases.get(user) != order_id]
    found.unless(not missing, f"{len(missing)} acknowledged purchases are not there", *missing)
    if loss:
        missing = [(user, order_id) for user, order_id in loss.in_sql - cancelled if purchases.get(user) != order_id]
        found.unless(not missing, f"{len(missing)} orders are not purchases after restore_sale", *missing)

    codes: dict[tuple[str, str], set[str]] = defaultdict(set)
    for answer in answers:
        codes[answer.user_id, _digest(answer.key)].add(answer.code)
    strange = [user_id for user_id, words in held.items() if (user_id, words[2]) not in codes]
    found.unless(not strange, f"{len(strange)} purchases that nobody attempted", *strange)
    refused = [user for user, words in held.items() if not codes[user, words[2]] & {"purchased", "unknown"}]
    found.unless(not refused, f"{len(refused)} purchases by attempts that were refused", *refused)

    order_ids = Counter(purchases.values())
    found.unless(len(order_ids) == len(purchases), "an order_id was given twice", *order_ids.most_common(3))


def _check_cancellations(
    stage: Sold,
    answers: list[Answer],
    purchases: dict[str, str],
    cancelled: dict[Purchase, bool],
    found: Complaints,
) -> None:
    """Acknowledged ⊆ cancelled ⊆ begun; none of them is a purchase, and nobody was given it, or bought, who may not."""
    told = stage.told_cancellations()
    saved = {(one.user_id, one.order_id): one.may_buy_again for one in told if one.word != "begun"}
    lost = [order for order, may_buy_again in saved.items() if cancelled.get(order) is not may_buy_again]
    found.unless(not lost, f"{len(lost)} acknowledged cancellations are not there", *lost)
    strange = cancelled.keys() - {(one.user_id, one.order_id) for one in told}
    found.unless(not strange, f"{len(strange)} orders are cancelled that nobody cancelled", *strange)
    kept = [(user, order_id) for user, order_id in cancelled if purchases.get(user) == order_id]
    found.unless(not kept, f"{len(kept)} cancelled orders are still purchases", *kept)
    barred = {user for (user, _), may_buy_again in cancelled.items() if not may_buy_again}
    found.unless(not barred & purchases.keys(), "shoppers have bought who may not", *barred & purchases.keys())
    enforced = {one.order_id: one.at for one in told if one.word == "enforced"}
    named = [answer for answer in answers if answer.began > enforced.get(answer.order_id, answer.began)]
    found.unless(not named, f"{len(named)} answers name an order after it was cancelled", *named)
    barred_at = {one.user_id: one.at for one in told if one.word == "enforced" and not one.may_buy_again}
    wrong = [
        answer
        for answer in answers
        if answer.began > barred_at.get(answer.user_id, answer.began)
        and answer.code not in {"order_cancelled", "unavailable", "unknown"}
    ]
    found.unless(not wrong, f"{len(wrong)} answers to shoppers who may not buy again", *wrong)


def _check_stock(stage: Sold, sold: int, answers: list[Answer], loss: Loss | None, found: Complaints) -> None:
    stock, total = int(stage.redis.get(stage.key("stock"))), stage.total_stock
    found.unless(stock + sold == total, f"stock {stock} + purchases {sold} != total {total}")
    found.unless(stock >= 0, f"the stock is {stock}")
    if not loss:
        # A unit may have come back to stock after somebody heard that there was none.
        late = (answer for answer in answers if answer.began >= stage.settled_at)
        is_undersold = stock > 0 and any(answer.code == "sold_out" for answer in late)
        found.unless(not is_undersold, f"shoppers heard sold_out, and {stock} units are left")


def _check_places(stage: Sold, purchases: dict[str, str], loss: Loss | None, found: Complaints) -> None:
    """Valid orders = purchases, one per shopper, and the audit of the product finds the same."""
    orders = stage.orders()
    differing = set(orders) ^ set(purchases.items())
    found.unless(not differing, f"{len(differing)} orders differ from purchases", *differing)
    found.unless(len(orders) == len({user for user, _ in orders}), "SQL holds two orders of one shopper")
    aside = stage.database.query("SELECT count(*) FROM sales_quarantine WHERE sale_id = %s", stage.sale_id)[0][0]
    expected = stage.malformed_entries
    found.unless(aside == expected, f"{aside} entries are in quarantine instead of {expected}")
    audit = stage.audit()
    allowed = {"entries_in_quarantine"} if expected else set()
    drift = set(audit["drift"]) - allowed
    found.unless(not drift, "the audit finds drift", audit["drift"])


def _digest(key: str) -> str:
    """Return what Redis remembers of an Idempotency-Key."""
    return hashlib.blake2b(key.encode(), digest_size=12).hexdigest()
