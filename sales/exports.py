"""Orders as CSV, a page at a time: however many there are, they take the memory of one page."""

import csv
from collections.abc import Iterator
from io import StringIO

from django.db.models import QuerySet

from sales.clock import iso, to_ms
from sales.models import Order
from sales.paging import PAGE, pages

COLUMNS = ("order_id", "sale", "product", "user_id", "purchased_at", "remaining_stock")
# What makes a spreadsheet read a cell as a formula: https://owasp.org/www-community/attacks/CSV_Injection
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def lines(orders: QuerySet[Order]) -> Iterator[str]:
    """Yield the CSV text of the orders, a header first; times are ISO 8601 in UTC."""
    yield _text([COLUMNS])
    for page in pages(orders.select_related("sale").iterator(PAGE)):
        yield _text([_row(order) for order in page])


def harmless(cell: str) -> str:
    """Return the cell with an apostrophe before what a spreadsheet would run as a formula."""
    return f"'{cell}" if cell.startswith(_FORMULA_STARTS) else cell


def _row(order: Order) -> tuple[object, ...]:
    words = order.order_id, order.sale.slug, order.sale.name, order.user_id, iso(to_ms(order.purchased_at))
    return *map(harmless, words), order.remaining_stock


def _text(rows: list[tuple[object, ...]]) -> str:
    text = StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue()
