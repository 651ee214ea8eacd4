"""What a worker has acknowledged is remembered until SQL has it, and asked for after each change of run."""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

import pytest
from django.contrib.auth import get_user_model
from django.core.management import CommandError, call_command
from django.db import DatabaseError

from flashsale.redaction import named
from sales import (
    acknowledged,
    cancelling,
    closures,
    continuity,
    health,
    invited_mirror,
    missing,
    objections,
    orders,
    publishing,
    purchases,
    receipts,
    snapshots,
    store,
    vigil,
    written,
)
from sales import audit as audits
from sales.acknowledged import Known
from sales.audit import audit
from sales.models import MissingOrder, Order, Sale
from sales.orders import consumer_name, run_once
from sales.restoring import restore
from tests.conftest import MakeSale

pytestmark = pytest.mark.django_db(transaction=True)  # SQL is asked in another thread

Result = TypeVar("Result")


@pytest.fixture
def run() -> Iterator[Callable[[Awaitable[Result]], Result]]:
    """Run one thing after the other in the loop of one worker."""
    with asyncio.Runner() as runner:

        async def awaited(wanted: Awaitable[Result]) -> Result:
            return await wanted

        def run_it(wanted: Awaitable[Result]) -> Result:
            return runner.run(awaited(wanted))

        yield run_it
        runner.run(store.close())


@pytest.fixture(autouse=True)
def _prepared(monkeypatch: pytest.MonkeyPatch) -> None:
    written.pages.clear()
    monkeypatch.setattr(audits, "WRITER_HAS_SECONDS", 0)


async def remembered(sale: Sale) -> dict[str, str]:
    return {order[0]: order_id for order_id, order in acknowledged.known(sale.id).orders.items()}


async def buy(sale: Sale, *user_ids: str) -> dict[str, str]:
    """Let shoppers buy, each with a key of their own; return their order_ids."""
    await snapshots.find(sale.slug)
    return {user_id: (await purchases.buy(sale.id, user_id, f"key of {user_id}")).order_id for user_id in user_ids}


def lose(sale: Sale, *user_ids: str) -> None:
    """Have Redis lose purchases as a failover does: another run, and no trace of them."""
    client, stream = store.client(), store.key(sale.id, "orders")
    for user_id in user_ids:
        purchase = client.hget(store.key(sale.id, "purchases"), user_id).decode()
        client.xdel(stream, purchase.partition(" ")[0])
        client.hdel(store.key(sale.id, "purchases"), user_id)
        client.srem(store.key(sale.id, "keys"), purchase.split(" ")[2])
        client.incr(store.key(sale.id, "stock"))


def change_run(monkeypatch: pytest.MonkeyPatch, run: Callable = asyncio.run) -> None:
    """Let the server be in another run, for all who ask from now on; `run` is a worker's loop."""
    from sales.store import blocking, server

    def another(run_id: str, replaced_id: str) -> str:
        return f"another-{run_id}"

    monkeypatch.setattr(blocking, "name_run", another)
    monkeypatch.setattr(server, "name_run", another)
    run(store.close())  # its connections would believe in the earlier one for a second


@pytest.mark.parametrize("again", ["", "key of ada", "another key"])
def test_every_answer_that_carries_an_order_is_remembered(run: Callable, open_sale: Sale, again: str):
    asyncio.run(purchases.buy(open_sale.id, "ada", "key of ada"))  # by another worker

    async def ask() -> tuple[str, dict[str, str]]:
        await snapshots.find(open_sale.slug)
        if not again:
            order_id = await purchases.find(open_sale.id, "ada")
        else:
            order_id = (await purchases.buy(open_sale.id, "ada", again)).order_id
        return order_id or "", await remembered(open_sale)

    order_id, held = run(ask())

    assert held == {"ada": order_id}


def test_a_receipt_that_is_shown_is_remembered(run: Callable, open_sale: Sale):
    order_id = asyncio.run(purchases.buy(open_sale.id, "ada")).order_id

    async def show() -> list[dict[str, str]]:
        found = []
        for look in (
            lambda: receipts.find(open_sale.id, order_id),
            lambda: receipts.find_by_name(open_sale, "ada", None),
        ):
            await asyncio.to_thread(look)
            await vigil.compare()
            found.append(await remembered(open_sale))
            acknowledged.forget(open_sale.id, [(order_id, "ada")])
        return found

    assert run(show()) == [{"ada": order_id}] * 2


def test_only_orders_in_sql_are_forgotten(run: Callable, open_sale: Sale):
    run(buy(open_sale, "ada", "bob"))
    run_once(consumer_name())
    bought = run(buy(open_sale, "eve"))

    run(vigil.forget())

    assert run(remembered(open_sale)) == bought


