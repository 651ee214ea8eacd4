"""Prove that Redis, the stream and SQL agree about a sale, or show where they do not."""

from dataclasses import asdict, dataclass, field
from typing import Any

from sales import store
from sales.models import Sale

_PAGE = 5_000
_EXAMPLES = 5


@dataclass
class Audit:
    """The counts of one sale and its drift: what is wrong → examples. No drift means that everything agrees."""

    slug: str
    total_stock: int
    remaining_stock: int | None
    purchases: int
    stream: int
    orders: int
    drift: dict[str, list[str]] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def audit(sale: Sale) -> Audit:
    """Compare Redis's purchases, the stream and SQL's orders, as sets. Raises store.RedisError.

    A purchase that the order writer has not stored yet is drift, too: run it first (`write_orders --once`).
    """
    stock = store.client().get(store.key(sale.id, "stock"))
    purchases, stream = _purchases(sale.id), _stream(sale.id)
    orders = {(user_id, order_id) for user_id, order_id in sale.orders.values_list("user_id", "order_id").iterator()}
    result = Audit(
        slug=sale.slug,
        total_stock=sale.total_stock,
        remaining_stock=None if stock is None else int(stock),
        purchases=len(purchases),
        stream=len(stream),
        orders=len(orders),
    )
    if sale.published and stock is None:
        result.drift["the sale is published, but not in Redis"] = [sale.slug]
    if stock is not None and int(stock) + len(purchases) != sale.total_stock:
        result.drift["stock and purchases do not make up the total"] = [
            f"{int(stock)} + {len(purchases)} != {sale.total_stock}"
        ]
    for name, missing in (
        ("purchases that are not in the stream", purchases - stream),
        ("stream entries that are not purchases", stream - purchases),
        ("purchases without an order in SQL", purchases - orders),
        ("orders in SQL that are not purchases", orders - purchases),
    ):
        if missing:
            result.drift[name] = [f"{user_id} {order_id}" for user_id, order_id in sorted(missing)[:_EXAMPLES]]
    return result


def _purchases(sale_id: int) -> set[tuple[str, str]]:
    pairs = store.client().hscan_iter(store.key(sale_id, "purchases"), count=_PAGE)
    return {(user_id.decode(), purchase.decode().partition(" ")[0]) for user_id, purchase in pairs}


def _stream(sale_id: int) -> set[tuple[str, str]]:
    found: set[tuple[str, str]] = set()
    start = "-"
    while page := store.client().xrange(store.key(sale_id, "orders"), min=start, count=_PAGE):
        found.update((fields.get(b"user_id", b"?").decode(), entry_id.decode()) for entry_id, fields in page)
        start = f"({page[-1][0].decode()}"
    return found
