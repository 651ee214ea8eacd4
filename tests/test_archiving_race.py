"""Archiving that is killed half way, and what others do to the sale meanwhile: at no moment is an answer wrong."""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from importlib import import_module
from typing import Any

import httpx
import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.utils import timezone

from sales import archive_mirror, archiving, attempt_counts, cancelling, orders, publishing, purchases, restoring, store
from sales.archiving import archive
from sales.audit import audit
from sales.desk import mirroring, steps
from sales.models import Sale
from sales.orders import consumer_name, run_once
from tests.conftest import MakeSale
from tests.servers import WebServer

pytestmark = pytest.mark.django_db(transaction=True)

BUYERS = ["ada", "bob", "eve"]
ROUNDS = 8


class Killed(BaseException):
    """Stands for SIGKILL: nothing in the code under test catches it."""


@pytest.fixture
def olga(transactional_db: None) -> User:
    return User.objects.create_superuser("olga")


@pytest.fixture
def ended_sale(make_sale: MakeSale) -> Sale:
    """Three units of ten are sold, and none of the orders is written yet."""
    return ended(make_sale())


def ended(sale: Sale) -> Sale:
    assert {outcome for outcome, _ in answers(sale)} == {"purchased"}
    sale.ends_at = timezone.now() - timedelta(seconds=1)
    sale.save()
    publishing.publish(sale)
    return sale


def answers(sale: Sale) -> list[tuple[str, str]]:
    """Return what each buyer hears who attempts once more."""

    async def all_of_them() -> list[purchases.Purchase]:
        return [await purchases.buy(sale.id, user_id) for user_id in BUYERS]

    return [(answer.outcome, answer.order_id) for answer in asyncio.run(all_of_them())]


def lookups(sale: Sale) -> list[str | None]:
    async def all_of_them() -> list[str | None]:
        return [await purchases.find(sale.id, user_id) for user_id in BUYERS]

    return asyncio.run(all_of_them())


def free(sale: Sale) -> set[str]:
    return set(archive_mirror.FREED) - set(archive_mirror.left(sale))


# Killed


