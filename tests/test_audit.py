"""The audit: zero drift where everything agrees, and every kind of drift by its name."""

import asyncio
import json

import pytest
from django.core.management import CommandError, call_command

from sales import purchases, store
from sales.audit import audit
from sales.models import Order, Sale
from sales.orders import consumer_name, run_once


@pytest.fixture
def sold_sale(open_sale: Sale) -> Sale:
    """Three units sold, and their orders written."""

    async def buy() -> None:
        for user_id in ("ada", "bob", "eve"):
            await purchases.buy(open_sale.id, user_id)

    asyncio.run(buy())
    run_once(consumer_name())
    return open_sale


def test_no_drift(sold_sale: Sale):
    result = audit(sold_sale)

    assert result.drift == {}
    assert (result.total_stock, result.remaining_stock) == (10, 7)
    assert (result.purchases, result.stream, result.orders) == (3, 3, 3)


def test_a_missing_order(sold_sale: Sale):
    Order.objects.filter(user_id="bob").delete()

    (examples,) = audit(sold_sale).drift.items()

    assert examples[0] == "purchases without an order in SQL"
    assert examples[1][0].startswith("bob ")


def test_a_lost_purchase(sold_sale: Sale):
    store.client().hdel(store.key(sold_sale.id, "purchases"), "bob")

    assert set(audit(sold_sale).drift) == {
        "stock and purchases do not make up the total",
        "stream entries that are not purchases",
        "orders in SQL that are not purchases",
    }


def test_a_lost_stream_entry(sold_sale: Sale):
    stream = store.key(sold_sale.id, "orders")
    store.client().xdel(stream, store.client().xrange(stream)[0][0])

    assert set(audit(sold_sale).drift) == {"purchases that are not in the stream"}


def test_a_wrong_stock(sold_sale: Sale):
    store.client().incr(store.key(sold_sale.id, "stock"))

    assert audit(sold_sale).drift == {"stock and purchases do not make up the total": ["8 + 3 != 10"]}


def test_an_order_of_another_purchase(sold_sale: Sale):
    Order.objects.filter(user_id="bob").update(order_id="1-1")

    assert set(audit(sold_sale).drift) == {"purchases without an order in SQL", "orders in SQL that are not purchases"}


def test_a_sale_that_redis_lost(sold_sale: Sale):
    store.client().flushall()

    assert "the sale is published, but not in Redis" in audit(sold_sale).drift


def test_the_command_says_that_all_is_well(sold_sale: Sale, capsys: pytest.CaptureFixture[str]):
    call_command("audit_sale", sold_sale.slug)

    assert "no drift" in capsys.readouterr().out


def test_the_command_fails_on_drift_and_prints_json(sold_sale: Sale, capsys: pytest.CaptureFixture[str]):
    store.client().incr(store.key(sold_sale.id, "stock"))

    with pytest.raises(SystemExit) as exit_status:
        call_command("audit_sale", "--json")

    (result,) = json.loads(capsys.readouterr().out)
    assert exit_status.value.code == 1
    assert result["slug"] == sold_sale.slug
    assert result["drift"]


def test_the_command_does_not_know_the_sale(sold_sale: Sale):
    with pytest.raises(CommandError, match=f"no sale 'nonsense'. There are: {sold_sale.slug}"):
        call_command("audit_sale", "nonsense")
