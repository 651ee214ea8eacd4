"""The audit: zero drift where everything agrees, and every kind of drift by its name."""

import asyncio
import json
import re
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from sales import audit as audit_module
from sales import purchases, store
from sales.audit import audit
from sales.drift import ADVICE
from sales.models import Order, Quarantine, Sale
from sales.orders import consumer_name, run_once
from sales.restoring import restore


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


def test_it_does_not_wait_once_all_is_written(sold_sale: Sale, monkeypatch: pytest.MonkeyPatch):
    """After a restoration the stream's last ID is an order's that is not in the stream."""
    store.client().flushall()
    restore(sold_sale)
    monkeypatch.setattr("time.sleep", lambda seconds: pytest.fail("it waits"))

    assert audit(sold_sale).drift == {}


def test_a_missing_order(sold_sale: Sale):
    Order.objects.filter(user_id="bob").delete()

    (examples,) = audit(sold_sale).drift.items()

    assert examples[0] == "purchases_without_order"
    assert examples[1][0].startswith("bob ")


def test_a_lost_purchase(sold_sale: Sale):
    store.client().hdel(store.key(sold_sale.id, "purchases"), "bob")

    assert set(audit(sold_sale).drift) == {
        "stock_and_purchases_are_not_the_total",
        "stream_entries_without_purchase",
        "orders_without_purchase",
    }


def test_a_lost_stream_entry(sold_sale: Sale):
    stream = store.key(sold_sale.id, "orders")
    store.client().xdel(stream, store.client().xrange(stream)[1][0])
    assert audit(sold_sale).drift == {}  # it is in SQL

    Order.objects.filter(user_id="bob").delete()

    assert set(audit(sold_sale).drift) == {"purchases_missing_in_stream", "purchases_without_order"}


def test_a_wrong_stock(sold_sale: Sale):
    store.client().incr(store.key(sold_sale.id, "stock"))

    assert audit(sold_sale).drift == {"stock_and_purchases_are_not_the_total": ["8 + 3 != 10"]}


def test_an_order_of_another_purchase(sold_sale: Sale):
    Order.objects.filter(user_id="bob").update(order_id="1-1")

    assert set(audit(sold_sale).drift) == {"purchases_without_order", "orders_without_purchase"}


def test_a_sale_that_redis_lost(sold_sale: Sale):
    store.client().flushall()

    assert "sale_not_in_redis" in audit(sold_sale).drift


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


def test_trimming_behind_sql_is_no_drift(sold_sale: Sale):
    store.client().xtrim(store.key(sold_sale.id, "orders"), maxlen=1, approximate=False)

    assert audit(sold_sale).drift == {}


def test_purchases_that_nobody_has_written_yet_are_drift(open_sale: Sale, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sales.audit.WRITER_HAS_SECONDS", 0.2)
    asyncio.run(purchases.buy(open_sale.id, "ada"))

    assert set(audit(open_sale).drift) == {"purchases_without_order"}


def test_orders_that_are_newer_than_the_audit_are_no_drift(sold_sale: Sale, monkeypatch: pytest.MonkeyPatch):
    """A purchase is made and written between the audit's look at Redis and its look at SQL."""

    def buy_meanwhile(*args: object) -> None:
        asyncio.run(purchases.buy(sold_sale.id, "late"))
        run_once(consumer_name())

    monkeypatch.setattr("sales.audit._wait_for_writer", buy_meanwhile)

    result = audit(sold_sale)

    assert result.drift == {}
    assert result.orders == 3


def test_a_total_that_is_not_in_redis(sold_sale: Sale):
    Sale.objects.update(total_stock=20)

    assert audit(sold_sale).drift == {"total_differs_from_sql": ["10 in Redis, 20 in SQL"]}


def test_an_entry_in_quarantine_is_named(sold_sale: Sale):
    Quarantine.objects.create(sale=sold_sale, entry_id="5-1", fields={}, reason="nonsense")

    assert audit(sold_sale).drift == {"entries_in_quarantine": ["5-1"]}


@pytest.mark.pure
def test_every_kind_of_drift_has_advice():
    source = Path(audit_module.__file__).read_text()
    kinds = set(re.findall(r'drift\["(\w+)"\]|example\("(\w+)"', source))

    assert {name for pair in kinds for name in pair if name} == set(ADVICE)


def test_repair_mends_what_has_one_right_answer(sold_sale: Sale, capsys: pytest.CaptureFixture[str]):
    original = list(Order.objects.order_by("order_id").values("order_id", "user_id", "purchased_at", "remaining_stock"))
    asyncio.run(purchases.buy(sold_sale.id, "waiting"))
    Order.objects.filter(user_id__in=["ada", "bob"]).delete()
    store.client().incr(store.key(sold_sale.id, "stock"), 3)

    call_command("audit_sale", sold_sale.slug, "--repair")

    printed = capsys.readouterr().out
    assert "1 stream entries written to SQL" in printed
    assert "2 orders written from the purchases in Redis" in printed
    assert "stock set from 9 to 6" in printed
    assert "no drift" in printed
    mended = Order.objects.exclude(user_id="waiting").order_by("order_id")
    assert list(mended.values("order_id", "user_id", "purchased_at", "remaining_stock")) == original
    call_command("audit_sale", sold_sale.slug, "--repair")
    assert "nothing to repair" in capsys.readouterr().out


def test_repair_explains_what_it_leaves(sold_sale: Sale, capsys: pytest.CaptureFixture[str]):
    store.client().hdel(store.key(sold_sale.id, "purchases"), "bob")

    with pytest.raises(SystemExit):
        call_command("audit_sale", sold_sale.slug, "--repair")

    printed = capsys.readouterr().out
    assert "nothing more: Redis has lost data" in printed
    assert "run manage.py restore_sale" in printed