def die_after(target: Any, name: str, call: int = 1) -> Iterator[None]:
    """Kill whoever calls a function for that time, once it has done its work."""
    original, calls = getattr(target, name), 0

    def do_and_die(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        result = original(*args, **kwargs)
        if calls == call:
            raise Killed
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(target, name, do_and_die)
        yield


STEPS = {
    "the orders are written": (orders, "drain", 1),
    "the counts are moved": (attempt_counts, "store_all_of", 1),
    "everything is compared": (archiving, "_prove", 1),
    "cancellations are enforced": (cancelling, "enforce_all", 1),
    "SQL is told, but not committed": (Sale, "save", 1),
    "SQL has it": (archiving, "_note_in_sql", 1),
    "the last counts are moved": (attempt_counts, "store_all_of", 2),
    "Redis let go, and SQL does not know": (archive_mirror, "write", 1),
    "Redis let go, and SQL knows": (publishing, "publish", 1),
    "the memory is free": (archive_mirror, "empty", 1),
    "all is done": (publishing, "publish_archive", 1),
}
BEFORE_SQL_HAS_IT = list(STEPS)[:5]
OFTEN_TESTED = {"SQL is told, but not committed", "SQL has it", "Redis let go, and SQL does not know"}


@pytest.mark.parametrize(
    "step", [pytest.param(step, marks=[] if step in OFTEN_TESTED else pytest.mark.long) for step in STEPS]
)
def test_killed_anywhere_every_answer_is_right_and_it_ends_right(ended_sale: Sale, step: str):
    told, known = answers(ended_sale), lookups(ended_sale)

    for _ in die_after(*STEPS[step]):
        with pytest.raises(Killed):
            archive(ended_sale)

    assert (answers(ended_sale), lookups(ended_sale)) == (told, known)
    run_once(consumer_name(), claim_after_ms=0)
    publishing.catch_up()
    cancelling.catch_up()
    ended_sale.refresh_from_db()
    assert (ended_sale.archived_at is None) == (step in BEFORE_SQL_HAS_IT)
    assert (answers(ended_sale), lookups(ended_sale)) == (told, known)
    assert audit(ended_sale).drift == {}
    archive(ended_sale)
    assert (answers(ended_sale), lookups(ended_sale)) == (told, known)
    assert audit(ended_sale).drift == {}


@pytest.mark.long
@pytest.mark.parametrize("function", ["_take_out_cancelled", "_give", "_continue_stream", "_reopen"])
def test_a_restoration_that_is_killed_loses_nothing(ended_sale: Sale, function: str):
    told = answers(ended_sale)
    archive(ended_sale)

    for _ in die_after(restoring, function):
        with pytest.raises(Killed):
            restoring.restore(ended_sale)
    publishing.catch_up()
    try:
        half_way = answers(ended_sale)
    except store.Unavailable:
        half_way = told
    restoring.restore(ended_sale)

    ended_sale.refresh_from_db()
    assert half_way == told == answers(ended_sale)
    assert ended_sale.archived_at is None
    assert audit(ended_sale).drift == {}


def test_mirroring_during_a_restoration_frees_nothing(ended_sale: Sale, monkeypatch: pytest.MonkeyPatch):
    archive(ended_sale)
    original = restoring._continue_stream

    def mirror_meanwhile(sale: Sale) -> None:
        with pytest.raises(publishing.Lost):
            publishing.publish(Sale.objects.get(pk=sale.pk))
        original(sale)

    monkeypatch.setattr(restoring, "_continue_stream", mirror_meanwhile)

    restoring.restore(ended_sale)

    assert audit(ended_sale).drift == {}
    assert [outcome for outcome, _ in answers(ended_sale)] == ["already_purchased"] * 3


# A successor whose clock is behind


@pytest.fixture
def sold_meanwhile(ended_sale: Sale, monkeypatch: pytest.MonkeyPatch) -> None:
    """One more unit is bought after SQL has noted that the sale is archived, and before Redis lets go."""
    original = archive_mirror.write

    def buy_before(sale: Sale) -> bytes:
        if not orders_of("new") and store.client().hexists(store.key(sale.id, "config"), "epoch"):
            later = int(store.client().hget(store.key(sale.id, "config"), "ends_ms")) + 3_600_000
            store.client().hset(store.key(sale.id, "config"), "ends_ms", later)
            outcome = asyncio.run(purchases.buy(sale.id, "new")).outcome
            assert outcome in ("purchased", "already_purchased")
        return original(sale)

    def orders_of(user_id: str) -> bool:
        return ended_sale.orders.filter(user_id=user_id).exists()

    monkeypatch.setattr(archive_mirror, "write", buy_before)


def test_a_late_purchase_becomes_an_order_before_redis_forgets_it(ended_sale: Sale, sold_meanwhile: None):
    done = archive(ended_sale)

    assert (done.orders, done.entries_moved) == (4, 4)
    assert ended_sale.orders.filter(user_id="new").exists()
    assert audit(ended_sale).drift == {}


def test_the_order_writer_finishes_an_archive_that_is_behind(ended_sale: Sale, sold_meanwhile: None):
    for _ in die_after(archiving, "_note_in_sql"):
        with pytest.raises(Killed):
            archive(ended_sale)

    assert publishing.catch_up() == 0
    bought = lookups(ended_sale)
    assert run_once(consumer_name()) == 1
    while publishing.catch_up():
        pass

    ended_sale.refresh_from_db()
    assert ended_sale.orders.filter(user_id="new").exists()
    assert lookups(ended_sale) == bought
    assert (audit(ended_sale).drift, ended_sale.mirror_due) == ({}, False)


def test_a_cancellation_meanwhile_is_no_missing_order(ended_sale: Sale, olga: User, monkeypatch: pytest.MonkeyPatch):
    original = archiving._note_in_sql

    def cancel_after(*args: Any) -> None:
        original(*args)
        cancelling.cancel(ended_sale.orders.get(user_id="bob"), olga, may_buy_again=False)

    monkeypatch.setattr(archiving, "_note_in_sql", cancel_after)

    assert archive(ended_sale).orders == 2
    assert audit(ended_sale).drift == {}


# Others at the same time


def in_threads(*calls: Callable[[], object]) -> list[object]:
    """Do all of it at once, and return what came of each: a result or what was raised."""
    barrier = threading.Barrier(len(calls))

    def run(call: Callable[[], object]) -> object:
        barrier.wait()
        try:
            return call()
        except Exception as error:
            return error
        finally:
            connection.close()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


def archive_anew(sale: Sale) -> archiving.Archive:
    return archive(Sale.objects.get(pk=sale.pk))


@pytest.mark.long
def test_answers_stay_right_during_archiving_and_restoring(
    server: WebServer, ended_sale: Sale, seen: Callable[[], None]
):
    orders_then = dict(zip(BUYERS, lookups(ended_sale), strict=True))
    seen()
    is_over, heard, wrong = threading.Event(), Counter[str](), []

    def ask(name: str) -> None:
        path = f"/api/sales/{ended_sale.slug}"
        with httpx.Client(base_url=server.url) as client:
            while not is_over.is_set():
                attempt = client.post(f"{path}/purchase", json={"userId": name}).json()
                lookup = client.get(f"{path}/user/{name}").json()
                heard[attempt["code"]] += 1
                if attempt["code"] not in ("unavailable", "rate_limited") and not (
                    attempt["code"] == "already_purchased" and attempt["orderId"] == orders_then[name]
                ):
                    wrong.append(attempt)
                if lookup.get("code") != "unavailable" and lookup.get("hasPurchased") is not True:
                    wrong.append(lookup)
                time.sleep(0.005)

    threads = [threading.Thread(target=ask, args=(name,)) for name in BUYERS]
    for thread in threads:
        thread.start()
    for _ in range(ROUNDS):
        archive(ended_sale)
        time.sleep(0.3)
        restoring.restore(Sale.objects.get(pk=ended_sale.pk))
        time.sleep(0.3)
        ended_sale.refresh_from_db()
    is_over.set()
    for thread in threads:
        thread.join()

    assert wrong == []
    assert heard["already_purchased"] > 0
    assert audit(ended_sale).drift == {}


def test_a_sale_that_sold_during_the_comparison_is_not_archived(ended_sale: Sale, monkeypatch: pytest.MonkeyPatch):
    original = archiving._prove

    def sell_meanwhile(sale: Sale) -> None:
        original(sale)
        Sale.objects.update(ends_at=timezone.now() + timedelta(hours=1))
        publishing.publish(Sale.objects.get(pk=sale.pk))
        asyncio.run(purchases.buy(sale.id, "new"))
        Sale.objects.update(ends_at=timezone.now() - timedelta(seconds=1))
        publishing.publish(Sale.objects.get(pk=sale.pk))

    with monkeypatch.context() as patch:
        patch.setattr(archiving, "_prove", sell_meanwhile)
        with pytest.raises(archiving.Refused, match="changed meanwhile"):
            archive(ended_sale)

    assert archive(ended_sale).orders == 4
    assert audit(ended_sale).drift == {}


@pytest.mark.long
def test_of_extending_and_archiving_one_wins(make_sale: MakeSale, olga: User):
    won = Counter[str]()
    for number in range(ROUNDS):
        sale = ended(make_sale(name=f"Widget {number}"))
        run_once(consumer_name())

        def extend(sale_id: int = sale.id) -> None:
            extended = Sale.objects.get(pk=sale_id)
            steps.take(extended, steps.STEPS["extend"], {"minutes": 5}, olga)
            mirroring.mirror(extended)

        archived, extended = in_threads(partial(archive_anew, sale), extend)

        sale.refresh_from_db()
        if sale.archived_at:
            assert isinstance(extended, steps.Refused)
            assert sale.ends_at < timezone.now()
        else:
            assert isinstance(archived, archiving.Refused)
            assert asyncio.run(purchases.buy(sale.id, "new")).outcome == "purchased"
            run_once(consumer_name())
        assert audit(sale).drift == {}
        won["archived" if sale.archived_at else "extended"] += 1
    assert won.total() == ROUNDS


@pytest.mark.long
def test_an_order_that_is_cancelled_meanwhile_is_counted_once(make_sale: MakeSale, olga: User):
    for number in range(ROUNDS):
        sale = ended(make_sale(name=f"Widget {number}"))
        run_once(consumer_name())

        def cancel(sale_id: int = sale.id) -> None:
            order = Sale.objects.get(pk=sale_id).orders.get(user_id="bob")
            cancelling.cancel(order, olga, may_buy_again=False)
            cancelling.enforce(order.sale)

        archived, cancelled = in_threads(partial(archive_anew, sale), cancel)

        assert cancelled is None
        if isinstance(archived, archiving.Refused):
            archive(sale)
        publishing.catch_up()
        cancelling.catch_up()
        sale.refresh_from_db()
        standing = publishing.standing(sale)
        assert (standing.sold, standing.remaining_stock) == (2, 8)
        assert [outcome for outcome, _ in answers(sale)] == [
            "already_purchased",
            "order_cancelled",
            "already_purchased",
        ]
        assert audit(sale).drift == {}


def test_two_simultaneous_archives_both_succeed(ended_sale: Sale):
    results = in_threads(*[partial(archive_anew, ended_sale)] * 2)

    assert [type(result) for result in results] == [archiving.Archive] * 2
    assert audit(ended_sale).drift == {}


OVERTAKEN_AT = [
    "sales.archive_mirror.held_bytes",
    "sales.orders._undone",
    "sales.archiving._refuse_unless_whole",
    "sales.cancelling.enforce",
    "sales.archiving.audit",
    "sales.audit._newest_entry",
    "sales.audit._purchases",
    "sales.audit._stream",
    "sales.archiving._note_in_sql",
]


@pytest.mark.long
@pytest.mark.parametrize("step", OVERTAKEN_AT)
def test_an_archive_overtaken_at_any_step_still_succeeds(ended_sale: Sale, monkeypatch: pytest.MonkeyPatch, step: str):
    module, _, name = step.rpartition(".")
    real = getattr(import_module(module), name)
    overtaken: list[str] = []

    def overtaken_step(*args: object, **options: object) -> object:
        if not overtaken:
            overtaken.append(step)
            archive_anew(ended_sale)
        return real(*args, **options)

    monkeypatch.setattr(step, overtaken_step)

    archived = archive_anew(ended_sale)

    assert overtaken == [step]
    assert archived.orders == ended_sale.valid_orders().count()
    assert audit(ended_sale).drift == {}


def test_control_letting_go_before_sql_has_it_is_noticed(ended_sale: Sale):
    """The same answers, over a twin that frees Redis before the orders are written."""
    told = answers(ended_sale)
    Sale.objects.update(archived_at=timezone.now())
    ended_sale.refresh_from_db()

    config = {"published": 1, "total_stock": ended_sale.total_stock}
    words = (word for pair in config.items() for word in pair)
    args = [ended_sale.epoch, store.run_id_blocking(), len(archive_mirror.LARGE), len(BUYERS), *words]
    store.run_script_blocking("archive", archive_mirror._keys(ended_sale), args)

    assert answers(ended_sale) != told
