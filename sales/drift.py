"""What an audit counts and finds of a sale."""

from dataclasses import asdict, dataclass, field
from typing import Any

EXAMPLES = 5
# What can be wrong, and what to do about it.
ADVICE = {
    "sale_not_in_redis": "Redis has lost the sale: run manage.py restore_sale.",
    "stock_and_purchases_are_not_the_total": "The stock was changed by hand: --repair computes it anew.",
    "total_differs_from_sql": "The last change of the total is not in Redis: run manage.py publish_sales.",
    "purchases_without_order": "The order writer is behind, or its rows were deleted: --repair writes them.",
    "orders_without_purchase": "Redis has lost purchases: run manage.py restore_sale.",
    "acknowledged_purchases_missing": (
        "Shoppers were told that they have it: add stock and run manage.py restore_sale, or settle them in the admin, "
        "under missing orders."
    ),
    "stream_entries_without_purchase": "Redis has lost purchases: run manage.py restore_sale.",
    "cancellations_not_in_redis": "The order writer is behind, or Redis was changed by hand: --repair enforces them.",
    "invitations_differ_from_sql": "An upload is under way, or broke off: upload it again, or --repair.",
    "purchases_missing_in_stream": "The stream was changed by hand: once they are orders in SQL it does not matter.",
    "archive_differs_from_sql": "Redis shows the archived sale otherwise than SQL has it: run manage.py publish_sales.",
    "archive_not_freed": "Redis still holds an archived sale, or is freeing it: run manage.py publish_sales.",
    "entries_in_quarantine": "SQL refused them: see them in the admin, under entries in quarantine.",
}
# A shopper and an order_id.
Purchase = tuple[str, str]


@dataclass
class Audit:
    """The counts of one sale, and its drift: a word of ADVICE → examples. No drift means that everything agrees."""

    slug: str
    total_stock: int
    remaining_stock: int | None
    purchases: int
    stream: int
    orders: int
    cancelled: int
    drift: dict[str, list[str]] = field(default_factory=dict)

    def example(self, kind: str, purchase: Purchase) -> None:
        """Note one purchase of a kind of drift; the first few are kept."""
        examples = self.drift.setdefault(kind, [])
        if len(examples) < EXAMPLES:
            examples.append(" ".join(purchase))

    def as_json(self) -> dict[str, Any]:
        return asdict(self)
