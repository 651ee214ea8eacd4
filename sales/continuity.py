"""Whether Redis still holds what SQL knows of its sales.

A server that has started again may have lost data: an older backup, a failover, a cut-off file. The purchase script
therefore decides only for the run of the server that was last checked, and `compare` is that check.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from itertools import starmap
from typing import Any, NamedTuple

from django.db import transaction
from django.db.models import Count

from sales import archive_mirror, cancelling, invited_mirror, missing, publishing, store
from sales.acknowledged import Answered
from sales.models import Order, Sale
from sales.order_ids import position
from sales.paging import AT_ONCE, pages

# The newest orders of a sale are compared one by one, all of them by number.
COMPARED_ORDERS = 1_000
# So many sales are compared in one transaction, by the same queries.
SALES_AT_ONCE = 100


class Held(NamedTuple):
    """What Redis holds of a sale: its configuration, the number of its purchases, and whether there is a stream, and a
    note on its list of invited shoppers."""

    config: dict[str, str]
    purchases: int
    has_stream: bool
    has_list: bool


class _Order(NamedTuple):
    """An order as SQL has it. A cancelled one is in the stream, but no purchase any more."""

    user_id: str
    order_id: str
    cancelled_at: datetime | None


def confirm(sale_id: int, run_id: str, acknowledged: Mapping[str, Answered] | None = None) -> str:
    """Compare one sale, and let it go on when nothing is missing; return what is. Raises as `compare`."""
    reason = compare({sale_id: acknowledged or {}}, run_id)[sale_id]
    return reason or let_go_on([sale_id], run_id)[sale_id]


def compare(acknowledged: missing.Acknowledged, run_id: str) -> dict[int, str]:
    """Compare sales in Redis with SQL, and return what is missing of each, by its ID. Those that miss something are
    closed. Where nothing is missing it is "", and the configuration is SQL's: `let_go_on` is the next step.

    `acknowledged` has the sales, and what of each the caller has answered: what is lost is named. Safe to repeat and to
    run in several processes. Raises store.RedisError and django.db.DatabaseError; what was not compared
    then stays unchecked.
    """
    reasons: dict[int, str] = {}
    for page in pages(acknowledged.items(), SALES_AT_ONCE):
        reasons |= _compare(dict(page), run_id)
    return reasons


def close(sale_id: int, run_id: str, reason: str) -> None:
    """Close a sale for that run of the server, until it is restored. Raises store.RedisError."""
    store.client().hset(store.key(sale_id, "config"), "closed", f"{run_id} {reason}")


def let_go_on(sale_ids: Sequence[int], run_id: str) -> dict[int, str]:
    """Note that the sales were compared in that run, so that they go on; return why one does not, or "". Raises
    store.RedisError."""
    found: dict[int, str] = {}
    for page in pages(sale_ids, SALES_AT_ONCE):
        calls = [([store.key(sale_id, "config")], [run_id]) for sale_id in page]
        noted = store.run_scripts_blocking("confirm", calls)
        for sale_id, is_open in zip(page, noted, strict=True):
            found[sale_id] = "" if is_open else "Another worker has found that data is missing."
    return found


def closed_reason(config: dict[str, str]) -> str:
    """Return why a mirrored sale is closed, or ""."""
    return config.get("closed", "").partition(" ")[2]


def is_closed_for(config: dict[str, str], run_id: str) -> bool:
    """Return whether that run of the server was checked and found to have lost data."""
    return config.get("closed", "").partition(" ")[0] == run_id


def _compare(acknowledged: missing.Acknowledged, run_id: str) -> dict[int, str]:
    """Compare sales together: those that were published, or changed, while Redis was away are mirrored then."""
    try:
        missing.name(acknowledged, partial(_ask, run_id))
        sales, held, reasons = _look(list(acknowledged), run_id)
    except store.RedisError:
        if len(acknowledged) == 1 or not store.is_cluster():
            raise
        # One of them may have moved to another server.
        return {sale_id: _compare({sale_id: of_sale}, run_id)[sale_id] for sale_id, of_sale in acknowledged.items()}
    for sale in sales:
        if reasons[sale.id]:
            continue
        if not publishing.is_mirrored(sale, held[sale.id].config):  # an older copy, or a change while Redis was away
            with suppress(publishing.NotPublished):  # more units are sold than the total: it stays as it is in Redis
                publishing.publish(sale)
        if held[sale.id].has_list or invited_mirror.needs_list(sale):
            invited_mirror.follow(sale, trusts_redis=False)
    return reasons


def _look(sale_ids: list[int], run_id: str) -> tuple[list[Sale], dict[int, Held], dict[int, str]]:
    """Take out again what was cancelled, which an older copy still holds. Return the sales, what Redis holds then, and
    what is missing, for which the sale is closed.

    Under the sales' locks: an order that is cancelled meanwhile would be missed, and what a restoration takes in again
    would close the sale once more. Raises store.RedisError, too, when a
    sale is on another server than the one of that run: what one of them holds says nothing of the other.
    """
    reasons = dict.fromkeys(sale_ids, "SQL does not know this sale. Check DATABASE_URL.")
    with transaction.atomic():
        sales = list(Sale.objects.select_for_update().filter(pk__in=sale_ids).order_by("pk"))
        held = _compare_locked(sales, run_id, reasons) if sales else {}
        for sale_id, reason in reasons.items():
            if reason:
                close(sale_id, run_id, reason)
    return sales, held, reasons


def _compare_locked(sales: list[Sale], run_id: str, reasons: dict[int, str]) -> dict[int, Held]:
    """Put what is missing of the sales into `reasons`, and return what Redis holds. The caller holds their locks."""
    held, cancelled = _held(sales, run_id), _counts(sales, cancelled_at__isnull=False)
    for sale in sales:
        if cancelled[sale.id]:
            with suppress(publishing.Lost):
                cancelling.enforce_all(sale, sale.epoch)
    if cancelled.total():
        held = _held(sales, run_id)
    valid = _counts(sales, cancelled_at=None)
    archived = {sale.id: _archived(sale, held[sale.id], valid[sale.id]) for sale in sales}
    compared = [sale for sale in sales if archived[sale.id] is None]
    newest = _newest(compared, valid + cancelled)
    ends, bought = _look_up(compared, run_id, held, newest)
    reasons |= {sale_id: reason for sale_id, reason in archived.items() if reason is not None}
    for sale in compared:
        known = sale, held[sale.id], valid[sale.id], newest[sale.id]
        reasons[sale.id] = _what_is_missing(*known, ends[sale.id], bought[sale.id])
    for sale_id, reason in missing.closing_reasons(sales).items():
        reasons[sale_id] = reasons[sale_id] or reason
    return held


def _held(sales: list[Sale], run_id: str) -> dict[int, Held]:
    kinds = ("HGETALL", "config"), ("HLEN", "purchases"), ("EXISTS", "orders"), ("EXISTS", "invited_list")
    commands = [(command, store.key(sale.id, name)) for sale in sales for command, name in kinds]
    replies = iter(_ask(run_id, sales[0], *commands))
    found = {}
    for sale, config, *numbers in zip(sales, replies, replies, replies, replies, strict=True):
        found[sale.id] = Held({name.decode(): value.decode() for name, value in config.items()}, *numbers)
    return found


def _counts(sales: list[Sale], **of_orders: Any) -> Counter[int]:
    """Return how many such orders each sale has, of all that it has a number for."""
    rows = Order.objects.filter(sale__in=sales, **of_orders).order_by().values_list("sale_id").annotate(Count("id"))
    return Counter(dict(rows))


def _archived(sale: Sale, held: Held, orders: int) -> str | None:
    """Return what is missing of an archived sale, or "" once Redis has let go. None when it is to be compared: it is
    not archived, or Redis holds more than SQL."""
    if not sale.archived_at:
        return None
    config = held.config
    if (config.get("archived"), config.get("sold")) == (sale.epoch, str(orders)) and "closed" not in config:
        return ""
    return {b"archived": "", b"lost": _not_this_publication(sale)}.get(archive_mirror.write(sale))


def _newest(sales: list[Sale], orders: Counter[int]) -> dict[int, list[_Order]]:
    """Return the newest orders of each sale, the cancelled ones among them: the stream has had those, too."""
    fields = "sale_id", "user_id", "order_id", "cancelled_at"
    found: dict[int, list[_Order]] = {sale.id: [] for sale in sales}
    small = [sale for sale in sales if 0 < orders[sale.id] <= COMPARED_ORDERS]
    for sale_id, *order in Order.objects.filter(sale__in=small).order_by().values_list(*fields):
        found[sale_id].append(_Order(*order))
    for sale in sales:
        if orders[sale.id] > COMPARED_ORDERS:
            rows = sale.newest_orders().values_list(*fields[1:])[:COMPARED_ORDERS]
            found[sale.id] = list(starmap(_Order, rows))
    return found


def _look_up(
    sales: list[Sale], run_id: str, held: dict[int, Held], newest: dict[int, list[_Order]]
) -> tuple[dict[int, str], dict[int, dict[str, str]]]:
    """Return the last ID of each sale's stream, and the order_ids that Redis holds of the newest orders' shoppers."""
    asked: list[tuple[int, list[str]]] = []
    commands: list[tuple[Any, ...]] = []
    for sale in sales:
        if held[sale.id].has_stream:
            asked.append((sale.id, []))
            commands.append(("XINFO STREAM", store.key(sale.id, "orders")))
        for page in pages((order.user_id for order in newest[sale.id] if not order.cancelled_at), AT_ONCE):
            asked.append((sale.id, page))
            commands.append(("HMGET", store.key(sale.id, "purchases"), *page))
    ends = {sale.id: "0-0" for sale in sales}
    bought: dict[int, dict[str, str]] = {sale.id: {} for sale in sales}
    replies = _ask(run_id, sales[0], *commands) if commands else []
    for (sale_id, user_ids), reply in zip(asked, replies, strict=True):
        if not user_ids:
            ends[sale_id] = reply["last-generated-id"].decode()
        for user_id, purchase in zip(user_ids, reply if user_ids else [], strict=True):
            bought[sale_id][user_id] = (purchase or b"").decode().partition(" ")[0]
    return ends, bought


def _what_is_missing(
    sale: Sale, held: Held, orders: int, newest: Sequence[_Order], end: str, bought: dict[str, str]
) -> str:
    """Return what Redis does not hold of a sale's orders, the newest of which are given, or "". `end` is the last ID of
    its stream, and `bought` has the order_id that it holds of each of their shoppers."""
    if held.config.get("epoch") != sale.epoch:
        return _not_this_publication(sale)
    advice = missing.advice(sale)
    if held.purchases < orders:
        return f"Redis knows of {held.purchases} purchases, SQL of {orders} orders. {advice}"
    if lost := [order for order in newest if not order.cancelled_at and bought[order.user_id] != order.order_id]:
        return f"Redis does not know {len(lost)} of the newest orders, like {lost[0].order_id}. {advice}"
    for order in newest:
        if position(order.order_id) > position(end):
            return f"The stream ends at {end}, before order {order.order_id}. {advice}"
    return ""


def _not_this_publication(sale: Sale) -> str:
    return f"Redis does not hold this publication of the sale. {missing.advice(sale)}"


def _ask(run_id: str, sale: Sale, *commands: tuple[Any, ...]) -> list[Any]:
    """Return the replies of the server that holds the sale. Raises store.RedisError when that is not that run."""
    found, replies = store.ask_with_run(store.key(sale.id, "config"), *commands)
    if found != run_id:
        store.look_again()
        raise store.RedisError("the sale is on another server by now")
    return replies
