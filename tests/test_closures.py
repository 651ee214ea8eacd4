"""After a start of Redis a worker compares its sales together: one grace, few queries, and it objects unasked."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from unittest.mock import patch

import pytest
from django.db.backends.utils import CursorWrapper
from django.utils import timezone

from sales import closures, continuity, publishing, purchases, store
from sales.models import Order, Sale
from sales.orders import consumer_name, row, run_once
from tests.conftest import SALE_IDS, MakeSale
from tests.traffic import writes

pytestmark = pytest.mark.django_db(transaction=True)


def make_sales(count: int) -> list[Sale]:
    """Make open sales, each with an order."""
    now, hour = timezone.now(), timedelta(hours=1)
    sales = Sale.objects.bulk_create(
        Sale(
            id=next(SALE_IDS),
            name=f"Widget {number}",
            slug=f"widget-{number}",
            total_stock=5,
            starts_at=now - hour,
            ends_at=now + hour,
        )
        for number in range(count)
    )
    for sale in sales:
        publishing.publish(sale)
        order_id = store.client().xadd(store.key(sale.id, "orders"), {"user_id": "ada"}).decode()
        store.client().hset(store.key(sale.id, "purchases"), "ada", f"{order_id} 4 ")
        store.client().decr(store.key(sale.id, "stock"))
        row(sale.id, "ada", order_id, 4, "").save()
    return sales


def restart(*sales: Sale) -> None:
    """Have the sales as after a start of their server: another run of it was compared."""
    for sale in sales:
        store.client().hset(store.key(sale.id, "config"), "run_id", "an-earlier-run")


async def reasons(*sales: Sale) -> list[str]:
    """Return what a worker says of the sales that is asked for all of them at once."""
    sale_ids = [sale.id for sale in sales]
    replies = await closures.ask(sale_ids)
    return list(await asyncio.gather(*(map(closures.reason, sale_ids, replies))))


def config(sale: Sale) -> dict[str, str]:
    return publishing.standing(sale).config


@contextmanager
def queries() -> Iterator[list[str]]:
    """Give a list that gets each statement, of whichever thread."""
    found: list[str] = []
    original = CursorWrapper.execute

    def note(cursor: Any, sql: str, params: Any = None) -> Any:
        found.append(sql)
        return original(cursor, sql, params)

    with patch.object(CursorWrapper, "execute", note):
        yield found


@pytest.fixture
def graces(monkeypatch: pytest.MonkeyPatch) -> set[float]:
    """When each grace ends; of one start, however long the machine takes for its comparisons."""
    monkeypatch.setattr(closures, "SHARED_SECONDS", 600)
    found: set[float] = set()
    original = closures._Comparisons._grace

    async def note(comparisons: closures._Comparisons, run_id: str) -> None:
        await original(comparisons, run_id)
        found.add(comparisons._open_at[run_id])

    monkeypatch.setattr(closures._Comparisons, "_grace", note)
    return found


def cost(*sales: Sale) -> tuple[int, int]:
    """Return how many queries and writes to Redis it takes to compare the sales after a start."""
    restart(*sales)
    with queries() as asked, writes() as written:
        assert asyncio.run(reasons(*sales)) == [""] * len(sales)
    return len(asked), len(written)


def test_eighty_sales_cost_no_more_queries_than_two(transactional_db: None, graces: set[float]):
    sales = make_sales(80)
    cost(*sales[:1])
    few = cost(*sales[:2])
    graces.clear()

    many = cost(*sales)

    assert many == few
    assert max(few) < 15
    assert len(graces) == 1
    assert {config(sale)["run_id"] for sale in sales} == {store.run_id_blocking()}


def test_sales_that_are_asked_for_later_share_the_grace(transactional_db: None, graces: set[float]):
    sales = make_sales(3)
    restart(*sales)

    async def one_after_another() -> list[list[str]]:
        return [await reasons(sale) for sale in sales]

    assert asyncio.run(one_after_another()) == [[""]] * 3
    assert len(graces) == 1


def test_late_after_a_start_each_sale_has_its_own_grace(
    transactional_db: None, graces: set[float], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(closures, "SHARED_SECONDS", 0)
    sales = make_sales(2)
    restart(*sales)

    async def one_after_another() -> list[list[str]]:
        return [await reasons(sale) for sale in sales]

    assert asyncio.run(one_after_another()) == [[""]] * 2
    assert len(graces) == 2


def test_a_sale_that_lost_something_keeps_no_other_closed(transactional_db: None):
    whole, damaged, _ = sales = make_sales(3)
    restart(*sales)
    store.client().hdel(store.key(damaged.id, "purchases"), "ada")

    told = asyncio.run(reasons(*sales))

    assert (told[0], told[2]) == ("", "")
    assert "knows of 0 purchases, SQL of 1 orders" in told[1]
    assert "closed" in config(damaged)
    assert config(whole)["run_id"] == store.run_id_blocking()


def test_no_sale_opens_before_others_may_have_objected(open_sale: Sale, monkeypatch: pytest.MonkeyPatch):
    async def object_meanwhile(comparisons: closures._Comparisons, run_id: str) -> None:
        assert config(open_sale)["run_id"] == "an-earlier-run"
        store.client().hset(store.key(open_sale.id, "config"), "closed", f"{run_id} It is missing.")

    restart(open_sale)
    monkeypatch.setattr(closures._Comparisons, "_grace", object_meanwhile)

    assert asyncio.run(reasons(open_sale)) == ["Another worker has found that data is missing."]
    assert config(open_sale)["run_id"] == "an-earlier-run"


def test_a_worker_objects_in_sales_that_nobody_asks_for(make_sale: MakeSale):
    asked, sold = make_sale(name="Asked for"), make_sale(name="Sold")

    async def lose_what_was_answered() -> str:
        await reasons(asked, sold)
        assert (await purchases.buy(sold.id, "ada")).outcome == "purchased"
        for name in ("purchases", "orders"):
            store.client().delete(store.key(sold.id, name))
        restart(asked, sold)
        closures._comparisons()._open_at.clear()  # it has not met this run
        await reasons(asked)
        deadline = time.monotonic() + 30
        while "closed" not in config(sold) and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        return continuity.closed_reason(config(sold))

    assert "neither Redis nor SQL has: 1." in asyncio.run(lose_what_was_answered())


def test_a_defect_is_reported_and_the_next_comparison_works(open_sale: Sale, monkeypatch: pytest.MonkeyPatch):
    def fail(*args: object) -> dict[int, str]:
        raise ZeroDivisionError

    restart(open_sale)
    with monkeypatch.context() as broken:
        broken.setattr(continuity, "compare", fail)
        assert asyncio.run(reasons(open_sale)) == ["It could not be compared with SQL. The log says why."]

    assert asyncio.run(reasons(open_sale)) == [""]


@pytest.mark.parametrize("newest", [999, 1_000, 1_001])
def test_a_lost_purchase_among_the_newest_thousand_is_found(
    open_sale: Sale, newest: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(continuity, "COMPARED_ORDERS", 1_000)
    orders = [
        row(open_sale.id, f"shopper-{number}", f"{1_700_000_000_000 + number}-0", 1, "") for number in range(newest)
    ]
    Order.objects.bulk_create(orders)
    for start in range(0, newest, 500):
        page = orders[start : start + 500]
        mapping = {order.user_id: f"{order.order_id} 1 " for order in page}
        store.client().hset(store.key(open_sale.id, "purchases"), mapping=mapping)
    store.client().execute_command("XSETID", store.key(open_sale.id, "orders"), orders[-1].order_id)
    run_once(consumer_name())
    run_id = store.run_id_blocking()
    assert continuity.confirm(open_sale.id, run_id) == ""

    lost = orders[max(0, newest - 1_000)]
    store.client().hset(store.key(open_sale.id, "purchases"), lost.user_id, "1-1 1 ")

    assert f"1 of the newest orders, like {lost.order_id}" in continuity.confirm(open_sale.id, run_id)
