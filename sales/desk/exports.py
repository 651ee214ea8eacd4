"""Orders as CSV, a page at a time: however many there are, they take the memory of one page."""

import csv
from collections.abc import Iterable, Iterator
from datetime import datetime
from io import StringIO
from typing import Any

from django.db.models import QuerySet

from sales import csv_lines
from sales.clock import iso, to_ms
from sales.models import Order
from sales.paging import PAGE, pages

# The columns, and what each holds of an order.
COLUMNS = {
    "order_id": "order_id",
    "sale": "sale__slug",
    "product": "sale__name",
    "user_id": "user_id",
    "purchased_at": "purchased_at",
    "remaining_stock": "remaining_stock",
    "cancelled_at": "cancelled_at",
    "order_code": "order_code",
}


def lines(orders: QuerySet[Order]) -> Iterator[str]:
    """Yield the CSV text of the orders, a header first; times are ISO 8601 in UTC."""
    yield text([tuple(COLUMNS)])
    for page in pages(orders.values_list(*COLUMNS.values()).iterator(PAGE)):
        yield text([tuple(map(cell, order)) for order in page])


def cell(value: Any) -> Any:
    """Return a value as a CSV file has it: times in UTC, and no text that a spreadsheet would run."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return iso(to_ms(value))
    return csv_lines.harmless(value) if isinstance(value, str) else value


def text(rows: Iterable[tuple[Any, ...]]) -> str:
    """Return rows as lines of CSV."""
    found = StringIO()
    csv.writer(found).writerows(rows)
    return found.getvalue()
