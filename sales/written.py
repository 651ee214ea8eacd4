"""The newest orders that this order writer has written to SQL: it asks for them after each change of run."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

# Of all sales together. They take about 20 MB.
MOST_ORDERS = 100_000
LARGEST_PAGE = 500


@dataclass(slots=True)
class Page:
    """Orders that were written together, each an order_id and its shopper; and the run that is known to hold them."""

    sale_id: int
    run_id: str
    orders: list[tuple[str, str]]


# The oldest first.
pages: deque[Page] = deque()


def note(sale_id: int, run_id: str, orders: Sequence[tuple[str, str]]) -> None:
    """Remember orders that SQL has now, and that were read from a server when it had been seen in that run."""
    latest = pages[-1] if pages else None
    is_same = latest and (latest.sale_id, latest.run_id) == (sale_id, run_id)
    if latest and is_same and len(latest.orders) + len(orders) <= LARGEST_PAGE:
        latest.orders += orders
    elif orders:
        pages.append(Page(sale_id, run_id, list(orders)))
    if len(pages) * LARGEST_PAGE > MOST_ORDERS:
        count = sum(len(page.orders) for page in pages)
        while count > MOST_ORDERS:
            count -= len(pages.popleft().orders)
