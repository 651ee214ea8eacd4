"""Receipts: the signed address of an order, and what stands behind it."""

import hashlib
from collections.abc import Iterable
from datetime import datetime
from functools import lru_cache
from hmac import compare_digest
from typing import NamedTuple

from django.conf import settings
from django.db.models import Q
from django.utils.crypto import salted_hmac

from sales import acknowledged, continuity, publishing, store
from sales.models import Order, Sale
from sales.purchases import purchased_ms

SIGNATURE_BYTES = 16

# A shopper, and when the order was cancelled, if it was.
Found = tuple[str, datetime | None]


class Receipt(NamedTuple):
    sale: Sale
    order_id: str
    user_id: str
    cancelled_at: datetime | None = None

    @property
    def purchased_ms(self) -> int:
        return purchased_ms(self.order_id)


def address(sale_id: int, order_id: str) -> str:
    """Return the path of an order's receipt. Who has it sees the receipt; nobody can guess it."""
    named = f"{sale_id}.{order_id}"
    return f"/receipts/{named}.{_signature(named, settings.SECRET_KEY)}/"


def read(token: str) -> tuple[int, str] | None:
    """Return the sale and the order_id that a token names, or None when we have not signed it."""
    named, _, signature = token.rpartition(".")
    if not token.isascii() or not any(compare_digest(signature, _signature(named, secret)) for secret in _secrets()):
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
    return Receipt(sale, order_id, *found) if sale and found else None


def address_by_name(sale: Sale, user_id: str) -> str:
    """Return the path of a shopper's receipt, or "" when the shopper has no order in this sale. Who has none but a
    cancelled one is led to that, which says so.

    The only way from a name to somebody's receipt. Who calls it has made sure that the sale believes the asker.
    Raises store.Unavailable when it cannot be told.
    """
    key = store.key(sale.id, "purchases")
    try:
        run_id, (purchase,) = store.ask_with_run(key, ("HGET", key, user_id))
    except store.RedisError as error:
        raise store.Unavailable(str(error)) from error
    if purchase:
        order_id = purchase.decode().partition(" ")[0]
        acknowledged.remember_from_thread(sale.id, run_id, order_id, user_id)
        return address(sale.id, order_id)
    of_shopper = Q(user_id=user_id)
    # In no order: for that of Meta SQLite would read the whole sale.
    valid = next(iter(sale.valid_orders().filter(of_shopper).order_by()), None)
    if order := valid or sale.cancelled_orders().filter(of_shopper).last():
        return address(sale.id, order.order_id)
    config = publishing.standing(sale).config
    if not config or (reason := continuity.closed_reason(config)):
        raise store.Unavailable(reason if config else "Redis does not hold the sale")
    return ""


def _in_sql(sale_id: int, order_id: str) -> Found | None:
    orders = Order.objects.filter(sale_id=sale_id, order_id=order_id).order_by()
    return next(iter(orders.values_list("user_id", "cancelled_at")), None)


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
    return user_id, None


def _signature(named: str, secret: str) -> str:
    """Return 128 bits that only a holder of the secret can make (BLAKE2b keyed as a MAC: RFC 7693, section 2.9)."""
    signature = _keyed(secret).copy()
    signature.update(named.encode())
    return signature.hexdigest()


@lru_cache(maxsize=10)
def _keyed(secret: str) -> "hashlib.blake2b":
    """Return the hash with its key, which is derived from `secret` and made once: half of the work."""
    key = salted_hmac("sales.receipts", "key", secret=secret, algorithm="sha256").digest()
    return hashlib.blake2b(key=key, digest_size=SIGNATURE_BYTES)


def _secrets() -> Iterable[str]:
    return settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS
