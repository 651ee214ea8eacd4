"""Cancelled orders: the unit is for sale again exactly once, whoever dies half way."""

import asyncio
import html
import threading
from collections.abc import Callable

import httpx
import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.db import connection
from django.db.models import QuerySet
from django.test import Client

from sales import audit as audits
from sales import cancelling, continuity, orders, publishing, purchases, receipts, restoring, store
from sales.models import Order, Sale
from sales.orders import consumer_name, run_once
from tests.conftest import MakeSale
from tests.redis_servers import wait_until
from tests.servers import RedisServer
from tests.writers import OrderWriter

pytestmark = [pytest.mark.usefixtures("static_files"), pytest.mark.django_db(transaction=True)]

LIST = "/admin/sales/order/"


class Killed(BaseException):
    """Stands for SIGKILL: nothing in the code under test catches it."""


@pytest.fixture
def olga(transactional_db: None) -> User:
    return User.objects.create_superuser("olga")


@pytest.fixture
def operator(olga: User) -> Client:
    client = Client()
    client.force_login(olga)
    return client


@pytest.fixture
def sold_sale(open_sale: Sale) -> Sale:
    """Three units of ten sold, and their orders written."""
    buy(open_sale, "ada", "bob", "eve")
    run_once(consumer_name())
    return open_sale


def buy(sale: Sale, *user_ids: str) -> list[str]:
    async def all_of_them() -> list[str]:
        return [(await purchases.buy(sale.id, user_id, f"key of {user_id}")).outcome for user_id in user_ids]

    return asyncio.run(all_of_them())


def order_of(user_id: str) -> Order:
    return Order.objects.filter(user_id=user_id).latest("purchased_at", "id")


def cancel(user_id: str, *, may_buy_again: bool = True) -> Order:
    """Cancel a shopper's newest order, and have Redis take it."""
    order = order_of(user_id)
    decide(order, may_buy_again=may_buy_again)
    cancelling.enforce(order.sale)
    return order


def decide(order: Order, *, may_buy_again: bool = True) -> None:
    user, _ = User.objects.get_or_create(username="otto")
    cancelling.cancel(order, user, may_buy_again=may_buy_again)


def free(sale: Sale) -> int:
    """Return the units that are free, by Redis, whose sum must be the total."""
    standing = publishing.standing(sale)
    assert standing.remaining_stock is not None
    assert standing.remaining_stock + standing.sold == int(standing.config["total_stock"])
    return standing.remaining_stock


def drift(sale: Sale) -> dict[str, list[str]]:
    while run_once(consumer_name()):
        pass
    return audits.audit(sale).drift


def history(order: Order) -> list[str]:
    entries = LogEntry.objects.filter(object_id=str(order.id), content_type__model="order").order_by("id")
    return [f"{entry.user}: {entry.change_message}" for entry in entries]


# The rules


def test_the_unit_is_free_again_and_the_order_remembered(sold_sale: Sale):
    order = cancel("bob")

    order.refresh_from_db()
    assert free(sold_sale) == 8
    assert (order.cancelled_at is None, order.may_buy_again, order.cancellation_due) == (False, True, False)
    assert asyncio.run(purchases.find(sold_sale.id, "bob")) is None
    assert history(order) == ["otto: Cancel. Order: valid → cancelled; May buy again: yes."]
    assert drift(sold_sale) == {}


def test_a_shopper_allowed_to_buy_again_gets_another_order(sold_sale: Sale):
    cancelled = cancel("bob")

    assert buy(sold_sale, "bob", "bob") == ["purchased", "replayed"]

    run_once(consumer_name())
    assert order_of("bob").order_id != cancelled.order_id
    assert Order.objects.filter(user_id="bob").count() == 2
    assert free(sold_sale) == 7
    assert drift(sold_sale) == {}


def test_a_repeated_purchase_can_be_cancelled_again(sold_sale: Sale):
    for _ in range(3):
        cancel("bob")
        buy(sold_sale, "bob")
        run_once(consumer_name())
    cancel("bob", may_buy_again=False)

    assert buy(sold_sale, "bob") == ["order_cancelled"]
    assert free(sold_sale) == 8
    assert drift(sold_sale) == {}


def test_sql_takes_only_one_valid_order_per_shopper(sold_sale: Sale):
    first = order_of("bob")
    orders.insert([orders.row(sold_sale.id, "bob", "1-0", 1, "")])

    assert list(Order.objects.filter(user_id="bob")) == [first]


def test_a_barred_shopper_gets_order_cancelled(sold_sale: Sale):
    cancel("bob", may_buy_again=False)

    with_the_same_key, without = buy(sold_sale, "bob")[0], asyncio.run(purchases.buy(sold_sale.id, "bob"))

    assert (with_the_same_key, without.outcome, without.order_id) == ("order_cancelled", "order_cancelled", "")
    assert without.remaining_stock == free(sold_sale) == 8
    assert store.client().ttl(store.key(sold_sale.id, "barred")) == -1
    assert buy(sold_sale, "new", "ada") == ["purchased", "replayed"]
    assert drift(sold_sale) == {}


def test_barred_shoppers_get_order_cancelled_in_every_sale_state(make_sale: MakeSale):
    sale = make_sale(stock=1)
    buy(sale, "bob")
    run_once(consumer_name())
    cancel("bob", may_buy_again=False)
    buy(sale, "new")
    sold_out = buy(sale, "bob")
    Sale.objects.update(paused=True)
    publishing.publish(sale)

    assert (sold_out, buy(sale, "bob")) == (["order_cancelled"], ["order_cancelled"])


def test_the_key_of_a_cancelled_order_buys_for_somebody_else(sold_sale: Sale):
    cancel("bob")

    assert asyncio.run(purchases.buy(sold_sale.id, "new", "key of bob")).outcome == "purchased"
    assert asyncio.run(purchases.buy(sold_sale.id, "other", "key of ada")).outcome == "idempotency_key_reused"


def test_a_sold_out_sale_resells_only_the_returned_unit(make_sale: MakeSale):
    sale = make_sale(stock=2)
    buy(sale, "ada", "bob")
    run_once(consumer_name())

    before = buy(sale, "new")
    cancel("ada", may_buy_again=False)

    assert before + buy(sale, "new", "other") == ["sold_out", "purchased", "sold_out"]


def test_it_costs_a_purchase_nothing_while_nobody_is_barred(sold_sale: Sale):
    def looks() -> int:
        store.client().config_resetstat()
        buy(sold_sale, "new")
        return store.client().info("commandstats")["cmdstat_smismember"]["calls"]

    cancel("ada")
    before = looks()
    cancel("bob", may_buy_again=False)

    assert (before, looks()) == (1, 2)


def test_an_order_is_cancelled_once(sold_sale: Sale):
    order = cancel("bob")
    cancelled_at = Order.objects.get(pk=order.pk).cancelled_at

    with pytest.raises(cancelling.AlreadyCancelled):
        decide(order, may_buy_again=False)
    cancelling.enforce(sold_sale)
    cancelling.catch_up()

    assert Order.objects.get(pk=order.pk).cancelled_at == cancelled_at
    assert free(sold_sale) == 8
    assert len(history(order)) == 1


def test_of_two_operators_at_once_one_cancels(sold_sale: Sale):
    order, both, told = order_of("bob"), threading.Barrier(2), []

    def run(name: str, may_buy_again: bool) -> None:
        user = User.objects.create_superuser(name)
        mine = Order.objects.get(pk=order.pk)
        both.wait()
        try:
            cancelling.cancel(mine, user, may_buy_again=may_buy_again)
            told.append("cancelled")
        except cancelling.AlreadyCancelled:
            told.append("refused")
        cancelling.enforce(sold_sale)
        connection.close()

    threads = [threading.Thread(target=run, args=(name, name == "otto")) for name in ("olga", "otto")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(told) == ["cancelled", "refused"]
    assert len(history(order)) == 1
    assert free(sold_sale) == 8
    assert drift(sold_sale) == {}


def test_an_oversold_sale_does_not_resell_a_cancelled_unit(sold_sale: Sale):
    store.client().flushall()
    Sale.objects.update(total_stock=2)
    restoring.restore(sold_sale)

    cancel("ada")
    of_three_for_two = publishing.standing(sold_sale).remaining_stock
    cancel("bob")

    assert (of_three_for_two, free(sold_sale)) == (0, 1)


# Killed half way


def test_killed_before_redis_took_it_the_order_writer_finishes(sold_sale: Sale):
    decide(order_of("bob"))  # and is killed before it tells Redis

    still_bought = buy(sold_sale, "bob")
    with OrderWriter():
        wait_until(lambda: not Order.objects.filter(cancellation_due=True).exists(), "it is enforced", 60)

    assert still_bought == ["replayed"]
    assert free(sold_sale) == 8
    assert drift(sold_sale) == {}


def test_killed_after_redis_took_it_the_unit_comes_back_once(sold_sale: Sale, monkeypatch: pytest.MonkeyPatch):
    def die(*args: object, **fields: object) -> int:
        raise Killed

    decide(order_of("bob"), may_buy_again=True)
    with monkeypatch.context() as patch:
        patch.setattr(QuerySet, "update", die)
        with pytest.raises(Killed):
            cancelling.enforce(sold_sale)
    was_due = Order.objects.filter(cancellation_due=True).count()
    bought_again = buy(sold_sale, "bob")
    cancelling.catch_up()

    assert (was_due, free(sold_sale), bought_again) == (1, 7, ["purchased"])
    assert not Order.objects.filter(cancellation_due=True).exists()
    assert drift(sold_sale) == {}


def test_killed_while_it_is_saved_nothing_is_cancelled(sold_sale: Sale, monkeypatch: pytest.MonkeyPatch):
    order = order_of("bob")

    def die(*args: object, **fields: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(LogEntry.objects, "log_actions", die)
        with pytest.raises(Killed):
            decide(order)
    cancelling.catch_up()

    assert Order.objects.get(pk=order.pk).cancelled_at is None
    assert (free(sold_sale), buy(sold_sale, "bob")) == (7, ["replayed"])


def test_publishing_does_not_take_a_cancellation_for_a_loss(sold_sale: Sale):
    decide(order_of("ada"))
    publishing.publish(sold_sale)
    due = publishing.standing(sold_sale).remaining_stock
    cancelling.catch_up()
    for user_id in ("bob", "eve"):
        cancel(user_id)

    assert (due, publishing.publish(sold_sale).remaining_stock) == (7, 10)


def test_a_redelivered_entry_does_not_restore_a_cancelled_order(open_sale: Sale):
    buy(open_sale, "bob")
    store.client().xreadgroup(store.WRITERS, "dead writer", {store.key(open_sale.id, "orders"): ">"})
    orders.insert([orders.row(open_sale.id, "bob", newest_entry(open_sale), 9, purchases.digest("key of bob"))])
    cancel("bob")
    buy(open_sale, "bob")

    orders.run_once("another writer", claim_after_ms=0)
    run_once(consumer_name())

    assert [order.cancelled_at is None for order in Order.objects.order_by("id")] == [False, True]
    assert store.client().xpending(store.key(open_sale.id, "orders"), store.WRITERS)["pending"] == 0
    assert drift(open_sale) == {}


def newest_entry(sale: Sale) -> str:
    return store.client().xrevrange(store.key(sale.id, "orders"), count=1)[0][0].decode()


def test_an_order_writer_of_the_release_before_can_go_on(open_sale: Sale):
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO sales_order (sale_id, order_id, user_id, purchased_at, remaining_stock, key_digest)"
            " VALUES (%s, '1-0', 'ada', '2026-01-01', 9, '')",
            [open_sale.id],
        )

    assert Order.objects.get().cancellation_due is False


# After a loss


@pytest.fixture
def to_older_copy(redis_server: RedisServer) -> Callable[[Sale], Callable[[], None]]:
    """Copy what Redis holds of a sale, and return what puts the copy in its place, in another run of the server."""

    def copy(sale: Sale) -> Callable[[], None]:
        client = store.client()
        copied = {key: client.dump(key) for key in client.keys(store.key(sale.id, "*"))}

        def put_back() -> None:
            client.delete(*client.keys(store.key(sale.id, "*")))
            for key, value in copied.items():
                client.restore(key, 0, value)
            redis_server.kill()
            redis_server.start()

        return put_back

    return copy


ToOlderCopy = Callable[[Sale], Callable[[], None]]


def confirm(sale: Sale) -> str:
    return continuity.confirm(sale.id, store.run_id_blocking())


def test_an_older_copy_gives_up_what_was_cancelled_since(sold_sale: Sale, to_older_copy: ToOlderCopy):
    put_back = to_older_copy(sold_sale)
    cancel("ada")
    cancel("bob", may_buy_again=False)
    put_back()

    assert confirm(sold_sale) == ""

    assert free(sold_sale) == 9
    assert buy(sold_sale, "ada", "bob") == ["purchased", "order_cancelled"]
    assert drift(sold_sale) == {}


def test_a_cancelled_purchase_does_not_hide_a_lost_one(sold_sale: Sale, to_older_copy: ToOlderCopy):
    put_back = to_older_copy(sold_sale)
    cancel("ada")
    buy(sold_sale, "new")
    run_once(consumer_name())
    put_back()

    reason = confirm(sold_sale)
    done = restoring.restore(sold_sale)

    assert "Redis knows of 2 purchases, SQL of 3 orders" in reason
    assert (done.purchases_found, done.purchases_restored, done.purchases_cancelled, done.orders_in_sql) == (2, 1, 0, 3)
    assert free(sold_sale) == 7
    assert buy(sold_sale, "new", "ada") == ["replayed", "purchased"]
    assert drift(sold_sale) == {}


def test_an_older_copy_with_a_replaced_order_is_not_believed(sold_sale: Sale, to_older_copy: ToOlderCopy):
    put_back = to_older_copy(sold_sale)
    cancel("ada")
    buy(sold_sale, "ada")
    run_once(consumer_name())
    put_back()

    reason = confirm(sold_sale)
    restoring.restore(sold_sale)

    assert "restore_sale" in reason
    assert asyncio.run(purchases.find(sold_sale.id, "ada")) == order_of("ada").order_id
    assert drift(sold_sale) == {}


@pytest.mark.parametrize("is_enforced", [True, False])
def test_restoring_leaves_out_what_was_cancelled(sold_sale: Sale, is_enforced: bool):
    for user_id, may_buy_again in (("ada", True), ("bob", False)):
        (cancel if is_enforced else lambda user_id, **fields: decide(order_of(user_id), **fields))(
            user_id, may_buy_again=may_buy_again
        )
    store.client().flushall()

    done = restoring.restore(sold_sale)

    assert (done.purchases_found, done.purchases_restored, done.orders_in_sql) == (0, 1, 1)
    assert free(sold_sale) == 9
    assert not Order.objects.filter(cancellation_due=True).exists()
    assert buy(sold_sale, "ada", "bob", "eve") == ["purchased", "order_cancelled", "replayed"]
    assert drift(sold_sale) == {}


def test_restoring_takes_out_what_is_cancelled_meanwhile(sold_sale: Sale, monkeypatch: pytest.MonkeyPatch):
    given = restoring._continue_stream

    def cancel_meanwhile(sale: Sale) -> None:
        given(sale)
        decide(order_of("bob"))
        with pytest.raises(publishing.Lost):
            cancelling.enforce(Sale.objects.get())

    monkeypatch.setattr(restoring, "_continue_stream", cancel_meanwhile)

    done = restoring.restore(sold_sale)

    assert (done.purchases_found, done.purchases_restored, done.purchases_cancelled) == (3, 0, 1)
    assert free(sold_sale) == 8
    assert drift(sold_sale) == {}


def test_restoring_keeps_a_reused_key_with_its_later_buyer(sold_sale: Sale, to_older_copy: ToOlderCopy):
    put_back = to_older_copy(sold_sale)
    cancel("bob")
    asyncio.run(purchases.buy(sold_sale.id, "new", "key of bob"))
    run_once(consumer_name())
    put_back()

    restoring.restore(sold_sale)

    assert asyncio.run(purchases.buy(sold_sale.id, "stranger", "key of bob")).outcome == "idempotency_key_reused"


def test_in_a_lost_sale_it_waits_for_the_restoration(sold_sale: Sale, operator: Client):
    store.client().flushall()

    page = cancelled_by(operator, order_of("bob"), "yes")
    cancelling.catch_up()

    assert "It is saved, but not in force: Redis has lost data of this sale" in page
    assert Order.objects.filter(cancellation_due=True).count() == 1
    assert store.client().keys(store.key(sold_sale.id, "*")) == []


# The audit


@pytest.fixture
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audits, "WRITER_HAS_SECONDS", 0.0)


