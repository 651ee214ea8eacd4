"""Acknowledged purchases that a loss has taken: found and named in SQL, and taken in again where there is a unit."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import reduce
from operator import or_
from typing import Any

from django.contrib.admin.models import CHANGE, LogEntry
from django.db import DatabaseError, transaction
from django.db.models import Count, Q, QuerySet

from flashsale.redaction import named
from sales import orders, publishing, store
from sales.acknowledged import Answered
from sales.models import MissingOrder, Order, Sale
from sales.order_ids import position
from sales.paging import AT_ONCE, pages

State = MissingOrder.State

# A log line names so many, and the log so many of one loss: the admin lists all.
NAMED_IN_A_LINE, NAMED_IN_THE_LOG = 50, 1_000
# `/health` names so many sales; the others are counted.
MOST_SALES_TOLD = 20

log = logging.getLogger(__name__)

# What a worker has acknowledged in each sale, by order_id, and SQL may not have.
Acknowledged = Mapping[int, Mapping[str, Answered]]
# Sends commands to the server that holds a sale, and returns its replies.
Ask = Callable[..., list[Any]]


def name(acknowledged: Acknowledged, ask: Ask) -> None:
    """Name in SQL which of the acknowledged orders neither Redis nor SQL has.

    Redis is asked first: what leaves it is in SQL by then. An order whose shopper has another one is no loss, and is
    noted as settled by that. Safe to repeat, and to run in several processes. Raises what `ask` does, and
    django.db.DatabaseError.
    """
    answered = {sale_id: of_sale for sale_id, of_sale in acknowledged.items() if of_sale}
    for sale in Sale.objects.filter(pk__in=answered) if answered else ():
        for page in pages(answered[sale.id].items(), AT_ONCE):
            _name(sale, page, ask)


def _name(sale: Sale, page: Sequence[tuple[str, Answered]], ask: Ask) -> None:
    if lacking := _not_in_redis(sale, page, ask):
        held = in_sql({sale.id: lacking})
        absent = [(order_id, order) for order_id, order in page if order_id in lacking]
        absent = [(order_id, order) for order_id, order in absent if (sale.id, order_id, order[0]) not in held]
        if absent:
            _record(sale, absent, lacking)


def in_sql(wanted: Mapping[int, Iterable[str]]) -> set[tuple[int, str, str]]:
    """Return what SQL has of order_ids, which come by sale: each sale, order_id and shopper.

    Orders count, cancelled ones among them, and those that are named as missing. Raises django.db.DatabaseError.
    """
    left = {sale_id: set(order_ids) for sale_id, order_ids in wanted.items()}
    found: set[tuple[int, str, str]] = set()
    for model in (Order, MissingOrder):
        asked = [Q(sale_id=sale_id, order_id__in=order_ids) for sale_id, order_ids in left.items() if order_ids]
        if not asked:
            break
        rows = model._default_manager.filter(reduce(or_, asked)).order_by()
        for row in rows.values_list("sale_id", "order_id", "user_id"):
            found.add(row)
            left[row[0]].discard(row[1])
    return found


def told() -> dict[str, Any]:
    """Return how many acknowledged purchases are missing, by the slug of their sale, as `/health` tells it.

    Everybody reads that: of sales that are not published it tells no more than how many there are.
    """
    standing = MissingOrder.objects.filter(state__in=(State.FOUND, State.LEFT_OVER)).order_by()
    counts = list(standing.values_list("sale__slug", "sale__published").annotate(Count("id")).order_by("sale__slug"))
    if not counts:
        return {}
    shown = {slug: count for slug, is_published, count in counts if is_published}
    shown = dict(list(shown.items())[:MOST_SALES_TOLD])
    more = len(counts) - len(shown)
    sales = [*shown, *([f"{more} other sales"] if more else [])]
    reason = f"acknowledged purchases are missing: {', '.join(sales)}. The admin names them under Missing orders"
    return {"status": "degraded", "missing": shown, "missingElsewhere": more, "reason": reason}


def closing_reasons(sales: Iterable[Sale]) -> dict[int, str]:
    """Return why each of the sales is closed where something was found missing. restore_sale answers each of them."""
    by_id = {sale.id: sale for sale in sales}
    found = MissingOrder.objects.filter(sale__in=by_id, state=State.FOUND).order_by()
    counts = found.values_list("sale_id").annotate(Count("id"))
    return {
        sale_id: f"Acknowledged purchases that neither Redis nor SQL has: {count}. {advice(by_id[sale_id])}"
        for sale_id, count in counts
    }


def advice(sale: Sale) -> str:
    return f"Run manage.py restore_sale {sale.slug}"


def take_in(sale: Sale) -> list[Order]:
    """Make the missing purchases orders again, the oldest first, while units are left; return those orders, which the
    caller gives to Redis. The others are left over.

    Their order_ids, shoppers and times stay. Redis holds every other order of the sale, and sells nothing meanwhile.
    Safe to repeat. Raises store.RedisError and django.db.DatabaseError.
    """
    taken: list[Order] = []
    with transaction.atomic():
        publishing.lock(sale)
        free = sale.total_stock - store.client().hlen(store.key(sale.id, "purchases"))
        standing = sorted(sale.standing_losses(), key=lambda lost: position(lost.order_id))
        for page in pages(standing, AT_ONCE):
            taken += _take_in(sale, page, free - len(taken))
    return taken


def _take_in(sale: Sale, page: Sequence[MissingOrder], free: int) -> list[Order]:
    user_ids = [lost.user_id for lost in page]
    held = in_orders(sale, [lost.order_id for lost in page])
    has = _orders_of(sale, user_ids)
    purchases = store.client().hmget(store.key(sale.id, "purchases"), user_ids)
    taken: list[Order] = []
    for lost, purchase in zip(page, purchases, strict=True):
        other = has.get(lost.user_id) or (purchase.decode().partition(" ")[0] if purchase else "")
        if held.get(lost.order_id) == lost.user_id:
            lost.state, lost.note = State.TAKEN_IN, "SQL had it after all."
        elif other:
            lost.state, lost.note = State.SETTLED, f"The shopper has order {other}."
        elif lost.order_id in held:
            lost.state, lost.note = State.LEFT_OVER, "Another shopper's order has this order_id."
        elif len(taken) >= free:
            lost.state, lost.note = State.LEFT_OVER, "No unit was left."
        else:
            lost.state, lost.note = State.TAKEN_IN, "There was a unit for it."
            taken.append(orders.row(sale.id, lost.user_id, lost.order_id, lost.remaining_stock, lost.key_digest))
            has[lost.user_id] = held[lost.order_id] = lost.order_id
    if refused := orders.insert(taken):
        raise DatabaseError("; ".join(refused.values()))
    MissingOrder.objects.bulk_update(page, ["state", "note"])
    return taken


def settle(chosen: QuerySet[MissingOrder], user: Any) -> int:
    """Settle those of the chosen that are left over: a person has seen to their shoppers. Return how many, and note in
    the history of each who did it."""
    with transaction.atomic():
        left_over = list(chosen.select_for_update().filter(state=State.LEFT_OVER))
        for lost in left_over:
            lost.state, lost.note = State.SETTLED, f"Settled by {user}."
        MissingOrder.objects.bulk_update(left_over, ["state", "note"], batch_size=AT_ONCE)
        for one in left_over:
            LogEntry.objects.log_actions(user.pk, [one], CHANGE, "Settled.", single_object=True)
    return len(left_over)


def in_orders(sale: Sale, order_ids: Iterable[str]) -> dict[str, str]:
    """Return the shopper of each of the order_ids that is an order of the sale, cancelled or not."""
    return dict(sale.orders.filter(order_id__in=list(order_ids)).order_by().values_list("order_id", "user_id"))


def _orders_of(sale: Sale, user_ids: Iterable[str]) -> dict[str, str]:
    """Return the order that each of the shoppers has, or that bars them; by shopper."""
    of_shoppers = sale.orders.filter(user_id__in=list(user_ids)).order_by()
    that_count = of_shoppers.filter(Q(cancelled_at=None) | Q(may_buy_again=False))
    return dict(that_count.values_list("user_id", "order_id"))


def _not_in_redis(sale: Sale, page: Sequence[tuple[str, Answered]], ask: Ask) -> dict[str, str]:
    """Return the order_ids that are not their shoppers' purchases, and what order Redis holds of the shopper, or ""."""
    (held,) = ask(sale, ("HMGET", store.key(sale.id, "purchases"), *(user_id for _, (user_id, _, _) in page)))
    purchases = (purchase.decode().partition(" ")[0] if purchase else "" for purchase in held)
    found = zip((order_id for order_id, _ in page), purchases, strict=True)
    return {order_id: other for order_id, other in found if other != order_id}


