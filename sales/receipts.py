"""Receipts: the signed address of an order, and what stands behind it."""

from datetime import datetime
from hmac import compare_digest
from typing import NamedTuple

from django.db.models import QuerySet

from sales import acknowledged, continuity, keyed_hashes, order_codes, publishing, store
from sales.models import Order, Sale
from sales.order_ids import position
from sales.purchases import purchased_ms

# A shopper; when the order was cancelled, if it was; and its code, "" before it is in SQL.
Found = tuple[str, datetime | None, str]


class Receipt(NamedTuple):
    sale: Sale
    order_id: str
    user_id: str
    cancelled_at: datetime | None
    order_code: str

    @property
    def purchased_ms(self) -> int:
        return purchased_ms(self.order_id)


class Named(NamedTuple):
    """An order of a shopper whose name was asked for."""

    order_id: str
    order_code: str


def address(sale_id: int, order_id: str) -> str:
    """Return the path of an order's receipt. Who has it sees the receipt; nobody can guess it."""
    _, path = code_and_address(sale_id, order_id)
    return path


def code_and_address(sale_id: int, order_id: str) -> tuple[str, str]:
    """Return what a buyer is told, from one signature: the order code, and the path of the receipt."""
    named = f"{sale_id}.{order_id}"
    signature = keyed_hashes.of_order(named)
    return order_codes.of_signature(signature), f"/receipts/{named}.{signature.hex()}/"


def read(token: str) -> tuple[int, str] | None:
    """Return the sale and the order_id that a token names, or None when we have not signed it."""
    named, _, signature = token.rpartition(".")
    signed = (keyed_hashes.of_order(named, secret).hex() for secret in keyed_hashes.secrets())
    if not token.isascii() or not any(compare_digest(signature, one) for one in signed):
        return None
    sale_id, _, order_id = named.partition(".")
    return int(sale_id), order_id


def find(sale_id: int, order_id: str) -> Receipt | None:
    """Return the receipt of an order: from SQL, or from the stream until the order is written there.

    None when neither has it. Raises store.Unavailable when SQL has not and Redis cannot be asked.
    """
    # An entry leaves the stream once its row is committed, which may be between the first look and the second.
    found = _in_sql(sale_id, order_id) or _in_stream(sale_id, order_id) or _in_sql(sale_id, order_id)
    sale = Sale.objects.filter(pk=sale_id).first()
    if not sale or not found:
        return None
    user_id, cancelled_at, stored = found
    return Receipt(sale, order_id, user_id, cancelled_at, stored or order_codes.make(sale_id, order_id))


def find_by_name(sale: Sale, user_id: str, code: str | None) -> Named | None:
    """Return a shopper's order in a sale, or None: the valid one, or else the newest that was cancelled.

    `code` is the order code that the asker has given, which only finds its own order. None stands for an asker who has
    proven to be the shopper. Whether there is such an order or not, the work is the same.
    Raises store.Unavailable and django.db.DatabaseError when it cannot be told.
    """
    try:
        held = _of_shopper(sale, user_id)
        config = publishing.standing(sale).config
    except store.RedisError as error:
        raise store.Unavailable(str(error)) from error
    for order_id, stored in held:
        if code is None or order_codes.fits(code, sale.id, order_id, stored):
            return Named(order_id, stored or order_codes.make(sale.id, order_id))
    _check_complete(config)
    return None


def check_complete(sale: Sale) -> None:
    """Raise store.Unavailable while nobody can be told that they have no order: Redis may have lost orders."""
    try:
        config = publishing.standing(sale).config
    except store.RedisError as error:
        raise store.Unavailable(str(error)) from error
    _check_complete(config)


def _check_complete(config: dict[str, str]) -> None:
    if not config or (reason := continuity.closed_reason(config)):
        raise store.Unavailable(reason if config else "Redis does not hold the sale")


def _of_shopper(sale: Sale, user_id: str) -> list[tuple[str, str]]:
    """Return order_id and stored code of each order that a shopper has in a sale, the valid one first."""
    key = store.key(sale.id, "purchases")
    run_id, (purchase,) = store.ask_with_run(key, ("HGET", key, user_id))
    bought = purchase.decode().partition(" ")[0] if purchase else ""
    if bought:
        acknowledged.remember_from_thread(sale.id, run_id, bought, user_id)
    # Two queries, because valid orders and cancelled ones have an index each.
    valid = _held(sale.valid_orders().filter(user_id=user_id))
    cancelled = _held(sale.cancelled_orders().filter(user_id=user_id))
    cancelled.sort(key=lambda order: position(order[0]), reverse=True)
    held = [*valid, *cancelled]
    return held if not bought or bought in dict(held) else [(bought, ""), *held]


def _held(orders: QuerySet[Order]) -> list[tuple[str, str]]:
    # Unordered: SQLite would read the sale's orders in the model's order, and look at each for the name.
    return list(orders.order_by().values_list("order_id", "order_code"))


def _in_sql(sale_id: int, order_id: str) -> Found | None:
    orders = Order.objects.filter(sale_id=sale_id, order_id=order_id).order_by()
    return next(iter(orders.values_list("user_id", "cancelled_at", "order_code")), None)


def _in_stream(sale_id: int, order_id: str) -> Found | None:
    stream = store.key(sale_id, "orders")
    try:
        run_id, (entries,) = store.ask_with_run(stream, ("XRANGE", stream, order_id, order_id))
    except store.RedisError as error:
        raise store.Unavailable(str(error)) from error
    if not entries:
        return None
    user_id = entries[0][1][b"user_id"].decode()
    acknowledged.remember_from_thread(sale_id, run_id, order_id, user_id)
    return user_id, None, ""