def test_orders_that_wait_do_not_hide_those_behind_them(
    run: Callable, make_sale: MakeSale, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(vigil, "AT_ONCE", 2)
    sale = make_sale()
    bought = run(buy(sale, "ada", "bob", "cleo", "dora", "eve"))
    run_once(consumer_name())
    Order.objects.filter(user_id__in=("ada", "bob")).delete()

    run(vigil.forget())
    run(vigil.forget())

    assert run(remembered(sale)) == {name: bought[name] for name in ("ada", "bob")}


def test_another_shoppers_row_does_not_count_as_the_order(run: Callable, open_sale: Sale):
    bought = run(buy(open_sale, "ada"))
    orders.row(open_sale.id, "stranger", bought["ada"], 1, "").save()

    run(vigil.forget())

    assert run(remembered(open_sale)) == bought


def test_a_rehearsal_that_is_over_is_forgotten(run: Callable, open_sale: Sale):
    run(buy(open_sale, "ada"))
    Sale.objects.all().delete()

    run(vigil.forget())

    assert run(remembered(open_sale)) == {}


def test_while_sql_is_away_all_is_remembered(run: Callable, open_sale: Sale, monkeypatch: pytest.MonkeyPatch):
    bought = run(buy(open_sale, "ada"))
    run_once(consumer_name())

    def away(*args: object) -> None:
        raise DatabaseError("SQL is away")

    monkeypatch.setattr(missing, "in_sql", away)
    run(vigil.forget())

    assert run(remembered(open_sale)) == bought


def test_a_full_memory_is_degraded_and_still_sells(run: Callable, open_sale: Sale, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(acknowledged, "MOST_ORDERS", 2)

    bought = run(buy(open_sale, "ada", "bob", "eve"))
    run(vigil.compare())
    told_by_another_worker = health.writer_blocking()
    run_once(consumer_name())
    run(vigil.forget())
    store.client().delete(store.FORGETFUL)

    assert all(bought.values())
    assert told_by_another_worker["status"] == "degraded"
    assert "remembers 2 purchases" in told_by_another_worker["reason"]
    assert run(remembered(open_sale)) == {}
    assert health.writer_blocking()["status"] == "ok"


def test_a_loss_closes_the_sale_and_names_its_orders(
    run: Callable, open_sale: Sale, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    bought = run(buy(open_sale, "ada", "bob", "eve"))
    lose(open_sale, "ada", "bob")
    change_run(monkeypatch, run)

    run(vigil.compare())

    closed = publishing.standing(open_sale).config["closed"]
    assert closed.endswith(
        f"Acknowledged purchases that neither Redis nor SQL has: 2. Run manage.py restore_sale {open_sale.slug}"
    )
    assert dict(open_sale.missing_orders.values_list("user_id", "order_id")) == {n: bought[n] for n in ("ada", "bob")}
    assert set(audit(open_sale).drift) >= {"acknowledged_purchases_missing"}
    assert missing.told()["missing"] == {open_sale.slug: 2}
    (line,) = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert all(f"{bought[name]} {named(name)}" in line for name in ("ada", "bob"))
    assert " ada" not in line


@pytest.mark.parametrize("may_buy_again", [True, False])
def test_a_cancelled_order_is_not_lost(
    run: Callable, open_sale: Sale, monkeypatch: pytest.MonkeyPatch, may_buy_again: bool
):
    run(buy(open_sale, "ada", "bob"))
    run_once(consumer_name())
    operator = get_user_model().objects.create_superuser("olga")
    cancelling.cancel(Order.objects.get(user_id="ada"), operator, may_buy_again=may_buy_again)
    cancelling.enforce(open_sale)
    change_run(monkeypatch, run)

    run(vigil.compare())

    assert run(snapshots.find(open_sale.slug))
    assert not MissingOrder.objects.exists()


def test_a_worker_objects_after_another_found_the_sale_whole(
    run: Callable, open_sale: Sale, monkeypatch: pytest.MonkeyPatch
):
    run(buy(open_sale, "ada"))
    lose(open_sale, "ada")
    change_run(monkeypatch, run)
    assert continuity.confirm(open_sale.id, store.run_id_blocking()) == ""  # by a worker that knows nothing

    run(vigil.compare())

    assert publishing.standing(open_sale).config["closed"]


def test_a_sale_closed_by_another_worker_names_both_workers_losses(
    run: Callable, open_sale: Sale, monkeypatch: pytest.MonkeyPatch
):
    bought = run(buy(open_sale, "ada"))
    lose(open_sale, "ada")
    change_run(monkeypatch, run)
    assert continuity.confirm(open_sale.id, store.run_id_blocking(), {"1-1": ("eve", 0, "")})

    run(vigil.compare())

    named_orders = dict(open_sale.missing_orders.values_list("user_id", "order_id"))
    assert named_orders == {"eve": "1-1", "ada": bought["ada"]}


def test_a_restoration_settles_nothing_that_a_worker_still_knows(
    run: Callable, open_sale: Sale, monkeypatch: pytest.MonkeyPatch
):
    bought = run(buy(open_sale, "ada"))
    lose(open_sale, "ada")
    change_run(monkeypatch, run)
    restore(open_sale)  # before this worker has been heard

    run(vigil.compare())
    done = restore(open_sale)
    run(vigil.compare())

    assert (done.taken_in, done.left_over) == (1, 0)
    assert run(snapshots.find(open_sale.slug))
    assert run(buy(open_sale, "ada")) == bought
    assert audit(open_sale).drift == {}


def test_a_late_answer_of_an_earlier_run_is_compared(run: Callable, open_sale: Sale):
    async def answer_late() -> bool:
        await snapshots.find(open_sale.slug)
        known = acknowledged.known(open_sale.id)
        acknowledged.remember(open_sale.id, "an earlier run", {"1-1": ("ada", 0, "")})
        return known.is_held_by(open_sale.epoch, store.run_id_blocking())

    is_held = run(answer_late())
    run(vigil.compare())

    assert is_held is False
    assert MissingOrder.objects.get().user_id == "ada"


def test_an_answer_during_a_comparison_is_compared_too(run: Callable, open_sale: Sale, monkeypatch: pytest.MonkeyPatch):
    async def answer_meanwhile() -> Known:
        known = acknowledged.known(open_sale.id)
        acknowledged.remember(open_sale.id, "an earlier run", {})
        compare, loop = continuity.compare, asyncio.get_running_loop()

        def slow(*args: Any) -> dict[int, str]:
            loop.call_soon_threadsafe(acknowledged.remember, open_sale.id, "an earlier run", {"1-1": ("ada", 0, "")})
            return compare(*args)

        monkeypatch.setattr(continuity, "compare", slow)
        (reply,) = await closures.ask([open_sale.id])
        await closures.reason(open_sale.id, reply)
        return known

    known = run(answer_meanwhile())

    assert not known.is_held_by(open_sale.epoch, store.run_id_blocking())


def test_a_look_up_in_a_new_run_hides_no_loss(run: Callable, open_sale: Sale):
    """Another worker has opened the new run; this one meets it by a shopper's question first."""

    async def look_up_first() -> None:
        await snapshots.find(open_sale.slug)
        bought = await purchases.buy(open_sale.id, "eve")
        known = acknowledged.known(open_sale.id)
        known.run_id, known.answers = "an earlier run", Counter({"an earlier run": 1})
        known.orders["1-1"] = ("ada", 0, "")
        assert await purchases.find(open_sale.id, "eve") == bought.order_id
        assert not known.is_held_by(open_sale.epoch, store.run_id_blocking())
        await vigil.compare()

    run(look_up_first())

    assert MissingOrder.objects.get().user_id == "ada"


def test_lost_purchases_are_restored_oldest_first(make_sale: MakeSale, capsys: pytest.CaptureFixture[str]):
    sale = make_sale(stock=2)
    acked = {
        "1700000000000-10": ("new", 0, ""),
        "1700000000000-9": ("old", 1, "0" * 24),
        "1600000000000-0": ("first", 1, ""),
    }
    assert continuity.confirm(sale.id, store.run_id_blocking(), acked)

    with pytest.raises(CommandError, match="1 shoppers were told") as error:
        call_command("restore_sale", sale.slug)

    assert error.value.returncode == 3
    assert "1700000000000-10 new: No unit was left." in capsys.readouterr().out
    rows = list(sale.orders.order_by("id").values_list("user_id", "order_id", "remaining_stock", "key_digest"))
    assert rows == [("first", "1600000000000-0", 1, ""), ("old", "1700000000000-9", 1, "0" * 24)]
    assert Order.objects.get(user_id="old").purchased_at.timestamp() == 1_700_000_000
    assert publishing.standing(sale).remaining_stock == 0
    assert store.client().sismember(store.key(sale.id, "keys"), "0" * 24)


def test_a_purchase_of_a_shopper_with_another_order_is_settled(open_sale: Sale):
    bought = asyncio.run(purchases.buy(open_sale.id, "ada")).order_id

    assert continuity.confirm(open_sale.id, store.run_id_blocking(), {"1-1": ("ada", 0, "")}) == ""

    lost = MissingOrder.objects.get()
    assert (lost.state, lost.note) == ("settled", f"The shopper has order {bought}.")


def test_a_barred_shopper_gets_no_unit_back(make_sale: MakeSale):
    sale = make_sale()
    asyncio.run(purchases.buy(sale.id, "ada"))
    run_once(consumer_name())
    operator = get_user_model().objects.create_superuser("olga")
    cancelling.cancel(Order.objects.get(), operator, may_buy_again=False)
    cancelling.enforce(sale)

    assert continuity.confirm(sale.id, store.run_id_blocking(), {"1-1": ("ada", 0, "")}) == ""

    assert MissingOrder.objects.get().state == "settled"


def test_an_order_id_that_another_shopper_has_is_left_over(open_sale: Sale):
    assert continuity.confirm(open_sale.id, store.run_id_blocking(), {"1-1": ("ada", 0, "")})
    orders.row(open_sale.id, "eve", "1-1", 1, "").save()

    done = restore(open_sale)

    assert (done.taken_in, done.left_over) == (0, 1)
    assert MissingOrder.objects.get().note == "Another shopper's order has this order_id."


def test_an_order_that_reaches_sql_later_is_not_restored_twice(open_sale: Sale):
    assert continuity.confirm(open_sale.id, store.run_id_blocking(), {"1-1": ("ada", 0, "")})
    orders.row(open_sale.id, "ada", "1-1", 1, "").save()

    done = restore(open_sale)

    assert (done.taken_in, done.left_over, done.remaining_stock) == (0, 0, 9)
    assert MissingOrder.objects.get().note == "SQL had it after all."


def test_two_workers_name_a_loss_once(open_sale: Sale):
    for _ in range(2):
        assert continuity.confirm(open_sale.id, store.run_id_blocking(), {"1-1": ("ada", 0, "")})

    assert MissingOrder.objects.count() == 1


def test_the_writer_closes_a_sale_for_a_recorded_loss(open_sale: Sale):
    """As when its finder was killed after SQL had it."""
    MissingOrder.objects.create(sale=open_sale, order_id="1-1", user_id="ada", remaining_stock=0)

    objections.raise_all()

    assert "neither Redis nor SQL has: 1." in publishing.standing(open_sale).config["closed"]
    restore(open_sale)
    objections.raise_all()
    assert "closed" not in publishing.standing(open_sale).config


def test_the_writer_rechecks_its_orders_after_a_change_of_run(open_sale: Sale, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(continuity, "COMPARED_ORDERS", 0)
    bought = asyncio.run(buy(open_sale, "ada", "bob", "eve"))
    run_once(consumer_name())
    operator = get_user_model().objects.create_superuser("olga")
    cancelling.cancel(Order.objects.get(user_id="bob"), operator, may_buy_again=True)
    cancelling.enforce(open_sale)
    objections.raise_all()
    in_one_run = publishing.standing(open_sale).config.get("closed")
    lose(open_sale, "ada")
    change_run(monkeypatch)

    objections.raise_all()

    assert in_one_run is None
    assert "Orders of SQL that Redis does not have: 1." in publishing.standing(open_sale).config["closed"]
    assert {page.run_id for page in written.pages} == {store.run_id_blocking()}
    restore(open_sale)
    assert run_once(consumer_name()) == 0
    assert asyncio.run(purchases.find(open_sale.id, "ada")) == bought["ada"]


@pytest.mark.pure
def test_a_writer_remembers_only_the_newest_orders(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(written, "MOST_ORDERS", 4)
    monkeypatch.setattr(written, "LARGEST_PAGE", 2)

    for number in range(7):
        written.note(1, "run", [(f"{number}-0", "ada")])

    assert [order_id for page in written.pages for order_id, _ in page.orders] == ["4-0", "5-0", "6-0"]


def name_lost(sale: Sale, user_id: str) -> None:
    MissingOrder.objects.create(sale=sale, order_id="1-1", user_id=user_id, remaining_stock=0)


def test_a_restoration_takes_in_what_is_found_meanwhile(open_sale: Sale, monkeypatch: pytest.MonkeyPatch):
    take_in, looks = missing.take_in, [lambda: None, lambda: name_lost(open_sale, "ada")]

    def then_name(sale: Sale) -> list[Order]:
        taken = take_in(sale)
        if looks:
            looks.pop()()
        return taken

    monkeypatch.setattr(missing, "take_in", then_name)

    done = restore(open_sale)

    assert (done.taken_in, done.left_over, done.found_since) == (1, 0, 0)
    assert asyncio.run(purchases.find(open_sale.id, "ada")) == "1-1"


def test_a_restoration_tells_what_is_lost_at_its_end(open_sale: Sale, monkeypatch: pytest.MonkeyPatch):
    follow = invited_mirror.follow

    def name_first(*args: Any, **options: Any) -> None:
        name_lost(open_sale, "ada")
        follow(*args, **options)

    with monkeypatch.context() as patched:
        patched.setattr(invited_mirror, "follow", name_first)
        with pytest.raises(CommandError, match="closed again: meanwhile 1 more acknowledged purchases were") as error:
            call_command("restore_sale", open_sale.slug)
    call_command("restore_sale", open_sale.slug)

    assert error.value.returncode == 1
    assert asyncio.run(purchases.find(open_sale.id, "ada")) == "1-1"
