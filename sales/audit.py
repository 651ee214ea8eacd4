"""Prove that Redis, the stream and SQL agree about a sale, or show where they do not."""

import time
from collections.abc import Iterator

from django.db import transaction
from django.db.models import QuerySet

from sales import archive_mirror, cancelling, invited_mirror, orders, publishing, store
from sales.drift import EXAMPLES, Audit, Purchase
from sales.models import Order, Sale
from sales.order_ids import position
from sales.paging import AT_ONCE, PAGE, pages

# A purchase made a moment ago may still be on its way through the order writer.
WRITER_HAS_SECONDS = 3.0
# Purchases, as hashes: a million take about 100 MB.
Purchases = set[int]


def audit(sale: Sale) -> Audit:
    """Compare Redis's purchases, the stream and SQL's orders, as sets; in bounded memory, also while the sale runs.

    What is newer than the start of the audit is left out. Raises store.Unavailable, store.RedisError and
    django.db.DatabaseError.
    """
    sale.refresh_from_db()
    standing = publishing.standing(sale)
    if sale.archived_at:
        return _audit_archive(sale, standing)
    newest = _newest_entry(sale)
    purchases = {hash(purchase) for purchase in _purchases(sale, newest)}
    result = Audit(
        slug=sale.slug,
        total_stock=sale.total_stock,
        remaining_stock=standing.remaining_stock,
        purchases=len(purchases),
        stream=0,
        orders=0,
        cancelled=0,
    )
    _check_stock(sale, standing, result)
    _check_stream(sale, newest, purchases, result)
    _check_orders(sale, newest, purchases, result)
    _check_cancellations(sale, result)
    if difference := invited_mirror.difference(sale):
        result.drift["invitations_differ_from_sql"] = [difference]
    _check_aside(sale, result)
    return result


def _audit_archive(sale: Sale, standing: publishing.Standing) -> Audit:
    """Compare SQL, which alone holds an archived sale, with the few numbers that Redis shows of it."""
    orders_in_sql, cancelled = sale.valid_orders().count(), sale.cancelled_orders().count()
    numbers = sale.total_stock, standing.remaining_stock, standing.sold
    result = Audit(sale.slug, *numbers, stream=0, orders=orders_in_sql, cancelled=cancelled)
    if not standing.is_mirrored(sale) or standing.sold != orders_in_sql:
        shown = f"{standing.sold} of {standing.config.get('total_stock', '?')} sold"
        in_sql = f"{orders_in_sql} of {sale.total_stock} in SQL"
        result.drift["archive_differs_from_sql"] = [f"{shown} in Redis, {in_sql}"]
    if names := archive_mirror.left(sale):
        result.drift["archive_not_freed"] = names
    _check_aside(sale, result)
    return result


def _check_aside(sale: Sale, result: Audit) -> None:
    """Look for what a person has to see to: missing purchases, and entries in quarantine."""
    for lost in sale.standing_losses().order_by("id")[:EXAMPLES]:
        result.example("acknowledged_purchases_missing", (lost.user_id, lost.order_id))
    if entries := list(sale.quarantined.values_list("entry_id", flat=True)[:EXAMPLES]):
        result.drift["entries_in_quarantine"] = entries


def repair(sale: Sale) -> list[str]:
    """Mend what has one right answer, and return what was done. Safe to repeat. Raises as `audit`."""
    if sale.archived_at:
        return _repair_archive(sale)
    done = []
    if written := orders.drain(sale):
        done.append(f"{written} stream entries written to SQL")
    newest = _newest_entry(sale)
    missing = {hash(purchase) for purchase in _purchases(sale, newest)}
    missing.difference_update(map(hash, _pairs(sale.orders.order_by())))
    orders_before = sale.orders.count()
    for page in pages(purchase for purchase in _purchases(sale, newest) if hash(purchase) in missing):
        orders.insert([_order(sale, *purchase) for purchase in page])
    if missing:
        done.append(f"{sale.orders.count() - orders_before} orders written from the purchases in Redis")
    try:
        if cancelled := _enforce_all(sale):
            done.append(f"{cancelled} cancelled purchases taken out")
        before = publishing.standing(sale).remaining_stock
        after = publishing.publish(sale).remaining_stock
        if invited_mirror.difference(sale) and invited_mirror.remake(sale):
            done.append("the list of invited shoppers mirrored anew")
    except publishing.NotPublished as reason:
        return [*done, f"nothing more: {reason}"]
    return [*done, f"stock set from {before} to {after}"] if after != before else done


