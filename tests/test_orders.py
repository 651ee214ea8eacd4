"""The order writer: nothing, twice, killed half way, and what does not belong there."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.management import call_command
from django.db import DataError
from pytest_django import DjangoAssertNumQueries

from sales import orders as order_writer
from sales import purchases, store
from sales.models import Order, Quarantine, Sale
from sales.orders import consumer_name, drain, run_once, tidy
from tests.conftest import MakeSale
from tests.traffic import writes


class Killed(BaseException):
    """Stands for SIGKILL: nothing in the code under test catches it."""


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a writer that finds nothing not wait for more."""
    monkeypatch.setattr(order_writer._new, "__defaults__", (1,))


def buy(sale: Sale, *user_ids: str) -> list[purchases.Purchase]:
    async def all_of_them() -> list[purchases.Purchase]:
        return [await purchases.buy(sale.id, user_id, f"key of {user_id}") for user_id in user_ids]

    return asyncio.run(all_of_them())


def pending(sale: Sale) -> int:
    return store.client().xpending(store.key(sale.id, "orders"), store.WRITERS)["pending"]


def killed_at(monkeypatch: pytest.MonkeyPatch, step: str, consumer: str) -> None:
    """Run a writer that is killed as it comes to `step`."""

    def die(*args: object, **kwargs: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(step, die)
        with pytest.raises(Killed):
            run_once(consumer)


def test_purchases_become_orders(open_sale: Sale):
    bought = buy(open_sale, "ada", "bob")

    assert run_once(consumer_name()) == 2

    orders = {order.user_id: order for order in Order.objects.all()}
    assert orders["ada"].order_id == bought[0].order_id
    assert round(orders["ada"].purchased_at.timestamp() * 1000) == purchases.purchased_ms(bought[0].order_id)
    assert (orders["ada"].remaining_stock, orders["bob"].remaining_stock) == (9, 8)
    assert orders["ada"].key_digest
    assert pending(open_sale) == 0


@pytest.mark.pure
def test_no_stream_at_all(db: None):
    assert run_once(consumer_name()) == 0


def test_an_empty_stream(open_sale: Sale):
    assert run_once(consumer_name()) == 0


def test_orders_of_several_sales(make_sale: MakeSale):
    one, two = make_sale(name="one"), make_sale(name="two")
    buy(one, "ada")
    buy(two, "ada")

    assert run_once(consumer_name()) == 2

    assert {(order.sale_id, order.user_id) for order in Order.objects.all()} == {(one.id, "ada"), (two.id, "ada")}


def test_entries_delivered_twice_make_one_row_each(open_sale: Sale):
    buy(open_sale, "ada", "bob")
    run_once(consumer_name())
    store.client().xgroup_setid(store.key(open_sale.id, "orders"), store.WRITERS, "0")

    assert run_once(consumer_name()) == 2

    assert Order.objects.count() == 2
    assert pending(open_sale) == 0


def test_a_writer_killed_before_it_acknowledged_loses_and_doubles_nothing(
    open_sale: Sale, monkeypatch: pytest.MonkeyPatch
):
    buy(open_sale, "ada", "bob")
    killed_at(monkeypatch, "redis.client.Redis.xack", consumer="dead writer")
    assert (Order.objects.count(), pending(open_sale)) == (2, 2)

    assert run_once("next writer", claim_after_ms=0) == 2

    assert (Order.objects.count(), pending(open_sale)) == (2, 0)


def test_a_writer_killed_before_it_wrote_loses_nothing(open_sale: Sale, monkeypatch: pytest.MonkeyPatch):
    buy(open_sale, "ada", "bob")
    killed_at(monkeypatch, "django.db.models.query.QuerySet.bulk_create", consumer="dead writer")
    assert (Order.objects.count(), pending(open_sale)) == (0, 2)

    assert run_once("next writer", claim_after_ms=0) == 2

    assert (Order.objects.count(), pending(open_sale)) == (2, 0)


def test_a_living_writers_entries_are_left_to_it(open_sale: Sale, monkeypatch: pytest.MonkeyPatch):
    buy(open_sale, "ada")
    killed_at(monkeypatch, "redis.client.Redis.xack", consumer="slow writer")

    assert run_once("other writer", claim_after_ms=600_000) == 0

    assert pending(open_sale) == 1


MALFORMED = [
    {"nonsense": "1"},
    {"user_id": "x", "remaining_stock": "many", "key_digest": ""},
    {"user_id": "", "remaining_stock": "1", "key_digest": ""},
    {"user_id": "x", "remaining_stock": "-1", "key_digest": ""},
    {"user_id": b"\xff", "remaining_stock": "1", "key_digest": ""},
]


@pytest.mark.parametrize("fields", MALFORMED)
def test_a_malformed_entry_is_quarantined_after_five_tries(open_sale: Sale, fields: dict):
    entry_id = store.client().xadd(store.key(open_sale.id, "orders"), fields)
    buy(open_sale, "ada")

    handled = [run_once(consumer_name(), claim_after_ms=0) for _ in range(5)]

    assert handled == [1, 0, 0, 0, 1]
    assert [order.user_id for order in Order.objects.all()] == ["ada"]
    quarantined = Quarantine.objects.get()
    assert (quarantined.entry_id, quarantined.sale) == (entry_id.decode(), open_sale)
    assert "it is no purchase" in quarantined.reason
    assert pending(open_sale) == 0


def test_a_conflicting_entry_is_quarantined_and_the_order_stays(open_sale: Sale, caplog: pytest.LogCaptureFixture):
    buy(open_sale, "ada")
    run_once(consumer_name())
    order = Order.objects.get()
    fields = {"user_id": "ada", "remaining_stock": "8", "key_digest": ""}
    store.client().xadd(store.key(open_sale.id, "orders"), fields)

    for _ in range(5):
        run_once(consumer_name(), claim_after_ms=0)

    assert Order.objects.get() == order
    quarantined = Quarantine.objects.get()
    assert quarantined.fields == fields
    assert "SQL holds another order of ada" in quarantined.reason
    assert "is in quarantine" in caplog.text


def test_a_row_refused_by_sql_does_not_block_its_batch(open_sale: Sale, monkeypatch: pytest.MonkeyPatch):
    buy(open_sale, "ada", "bob", "eve")
    insert = type(Order.objects.all()).bulk_create

    def refuse_bob(self: Any, rows: list[Order], **options: Any) -> Any:
        if any(row.user_id == "bob" for row in rows):
            raise DataError("bob does not fit")
        return insert(self, rows, **options)

    monkeypatch.setattr("django.db.models.query.QuerySet.bulk_create", refuse_bob)

    assert run_once(consumer_name()) == 2

    assert {order.user_id for order in Order.objects.all()} == {"ada", "eve"}
    assert pending(open_sale) == 1


def test_trimming_removes_only_what_is_acknowledged(
    open_sale: Sale, monkeypatch: pytest.MonkeyPatch, small_nodes: None
):
    stream = store.key(open_sale.id, "orders")
    buy(open_sale, "ada")
    killed_at(monkeypatch, "redis.client.Redis.xack", consumer="dead writer")
    buy(open_sale, "bob")
    run_once("next writer", claim_after_ms=600_000)
    buy(open_sale, "eve")

    tidy()
    assert store.client().xlen(stream) == 3

    run_once("next writer", claim_after_ms=0)
    tidy()
    assert store.client().xlen(stream) == 1


@pytest.fixture
def small_nodes() -> Iterator[None]:
    """Have Redis trim to the entry, where it otherwise stops at whole nodes of a hundred."""
    (node,) = store.client().config_get("stream-node-max-entries").values()
    store.client().config_set("stream-node-max-entries", 1)
    yield
    store.client().config_set("stream-node-max-entries", node)


def test_the_command_drains_the_streams(open_sale: Sale, capsys: pytest.CaptureFixture[str]):
    buy(open_sale, *(f"shopper-{number}" for number in range(10)))

    call_command("write_orders", "--once")

    assert capsys.readouterr().out == "10 orders written.\n"
    assert Order.objects.count() == 10


def test_draining_passes_by_what_sql_refuses(open_sale: Sale, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sales.orders.LARGEST_BATCH", 2)
    stream = store.key(open_sale.id, "orders")
    for _ in range(5):
        store.client().xadd(stream, {"nonsense": "1"})
    buy(open_sale, "ada")
    run_once("a writer that died")
    run_once("a writer that died")
    for _ in range(5):
        store.client().xadd(stream, {"nonsense": "1"})
    buy(open_sale, "bob")

    assert drain(open_sale) == 2
    assert set(Order.objects.values_list("user_id", flat=True)) == {"ada", "bob"}
    assert pending(open_sale) == 10


def test_draining_a_stream_that_goes_meanwhile_ends(open_sale: Sale, monkeypatch: pytest.MonkeyPatch):
    buy(open_sale, "ada")
    run_once(consumer_name())
    stream = store.key(open_sale.id, "orders")
    monkeypatch.setattr("sales.orders._streams", lambda sale_ids: {stream: open_sale.id})
    store.client().delete(stream)  # as who archives it at the same time

    assert drain(open_sale) == 0


def test_draining_a_stream_without_its_writers_says_so(open_sale: Sale):
    buy(open_sale, "ada")
    store.client().xgroup_destroy(store.key(open_sale.id, "orders"), store.WRITERS)

    with pytest.raises(store.ResponseError, match="NOGROUP"):
        drain(open_sale)


# Many sales


def test_a_hundred_idle_sales_cost_one_query_and_three_writes(
    make_sale: MakeSale, django_assert_num_queries: DjangoAssertNumQueries
):
    for number in range(100):
        make_sale(name=f"Widget {number}")
    tidy()

    with django_assert_num_queries(1), writes() as of_writer:
        assert run_once(consumer_name()) == 0
    with django_assert_num_queries(1), writes() as of_tidying:
        tidy()

    assert len(of_writer) == 3
    assert len(of_tidying) == 1


def test_full_pages_of_many_sales_are_filled_up(make_sale: MakeSale, monkeypatch: pytest.MonkeyPatch):
    one, two, _ = make_sale(name="one", stock=30), make_sale(name="two", stock=30), make_sale(name="three")
    monkeypatch.setattr(order_writer, "MOST_AT_ONCE", 15)
    for sale in (one, two):
        buy(sale, *(f"shopper-{number}" for number in range(30)))

    with writes() as written:
        assert run_once(consumer_name()) == 60

    assert (
        len(written) == 6
    )  # which streams there are, what is abandoned, what is new, more of it, and two that are done
    assert pending(one) == pending(two) == 0


def test_only_a_writer_that_owes_nothing_is_forgotten(open_sale: Sale, monkeypatch: pytest.MonkeyPatch):
    buy(open_sale, "ada")
    run_once("done")
    buy(open_sale, "bob")
    killed_at(monkeypatch, "redis.client.Redis.xack", consumer="owes one")
    monkeypatch.setattr(order_writer, "FORGET_AFTER_MS", -1)

    tidy()

    stream = store.key(open_sale.id, "orders")
    assert [writer["name"] for writer in store.client().xinfo_consumers(stream, store.WRITERS)] == [b"owes one"]
    assert pending(open_sale) == 1
