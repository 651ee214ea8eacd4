"""Whether Redis still holds what SQL knows of a sale.

A server that has started again may have lost data: an older backup, a failover, a cut-off file. The purchase script
therefore decides only for the run of the server that was last checked, and `confirm` is that check.
"""

import time
from contextlib import suppress
from typing import Any

from django.db import transaction

from sales import archive_mirror, cancelling, invited_mirror, publishing, store
from sales.models import Order, Sale

# The newest orders are compared one by one, all of them by number.
COMPARED_ORDERS = 1_000


def confirm(sale_id: int, run_id: str, newest_seen: str = "", *, grace_seconds: float = 0) -> str:
    """Compare a sale in Redis with SQL. When nothing is missing, see that its configuration is SQL's and note `run_id`,
    so that the sale goes on; return "".

    Otherwise close the sale and return the reason. `newest_seen` is the newest order_id that the caller knows of, which
    SQL may not have yet; for `grace_seconds` other workers may object with theirs. Safe to repeat and to run in several
    processes. Raises store.RedisError and django.db.DatabaseError; the sale then stays as it is, unchecked.
    """
    config = store.key(sale_id, "config")
    sale = Sale.objects.filter(pk=sale_id).first()
    reason = _compare(sale, run_id, newest_seen) if sale else "SQL does not know this sale. Check DATABASE_URL."
    if reason:
        store.client().hset(config, "closed", f"{run_id} {reason}")
        return reason
    if sale and not publishing.standing(sale).is_mirrored(sale):  # an older copy, or a change while Redis was away
        with suppress(publishing.NotPublished):  # more units are sold than the total: it stays as it is in Redis
            publishing.publish(sale)
    if sale:
        invited_mirror.follow(sale, trusts_redis=False)
    time.sleep(grace_seconds)
    if not store.run_script_blocking("confirm", [config], [run_id]):
        return "Another worker has found that data is missing."
    return ""


def closed_reason(config: dict[str, str]) -> str:
    """Return why a mirrored sale is closed, or ""."""
    return config.get("closed", "").partition(" ")[2]


def is_closed_for(config: dict[str, str], run_id: str) -> bool:
    """Return whether that run of the server was checked and found to have lost data."""
    return config.get("closed", "").partition(" ")[0] == run_id


def _compare(sale: Sale, run_id: str, newest_seen: str) -> str:
    """Take out again what was cancelled, which an older copy still holds, and return what is missing then, or "".

    Under the sale's lock: an order that is cancelled meanwhile would be missed. Raises store.RedisError, too, when the
    sale is on another server than the one of that run: what one of them holds says nothing of the other.
    """
    with transaction.atomic():
        publishing.lock(sale)
        _ask(sale, run_id, ("HGET", store.key(sale.id, "config"), "epoch"))
        if sale.archived_at:
            return "" if archive_mirror.write(sale) else _not_this_publication(sale)
        with suppress(publishing.Lost):
            cancelling.enforce_all(sale, sale.epoch)
        return _what_is_missing(sale, run_id, newest_seen)


def _what_is_missing(sale: Sale, run_id: str, newest_seen: str) -> str:
    purchases_key, stream = store.key(sale.id, "purchases"), store.key(sale.id, "orders")
    epoch, purchases, has_stream = _ask(
        sale, run_id, ("HGET", store.key(sale.id, "config"), "epoch"), ("HLEN", purchases_key), ("EXISTS", stream)
    )
    advice = _advice(sale)
    if epoch is None or epoch.decode() != sale.epoch:
        return _not_this_publication(sale)
    if purchases < (orders := sale.valid_orders().count()):
        return f"Redis knows of {purchases} purchases, SQL of {orders} orders. {advice}"
    newest = list(sale.newest_orders()[:COMPARED_ORDERS])  # the stream has had the cancelled ones, too
    if missing := _missing(sale, run_id, [order for order in newest if not order.cancelled_at]):
        return f"Redis does not know {len(missing)} of the newest orders, like {missing[0].order_id}. {advice}"
    last = "0-0"
    if has_stream:
        last = _ask(sale, run_id, ("XINFO STREAM", stream))[0]["last-generated-id"].decode()
    for order_id in [newest_seen, *(order.order_id for order in newest[:1])]:
        if order_id and position(order_id) > position(last):
            return f"The stream ends at {last}, before order {order_id}. {advice}"
    return ""


def _not_this_publication(sale: Sale) -> str:
    return f"Redis does not hold this publication of the sale. {_advice(sale)}"


def _advice(sale: Sale) -> str:
    return f"Run manage.py restore_sale {sale.slug}"


def _missing(sale: Sale, run_id: str, orders: list[Order]) -> list[Order]:
    if not orders:
        return []
    (held,) = _ask(sale, run_id, ("HMGET", store.key(sale.id, "purchases"), *(order.user_id for order in orders)))
    return [
        order
        for order, purchase in zip(orders, held, strict=True)
        if purchase is None or purchase.decode().partition(" ")[0] != order.order_id
    ]


def _ask(sale: Sale, run_id: str, *commands: tuple[Any, ...]) -> list[Any]:
    """Return the replies of the server that holds the sale. Raises store.RedisError when that is not that run."""
    found, replies = store.ask_with_run(store.key(sale.id, "config"), *commands)
    if found != run_id:
        store.look_again()
        raise store.RedisError("the sale is on another server by now")
    return replies


def position(order_id: str) -> tuple[int, int]:
    """Return a stream ID as a pair of numbers that sorts as streams do."""
    milliseconds, _, sequence = order_id.partition("-")
    return int(milliseconds), int(sequence or 0)