def _record(sale: Sale, absent: Sequence[tuple[str, Answered]], in_redis: Mapping[str, str]) -> None:
    has = _orders_of(sale, [user_id for _, (user_id, _, _) in absent])
    rows = [
        MissingOrder(sale=sale, order_id=order_id, user_id=user_id, remaining_stock=remaining, key_digest=key_digest)
        for order_id, (user_id, remaining, key_digest) in absent
    ]
    for row in rows:
        if other := in_redis[row.order_id] or has.get(row.user_id):
            row.state, row.note = State.SETTLED, f"The shopper has order {other}."
    # Another worker may know of the same; it swallows all other conflicts, too.
    MissingOrder.objects.bulk_create(rows, ignore_conflicts=True)
    held = in_sql({sale.id: [row.order_id for row in rows]})
    if any((sale.id, row.order_id, row.user_id) not in held for row in rows):
        raise DatabaseError("what is missing could not be written down")
    _log(sale, [row for row in rows if row.state == State.FOUND], logging.ERROR, "acknowledged, and lost")
    served = [row for row in rows if row.state == State.SETTLED]
    _log(sale, served, logging.WARNING, "lost, of shoppers who have another order")


def _log(sale: Sale, rows: Sequence[MissingOrder], level: int, words: str) -> None:
    for page in pages(rows[:NAMED_IN_THE_LOG], NAMED_IN_A_LINE):
        names = ", ".join(f"{row.order_id} {named(row.user_id)}" for row in page)
        log.log(level, "%s: %s: %s", sale.slug, words, names)
    if len(rows) > NAMED_IN_THE_LOG:
        log.log(level, "%s: %s: %d more, which the admin names", sale.slug, words, len(rows) - NAMED_IN_THE_LOG)