def _repair_archive(sale: Sale) -> list[str]:
    if not audit(sale).drift:
        return []
    try:
        publishing.publish_archive(sale)
    except publishing.NotPublished as reason:
        return [f"nothing: {reason}"]
    return ["mirrored again from SQL"]


def _enforce_all(sale: Sale) -> int:
    with transaction.atomic():
        publishing.lock(sale)
        return cancelling.enforce_all(sale, sale.epoch)


def _check_stock(sale: Sale, standing: publishing.Standing, result: Audit) -> None:
    if standing.remaining_stock is None or "epoch" not in standing.config:
        if sale.published:
            result.drift["sale_not_in_redis"] = [sale.slug]
        return
    total = int(standing.config["total_stock"])
    if standing.remaining_stock + standing.sold != total:
        sum_text = f"{standing.remaining_stock} + {standing.sold} != {total}"
        result.drift["stock_and_purchases_are_not_the_total"] = [sum_text]
    if total != sale.total_stock:
        result.drift["total_differs_from_sql"] = [f"{total} in Redis, {sale.total_stock} in SQL"]


def _check_stream(sale: Sale, newest: str, purchases: Purchases, result: Audit) -> None:
    """Compare the stream with the purchases since its first entry: what is older has been trimmed, behind SQL."""
    in_stream: Purchases = set()
    cancelled = set(map(hash, _pairs(sale.cancelled_orders())))
    first = ""
    for purchase in _stream(sale, newest):
        first = first or purchase[1]
        in_stream.add(hash(purchase))
        if hash(purchase) not in purchases and hash(purchase) not in cancelled:
            result.example("stream_entries_without_purchase", purchase)
    result.stream = len(in_stream)
    if first and len(in_stream & purchases) < len(purchases):
        missing = (
            purchase
            for purchase in _purchases(sale, newest)
            if position(purchase[1]) >= position(first) and hash(purchase) not in in_stream
        )
        for purchase in missing:
            # What is in SQL has no need of the stream any more: it was trimmed meanwhile, or restored.
            if not sale.orders.filter(user_id=purchase[0], order_id=purchase[1]).exists():
                result.example("purchases_missing_in_stream", purchase)


def _check_orders(sale: Sale, newest: str, purchases: Purchases, result: Audit) -> None:
    _wait_for_writer(sale, newest)
    missing = set(purchases)
    for page in pages(_pairs(sale.valid_orders().order_by())):
        missing.difference_update(map(hash, page))
        strangers = [purchase for purchase in page if hash(purchase) not in purchases]
        result.orders += len(page) - len(strangers)
        _check_strangers(sale, strangers, result)
    # Read after the others, so that an order that is cancelled meanwhile is among these or those.
    missing.difference_update(map(hash, _pairs(sale.cancelled_orders())))
    if missing:
        for purchase in _purchases(sale, newest):
            if hash(purchase) in missing:
                result.example("purchases_without_order", purchase)


def _check_strangers(sale: Sale, strangers: list[Purchase], result: Audit) -> None:
    """Look up orders that were no purchases when the audit started: some may have been made since."""
    if not strangers:
        return
    held: list[bytes | None] = []
    for page in pages((user_id for user_id, _ in strangers), AT_ONCE):
        held += store.client().hmget(store.key(sale.id, "purchases"), page)
    for purchase, found in zip(strangers, held, strict=True):
        if _names(found, purchase[1]):
            continue
        result.orders += 1
        if sale.valid_orders().filter(order_id=purchase[1]).exists():  # it was not cancelled since
            result.example("orders_without_purchase", purchase)