@pytest.mark.usefixtures("no_patience")
def test_a_cancellation_missing_in_redis_is_drift_until_repaired(sold_sale: Sale):
    order = order_of("bob")
    decide(order)

    found, done = audits.audit(sold_sale), audits.repair(sold_sale)

    assert found.drift == {"cancellations_not_in_redis": [f"bob {order.order_id}"]}
    assert (found.orders, found.cancelled) == (2, 1)
    assert done == ["1 cancelled purchases taken out"]
    assert audits.audit(sold_sale).drift == {}
    assert free(sold_sale) == 8


@pytest.mark.usefixtures("no_patience")
def test_a_missing_bar_in_redis_is_drift(sold_sale: Sale):
    order = cancel("bob", may_buy_again=False)
    store.client().delete(store.key(sold_sale.id, "barred"))

    found = audits.audit(sold_sale).drift
    audits.repair(sold_sale)

    assert found == {"cancellations_not_in_redis": [f"bob {order.order_id}"]}
    assert buy(sold_sale, "bob") == ["order_cancelled"]


def test_a_cancellation_during_an_audit_is_no_drift(sold_sale: Sale, monkeypatch: pytest.MonkeyPatch):
    check_orders = audits._check_orders

    def cancel_first(*args: object) -> None:
        cancel("bob")
        check_orders(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(audits, "_check_orders", cancel_first)

    assert audits.audit(sold_sale).drift == {}


def test_a_repair_does_not_bring_a_cancelled_order_back(sold_sale: Sale):
    cancel("bob")

    assert audits.repair(sold_sale) == []
    assert free(sold_sale) == 8
    assert Order.objects.filter(cancelled_at=None).count() == 2


# What shoppers see


def test_over_http_a_cancelled_shopper_learns_the_reason(http: httpx.Client, sold_sale: Sale, seen: Callable[[], None]):
    cancel("bob", may_buy_again=False)
    seen()

    has, refusal = http.get("/api/sale/user/bob"), http.post("/api/sale/purchase", json={"userId": "bob"})
    page = http.post(f"/sales/{sold_sale.slug}/", data={"user_id": "bob"}, follow_redirects=True)

    assert has.json() == {"hasPurchased": False, "purchaseTime": None}
    assert (refusal.status_code, refusal.json()) == (
        409,
        {
            "success": False,
            "code": "order_cancelled",
            "message": "Your order was cancelled, and you cannot buy in this sale again. Ask the seller why.",
            "remainingStock": 8,
        },
    )
    assert "Your order was cancelled" in page.text


def test_the_receipt_says_that_the_order_is_cancelled(client: Client, sold_sale: Sale):
    order = cancel("bob")
    Order.objects.filter(pk=order.pk).update(cancelled_at="2026-02-14T12:34:56Z")
    address = receipts.address(sold_sale.id, order.order_id)

    page = client.get(address, {"outcome": "purchased"}).content.decode()
    in_german = client.get(address, headers={"Accept-Language": "de"}).content.decode()

    assert "<h1>This order is cancelled</h1>" in page
    assert '<time datetime="2026-02-14T12:34:56Z">February 14, 2026, 12:34 PM UTC</time>' in " ".join(page.split())
    assert "You have it!" not in page
    assert "Diese Bestellung ist storniert" in in_german


def test_a_confirmed_shopper_finds_the_valid_order_first(sold_sale: Sale):
    first = cancel("bob")
    of_the_cancelled = receipts.find_by_name(sold_sale, "bob", None)
    buy(sold_sale, "bob")
    run_once(consumer_name())
    valid = receipts.find_by_name(sold_sale, "bob", None)

    assert of_the_cancelled == (first.order_id, first.order_code)
    assert valid == (order_of("bob").order_id, order_of("bob").order_code)


# What operators do


def asked(operator: Client, order: Order) -> str:
    return html.unescape(operator.get(f"{LIST}{order.id}/cancel/").content.decode())


def cancelled_by(operator: Client, order: Order, may_buy_again: str) -> str:
    """Press the button, and return the page that the operator then reads."""
    values = {"may_buy_again": may_buy_again} if may_buy_again else {}
    return html.unescape(operator.post(f"{LIST}{order.id}/cancel/", values, follow=True).content.decode())


def test_an_operator_cancels(operator: Client, sold_sale: Sale):
    order = order_of("bob")

    question = " ".join(asked(operator, order).split())
    untouched = free(sold_sale)
    answer = cancelled_by(operator, order, "no")

    assert "bob bought it on" in question
    assert '<th scope="row">Units remaining</th> <td>7</td> <td> <strong>8</strong>' in question
    assert "May this shopper buy again in this sale?" in question
    assert untouched == 7
    assert f"Order {order.order_id} of bob is cancelled. It is in force: 2 sold, 8 remaining." in answer
    assert "; the shopper may not buy again" in answer
    assert "has the unit back in stock" in answer
    assert history(order) == ["olga: Cancel. Order: valid → cancelled; May buy again: no."]
    assert "May buy again: no." in operator.get(f"{LIST}{order.id}/history/").content.decode()


def test_the_operator_has_to_choose(operator: Client, sold_sale: Sale):
    order = order_of("bob")

    page = cancelled_by(operator, order, "")

    assert "Choose whether this shopper may buy again." in page
    assert "Units remaining" in page
    assert Order.objects.get(pk=order.pk).cancelled_at is None


def test_a_cancelled_order_cannot_be_cancelled_again(operator: Client, sold_sale: Sale):
    order = cancel("bob")

    pages = asked(operator, order), cancelled_by(operator, order, "no")

    assert all("This order is cancelled already." in page and "goes back to stock" not in page for page in pages)
    assert not any("Yes, cancel" in page for page in pages)
    assert f"{order.id}/cancel/" not in operator.get(f"{LIST}{order.id}/change/").content.decode()
    assert operator.get(f"{LIST}4711/cancel/").status_code == 404
    assert Order.objects.get(pk=order.pk).may_buy_again


def test_without_redis_it_says_so_and_takes_effect_later(operator: Client, redis_server: RedisServer, sold_sale: Sale):
    order = order_of("bob")
    redis_server.kill()
    try:
        question, answer = asked(operator, order), cancelled_by(operator, order, "yes")
    finally:
        redis_server.start()
    meanwhile = publishing.standing(sold_sale).remaining_stock
    confirm(sold_sale)

    assert "Units remaining" not in question
    assert "It is saved, but not in force: Redis cannot be reached. You need not repeat this" in answer
    assert "Redis has not taken it yet" in answer
    assert (meanwhile, free(sold_sale)) == (7, 8)
    assert drift(sold_sale) == {}


def test_the_list_shows_and_filters_the_cancelled_and_exports_when(operator: Client, sold_sale: Sale):
    order = cancel("bob")
    Order.objects.filter(pk=order.pk).update(cancelled_at="2026-02-14T12:34:56Z")

    everything = operator.get(LIST).content.decode()
    lists = {state: operator.get(LIST, {"state": state}).content.decode() for state in ("valid", "cancelled")}
    (_, row) = b"".join(operator.get(f"{LIST}export/", {"state": "cancelled"})).decode().splitlines()

    assert everything.count('data-state="cancelled"') == 1
    assert {state: ("bob" in page, "ada" in page) for state, page in lists.items()} == {
        "valid": (False, True),
        "cancelled": (True, False),
    }
    assert ",2026-02-14T12:34:56Z," in row
