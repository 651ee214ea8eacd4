"""Orders as CSV, a page at a time: however many there are, they take the memory of one page."""

import csv
from collections.abc import Iterable, Iterator
from io import StringIO
from typing import Any

from django.db.models import QuerySet

from sales import csv_lines
from sales.desk.csv_styles import FOR_PROGRAMS, Style
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


def lines(orders: QuerySet[Order], style: Style = FOR_PROGRAMS) -> Iterator[str]:
    """Yield the CSV text of the orders, a header first."""
    yield style.beginning + text([style.headed(COLUMNS, {"purchased_at", "cancelled_at"})], style)
    for page in pages(orders.values_list(*COLUMNS.values()).iterator(PAGE)):
        yield text([tuple(cell(value, style) for value in order) for order in page], style)


def cell(value: Any, style: Style = FOR_PROGRAMS) -> Any:
    """Return a value as a CSV file has it, and no text that a spreadsheet would run."""
    return csv_lines.harmless(value) if isinstance(value, str) else style.written(value)


def text(rows: Iterable[tuple[Any, ...]], style: Style = FOR_PROGRAMS) -> str:
    """Return rows as lines of CSV."""
    found = StringIO()
    csv.writer(found, delimiter=style.separator).writerows(rows)
    return found.getvalue()
