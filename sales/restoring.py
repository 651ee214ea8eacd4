"""Rebuild a sale in Redis from SQL and from what Redis still has, after Redis has lost data."""

from typing import NamedTuple

from django.db import transaction
from django.utils import timezone

from sales import cancelling, directory_mirror, invited_mirror, missing, orders, publishing, store
from sales.models import MissingOrder, Order, Sale, new_epoch
from sales.order_ids import position
from sales.paging import AT_ONCE, PAGE, pages
from sales.purchases import purchased_ms

State = MissingOrder.State


class Restoration(NamedTuple):
    """What was found and done."""

    purchases_found: int
    stream_entries_written: int
    purchases_restored: int
    purchases_cancelled: int
    orders_in_sql: int
    total_stock: int
    remaining_stock: int
    oversold: int
    # Of the acknowledged purchases that were missing; and those that workers have named since: they close the sale.
    taken_in: int
    left_over: int
    found_since: int


def restore(sale: Sale) -> Restoration:
    """Give Redis every purchase that SQL knows, take out those that were cancelled, take in again what was acknowledged
    and lost while there are units, recompute the stock, and open the sale under a new epoch.

    Purchases that only Redis or its stream knows are kept. Nothing can be bought meanwhile. Safe to repeat, also after
    it was interrupted. Raises store.RedisError, store.Unavailable and django.db.DatabaseError; the sale is then still
    closed.
    """
    client, config = store.client(), store.key(sale.id, "config")
    run_id = store.run_id_blocking(config)
    client.hset(config, "closed", f"{run_id} It is being restored. Try again in a moment.")
    # Without an epoch no comparison opens the sale before the stock is right, also when this is interrupted here.
    client.hdel(config, "epoch")
    purchases_found = client.hlen(store.key(sale.id, "purchases"))
    # Before anything is given: another shopper's order may have the key of a cancelled one.
    cancelled = _take_out_cancelled(sale)
    written = orders.drain(sale)
    for page in pages(sale.valid_orders().order_by("user_id").iterator(PAGE), AT_ONCE):
        _give(sale, page)
    taken_in = _take_in_missing(sale)
    _continue_stream(sale)
    invited_mirror.mirror(sale)
    cancelled_meanwhile, sold = _reopen(sale, run_id)
    cancelled += cancelled_meanwhile
    return Restoration(
        purchases_found=purchases_found,
        stream_entries_written=written,
        purchases_restored=sold + cancelled - purchases_found,
        purchases_cancelled=cancelled,
        orders_in_sql=sale.valid_orders().count(),
        total_stock=sale.total_stock,
        remaining_stock=max(0, sale.total_stock - sold),
        oversold=max(0, sold - sale.total_stock),
        taken_in=taken_in,
        left_over=sale.missing_orders.filter(state=State.LEFT_OVER).count(),
        found_since=sale.missing_orders.filter(state=State.FOUND).count(),
    )


def _take_in_missing(sale: Sale) -> int:
    """Take in again what was lost, and return how many that were. Workers may name more of it meanwhile."""
    count = 0
    while True:
        taken_in = missing.take_in(sale)
        for page in pages(taken_in, AT_ONCE):
            _give(sale, page)
        count += len(taken_in)
        if not sale.missing_orders.filter(state=State.FOUND).exists():
            return count


def _take_out_cancelled(sale: Sale) -> int:
    with transaction.atomic():
        publishing.lock(sale)
        return cancelling.enforce_all(sale, epoch="")


def _give(sale: Sale, page: list[Order]) -> None:
    if key_digests := [order.key_digest for order in page if order.key_digest]:
        store.client().sadd(store.key(sale.id, "keys"), *key_digests)
    given = {order.user_id: f"{order.order_id} {order.remaining_stock} {order.key_digest}" for order in page}
    store.client().hset(store.key(sale.id, "purchases"), mapping=given)


def _continue_stream(sale: Sale) -> None:
    """Have the stream go on behind the newest order, so that no order_id is given twice."""
    client, stream = store.client(), store.key(sale.id, "orders")
    if not client.exists(stream):
        client.xgroup_create(stream, store.WRITERS, id="0", mkstream=True)
    newest = sale.newest_orders().first()
    last = client.xinfo_stream(stream)["last-generated-id"].decode()
    if newest and position(newest.order_id) > position(last):
        client.execute_command("XSETID", stream, newest.order_id)


def _reopen(sale: Sale, run_id: str) -> tuple[int, int]:
    """Return how many purchases were cancelled since they were given, and how many are left."""
    with transaction.atomic():
        publishing.lock(sale)
        cancelled = cancelling.enforce_all(sale, epoch="")
        sale.epoch = new_epoch()
        sale.first_published_at = sale.first_published_at or timezone.now()
        sale.archived_at = None
        sale.save(update_fields=["epoch", "first_published_at", "archived_at"])
        config = sale.mirror() | {"epoch": sale.epoch, "run_id": run_id}
        newest = sale.newest_orders().first()
        newest_ms = purchased_ms(newest.order_id) if newest else ""
        words = (word for pair in config.items() for word in pair)
        keys = [store.key(sale.id, name) for name in ("config", "stock", "purchases")]
        args = [sale.total_stock, sale.valid_orders().count(), newest_ms, *words]
        outcome, sold = store.run_script_blocking("reopen", keys, args)
        if outcome == b"lost":
            raise store.Unavailable("Redis has lost again what was restored. Restore the sale once more.")
        directory_mirror.list_sale(sale)
        invited_mirror.follow(sale, trusts_redis=False)
    return cancelled, sold