def _check_cancellations(sale: Sale, result: Audit) -> None:
    """Look whether Redis has taken each of them, which it is given within a second."""
    deadline = time.monotonic() + WRITER_HAS_SECONDS
    while sale.orders.filter(cancellation_due=True).exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    purchases, barred = store.key(sale.id, "purchases"), store.key(sale.id, "barred")
    for page in pages(sale.cancelled_orders().iterator(PAGE), AT_ONCE):
        result.cancelled += len(page)
        user_ids = [order.user_id for order in page]
        held, are_barred = store.client().hmget(purchases, user_ids), store.client().smismember(barred, user_ids)
        for order, purchase, is_barred in zip(page, held, are_barred, strict=True):
            if _names(purchase, order.order_id) or not (order.may_buy_again or is_barred):
                result.example("cancellations_not_in_redis", (order.user_id, order.order_id))


def _names(purchase: bytes | None, order_id: str) -> bool:
    """Return whether what Redis holds of a shopper is that order."""
    return purchase is not None and purchase.decode().partition(" ")[0] == order_id


def _wait_for_writer(sale: Sale, newest: str) -> None:
    """Wait, but not for long, until the order writer has acknowledged the stream up to `newest`."""
    client, stream = store.client(), store.key(sale.id, "orders")
    deadline = time.monotonic() + WRITER_HAS_SECONDS
    while (last := client.xrevrange(stream, max=newest, count=1)) and time.monotonic() < deadline:
        (group,) = client.xinfo_groups(stream)
        oldest_pending = client.xpending(stream, store.WRITERS)["min"]
        is_delivered = position(group["last-delivered-id"].decode()) >= position(last[0][0].decode())
        if is_delivered and (not oldest_pending or position(oldest_pending.decode()) > position(newest)):
            return
        time.sleep(0.1)


def _newest_entry(sale: Sale) -> str:
    """Return the stream's last ID: purchases up to it are audited. Without a stream, all of them."""
    stream = store.key(sale.id, "orders")
    if not store.client().exists(stream):
        return f"{2**63}-0"
    return store.client().xinfo_stream(stream)["last-generated-id"].decode()


def _purchases(sale: Sale, newest: str) -> Iterator[Purchase]:
    """Yield the purchases in Redis, some of them perhaps twice."""
    for user_id, purchase in store.client().hscan_iter(store.key(sale.id, "purchases"), count=AT_ONCE):
        order_id = purchase.decode().partition(" ")[0]
        if position(order_id) <= position(newest):
            yield user_id.decode(), order_id


def _stream(sale: Sale, newest: str) -> Iterator[Purchase]:
    """Yield the entries of the stream but for those in quarantine."""
    aside = set(sale.quarantined.values_list("entry_id", flat=True))
    start = "-"
    while page := store.client().xrange(store.key(sale.id, "orders"), min=start, max=newest, count=AT_ONCE):
        for entry_id, fields in page:
            if entry_id.decode() not in aside:
                yield fields.get(b"user_id", b"?").decode(errors="replace"), entry_id.decode()
        start = f"({page[-1][0].decode()}"


def _pairs(orders: QuerySet[Order]) -> Iterator[Purchase]:
    return orders.values_list("user_id", "order_id").iterator(PAGE)


def _order(sale: Sale, user_id: str, order_id: str) -> Order:
    purchase = store.client().hget(store.key(sale.id, "purchases"), user_id).decode()
    _, remaining_stock, key_digest = purchase.split(" ", 2)
    return orders.row(sale.id, user_id, order_id, int(remaining_stock), key_digest)
