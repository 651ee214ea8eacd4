"""Whether Redis still holds what SQL knows of a sale.

A server that has started again may have lost data: an older backup, a failover, a cut-off file. The purchase script
therefore decides only for the run of the server that was last checked, and `confirm` is that check.
"""

import time
from contextlib import suppress
from typing import Any

from django.db import transaction

from sales import cancelling, publishing, store
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
    reason = _compare(sale, newest_seen) if sale else "SQL does not know this sale. Check DATABASE_URL."
    if reason:
        store.client().hset(config, "closed", f"{run_id} {reason}")
        return reason
    if sale and not publishing.standing(sale).is_mirrored(sale):  # an older copy, or a change while Redis was away
        with suppress(publishing.NotPublished):  # more units are sold than the total: it stays as it is in Redis
            publishing.publish(sale)
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


def _compare(sale: Sale, newest_seen: str) -> str:
    """Take out again what was cancelled, which an older copy still holds, and return what is missing then, or "".

    Under the sale's lock: an order that is cancelled meanwhile would be missed.
    """
    with transaction.atomic():
        publishing.lock(sale)
        with suppress(publishing.Lost):
            cancelling.enforce_all(sale, sale.epoch)
        return _what_is_missing(sale, newest_seen)


def _what_is_missing(sale: Sale, newest_seen: str) -> str:
    client = store.client()
    pipeline = client.pipeline(transaction=True)
    pipeline.hget(store.key(sale.id, "config"), "epoch")
    pipeline.hlen(store.key(sale.id, "purchases"))
    pipeline.exists(store.key(sale.id, "orders"))
    epoch, purchases, has_stream = pipeline.execute()
    advice = f"Run manage.py restore_sale {sale.slug}"
    if epoch is None or epoch.decode() != sale.epoch:
        return f"Redis does not hold this publication of the sale. {advice}"
    if purchases < (orders := sale.valid_orders().count()):
        return f"Redis knows of {purchases} purchases, SQL of {orders} orders. {advice}"
    newest = list(sale.newest_orders()[:COMPARED_ORDERS])  # the stream has had the cancelled ones, too
    if missing := _missing(sale.id, [order for order in newest if not order.cancelled_at]):
        return f"Redis does not know {len(missing)} of the newest orders, like {missing[0].order_id}. {advice}"
    last = client.xinfo_stream(store.key(sale.id, "orders"))["last-generated-id"].decode() if has_stream else "0-0"
    for order_id in [newest_seen, *(order.order_id for order in newest[:1])]:
        if order_id and position(order_id) > position(last):
            return f"The stream ends at {last}, before order {order_id}. {advice}"
    return ""


def _missing(sale_id: int, orders: list[Order]) -> list[Order]:
    if not orders:
        return []
    held: list[Any] = store.client().hmget(store.key(sale_id, "purchases"), [order.user_id for order in orders])
    return [
        order
        for order, purchase in zip(orders, held, strict=True)
        if purchase is None or purchase.decode().partition(" ")[0] != order.order_id
    ]


def position(order_id: str) -> tuple[int, int]:
    """Return a stream ID as a pair of numbers that sorts as streams do."""
    milliseconds, _, sequence = order_id.partition("-")
    return int(milliseconds), int(sequence or 0)
