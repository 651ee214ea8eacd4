"""What loops, lookups and pages ask SQL costs by what it returns, not by how many orders the sale has."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import connection
from django.db.backends.utils import CursorWrapper

from sales import archives, continuity, orders, receipts, store
from sales.models import Order, Sale
from tests.conftest import MakeSale

pytestmark = pytest.mark.long

SMALL, LARGE = 1_000, 30_000
LOOKED_FOR = 50
# Steps of SQLite's virtual machine between two looks at it.
STEPS = 20


def user_ids(count: int) -> list[str]:
    return [f"shopper-{number}" for number in range(count)]


def order_ids(count: int) -> list[str]:
    return [f"{1_700_000_000_000 + number}-0" for number in range(count)]


@pytest.fixture
def sales(make_sale: MakeSale) -> tuple[Sale, Sale]:
    """A sale with a thousand orders and one with thirty thousand, of which a tenth are cancelled."""
    made = make_sale(name="Small"), make_sale(name="Large")
    for sale, count in zip(made, (SMALL, LARGE), strict=True):
        rows = [orders.row(sale.id, *pair, 1, "") for pair in zip(user_ids(count), order_ids(count), strict=True)]
        for row in rows[::10]:
            row.cancelled_at = row.purchased_at
        Order.objects.bulk_create(rows)
    return made


@contextmanager
def work() -> Iterator[list[int]]:
    """Give a list that gets numbers whose sum is what SQL does for the queries: steps in SQLite, rows in PostgreSQL."""
    found: list[int] = []
    if connection.vendor == "sqlite":
        connection.ensure_connection()
        assert connection.connection is not None
        connection.connection.set_progress_handler(lambda: found.append(STEPS), STEPS)
        yield found
        connection.connection.set_progress_handler(None, STEPS)
        return
    original = CursorWrapper.execute

    def explain(cursor: Any, sql: str, params: Any = None) -> Any:
        if sql.startswith("SELECT"):
            with connection.cursor() as other:
                original(other, f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}", params)
                told = other.fetchone()[0]
                found.append(_rows((json.loads(told) if isinstance(told, str) else told)[0]["Plan"]))
        return original(cursor, sql, params)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CursorWrapper, "execute", explain)
        yield found


def _rows(plan: dict[str, Any]) -> int:
    """Return how many rows a plan has read, those among them that it threw away."""
    names = "Actual Rows", "Rows Removed by Filter", "Rows Removed by Index Recheck"
    own = sum(plan.get(name, 0) for name in names) * plan["Actual Loops"]
    return int(own) + sum(map(_rows, plan.get("Plans", [])))


def read_back(sale: Sale) -> None:
    entries = [
        (order_id.encode(), {b"user_id": user_id.encode(), b"remaining_stock": b"1", b"key_digest": b""})
        for user_id, order_id in list(zip(user_ids(SMALL), order_ids(SMALL), strict=True))[-LOOKED_FOR:]
    ]
    assert orders._store(sale.id, entries) == LOOKED_FOR


def look_up_in_archive(sale: Sale) -> None:
    wanted = user_ids(LOOKED_FOR)
    held = archives._read_sale(sale.id, wanted, {"sold": "1", "total_stock": "9"})
    assert Counter(bool(found.order_id) for found in held.values()) == {True: 45, False: 5}


def find_receipt(sale: Sale) -> None:
    assert receipts._in_sql(sale.id, order_ids(SMALL)[7])


def find_by_name(sale: Sale) -> None:
    store.client().delete(store.key(sale.id, "purchases"))
    assert receipts.find_by_name(sale, "shopper-7", None)


def find_cancelled_by_name(sale: Sale) -> None:
    assert receipts.find_by_name(sale, "shopper-10", None)


def compare_newest(sale: Sale) -> None:
    assert len(continuity._newest([sale], Counter({sale.id: LARGE}))[sale.id]) == continuity.COMPARED_ORDERS


def first_page_to_restore(sale: Sale) -> None:
    assert len(sale.valid_orders().order_by("user_id")[:LOOKED_FOR]) == LOOKED_FOR


LOOKS: list[Callable[[Sale], None]] = [
    *(read_back, look_up_in_archive, find_receipt, find_by_name, find_cancelled_by_name),
    *(compare_newest, first_page_to_restore),
]


def cost(look: Callable[[Sale], None], sale: Sale) -> int:
    with work() as found:
        look(sale)
    return sum(found)


@pytest.mark.parametrize("is_analyzed", [False, True])
def test_a_thirty_times_larger_sale_costs_the_same(
    sales: tuple[Sale, Sale], monkeypatch: pytest.MonkeyPatch, is_analyzed: bool
):
    monkeypatch.setattr(continuity, "COMPARED_ORDERS", LOOKED_FOR)
    if is_analyzed or connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE")

    costs = {look.__name__: [cost(look, sale) for sale in sales] for look in LOOKS}

    assert {name: pair for name, pair in costs.items() if pair[1] > 2 * pair[0] + 200} == {}


def test_control_the_order_of_meta_reads_the_whole_sale(sales: tuple[Sale, Sale]):
    if connection.vendor == "postgresql":
        pytest.skip("PostgreSQL takes the right index without being told")

    def read_back_in_order(sale: Sale) -> None:
        list(Order.objects.filter(sale_id=sale.id, order_id__in=order_ids(LOOKED_FOR)).values_list("order_id"))

    small, large = (cost(read_back_in_order, sale) for sale in sales)

    assert large > 10 * small
