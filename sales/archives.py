"""What SQL says of shoppers in archived sales: many lookups at once, in a thread of its own."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from operator import itemgetter
from typing import NamedTuple

from django.db import DatabaseError, connection

from sales import archive_mirror, store
from sales.batcher import Batcher
from sales.models import Order, Sale
from sales.per_loop import per_loop

LARGEST_BATCH = 500
TOO_SLOW = "SQL is too slow to answer in time"


class Held(NamedTuple):
    """What SQL holds of one shopper: an order_id ("" without a valid order), with what remained after it and the digest
    of its Idempotency-Key; whether a cancelled order bars the shopper; and the units that are left of the sale."""

    order_id: str
    remaining_then: int
    key_digest: str
    is_barred: bool
    remaining_stock: int


# A sale's ID and a user_id.
_Wanted = tuple[int, str]


async def look_up(sale_id: int, user_id: str, deadline: float) -> Held:
    """Return what SQL holds of a shopper in an archived sale, by `deadline`.

    Raises store.Unavailable when it cannot be told in time, or when Redis and SQL disagree about the archive.
    """
    try:
        return await _lookups().submit((sale_id, user_id), deadline)
    except store.Unknown:
        raise store.Unavailable(TOO_SLOW) from None


async def _look_up(batch: Sequence[_Wanted]) -> list[Held | store.Failure]:
    sale_ids = list(dict.fromkeys(sale_id for sale_id, _ in batch))
    fields = "archived", "total_stock", "sold"
    answers = await store.ask(*(("HMGET", store.key(sale_id, "config"), *fields) for sale_id in sale_ids))
    configs = {
        sale_id: {name: value.decode() for name, value in zip(fields, reply, strict=True)}
        for sale_id, (reply, _) in zip(sale_ids, answers, strict=True)
        if not isinstance(reply, store.Failure) and None not in reply
    }
    return await asyncio.get_running_loop().run_in_executor(_thread(), _read, batch, configs)


def _read(batch: Sequence[_Wanted], configs: dict[int, dict[str, str]]) -> list[Held | store.Failure]:
    try:
        # An older copy of Redis may take a sale for archived that is open again.
        epochs = Sale.objects.filter(pk__in=configs, archived_at__isnull=False).values_list("id", "epoch")
        agreed = [sale_id for sale_id, epoch in epochs if configs[sale_id]["archived"] == epoch]
        held: dict[_Wanted, Held] = {}
        for sale_id in agreed:
            held |= _read_sale(sale_id, [user_id for of_sale, user_id in batch if of_sale == sale_id], configs[sale_id])
    except DatabaseError as error:
        raise store.Unavailable("SQL cannot be asked about an archived sale") from error
    finally:
        connection.close()
    strangers = store.Unavailable("Redis and SQL do not agree about the archived sale")
    return [held.get(wanted, strangers) for wanted in batch]


def _read_sale(sale_id: int, user_ids: list[str], config: dict[str, str]) -> dict[_Wanted, Held]:
    """Read one sale's shoppers. Two queries, because valid orders and cancelled ones have an index each; in no order,
    because for that of Meta SQLite would read the whole sale."""
    orders = Order.objects.filter(sale_id=sale_id, user_id__in=user_ids).order_by()
    valid: dict[str, tuple[str, int, str]] = {
        user_id: (order_id, remaining_then, key_digest)
        for user_id, order_id, remaining_then, key_digest in orders.filter(cancelled_at=None).values_list(
            "user_id", "order_id", "remaining_stock", "key_digest"
        )
    }
    cancelled = orders.filter(cancelled_at__isnull=False, may_buy_again=False)
    barred = set(cancelled.values_list("user_id", flat=True)) if len(valid) < len(set(user_ids)) else set()
    _, left = archive_mirror.units(config)
    return {(sale_id, user_id): Held(*valid.get(user_id, ("", 0, "")), user_id in barred, left) for user_id in user_ids}


@per_loop
def _lookups() -> Batcher[_Wanted, Held]:
    return Batcher(_look_up, LARGEST_BATCH, group=itemgetter(0))


@per_loop
def _thread() -> ThreadPoolExecutor:
    """Return the one thread that asks: a SQL that hangs holds up nothing else, and not thread after thread."""
    return ThreadPoolExecutor(1, "archives")
