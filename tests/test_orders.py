"""The order writer: nothing, twice, killed half way, and what does not belong there."""

import asyncio

import pytest
from django.core.management import call_command

from sales import purchases, store
from sales.models import Order, Sale
from sales.orders import consumer_name, run_once
from tests.conftest import MakeSale


class Killed(BaseException):
    """Stands for SIGKILL: nothing in the code under test catches it."""


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

    assert run_once("other writer") == 0

    assert pending(open_sale) == 1


def test_what_is_not_a_purchase_stays_and_the_others_flow_on(open_sale: Sale, caplog: pytest.LogCaptureFixture):
    stream = store.key(open_sale.id, "orders")
    store.client().xadd(stream, {"nonsense": "1"})
    buy(open_sale, "ada")

    assert run_once(consumer_name()) == 1

    assert [order.user_id for order in Order.objects.all()] == ["ada"]
    assert pending(open_sale) == 1
    assert "left unacknowledged" in caplog.text


def test_an_order_that_sql_refuses_is_not_acknowledged(open_sale: Sale, caplog: pytest.LogCaptureFixture):
    buy(open_sale, "ada")
    run_once(consumer_name())
    order = Order.objects.get()
    store.client().xadd(
        store.key(open_sale.id, "orders"), {"user_id": order.user_id, "remaining_stock": "8", "key_digest": ""}
    )

    assert run_once(consumer_name()) == 0

    assert Order.objects.get() == order
    assert pending(open_sale) == 1
    assert "SQL refuses" in caplog.text


def test_the_command_drains_the_streams(open_sale: Sale, capsys: pytest.CaptureFixture[str]):
    buy(open_sale, *(f"shopper-{number}" for number in range(10)))

    call_command("write_orders", "--once")

    assert capsys.readouterr().out == "10 orders written.\n"
    assert Order.objects.count() == 10
