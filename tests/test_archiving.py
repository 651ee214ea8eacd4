"""An archived sale: SQL has its purchases, Redis its memory back, and nobody hears anything else than before."""

import asyncio
import json
import threading
import time
from collections.abc import Callable
from datetime import timedelta

import httpx
import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.utils import timezone

from sales import (
    analytics,
    archive_mirror,
    archives,
    archiving,
    attempt_counts,
    cancelling,
    continuity,
    directory_mirror,
    live,
    order_codes,
    orders,
    preflight,
    publishing,
    purchases,
    receipts,
    restoring,
    states,
    store,
)
from sales.archiving import archive
from sales.audit import audit, repair
from sales.models import AttemptCount, Order, Quarantine, Sale, ShopperCount
from sales.orders import consumer_name, run_once
from tests.conftest import MakeSale
from tests.test_attempt_counts import tell

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def ended_sale(make_sale: MakeSale) -> Sale:
    """Of ten units three are sold, and one more is bought and cancelled; its end is over."""
    sale = make_sale()
    buy(sale, "ada", "bob", "eve", "mallory")
    run_once(consumer_name())
    cancel(sale, "mallory")
    return end(sale)


@pytest.fixture
def archived_sale(ended_sale: Sale) -> Sale:
    archive(ended_sale)
    return ended_sale


def end(sale: Sale) -> Sale:
    sale.ends_at = timezone.now() - timedelta(seconds=1)
    sale.save()
    publishing.publish(sale)
    return sale


def buy(sale: Sale, *user_ids: str) -> list[str]:
    async def all_of_them() -> list[str]:
        return [(await purchases.buy(sale.id, user_id, f"key of {user_id}")).outcome for user_id in user_ids]

    return asyncio.run(all_of_them())


def attempt(sale: Sale, user_id: str, key: str = "") -> purchases.Purchase:
    return asyncio.run(purchases.buy(sale.id, user_id, key))


def found(sale: Sale, user_id: str) -> str | None:
    return asyncio.run(purchases.find(sale.id, user_id))


def cancel(sale: Sale, user_id: str, *, may_buy_again: bool = False) -> None:
    user, _ = User.objects.get_or_create(username="otto")
    cancelling.cancel(sale.valid_orders().get(user_id=user_id), user, may_buy_again=may_buy_again)
    cancelling.enforce(sale)


def order_id(sale: Sale, user_id: str) -> str:
    return sale.orders.get(user_id=user_id).order_id


def keys(sale: Sale) -> set[str]:
    """Return the names of what Redis holds of the sale, but for what ends by itself: the limits."""
    found = {key.decode().partition(":")[2].partition(":")[2] for key in store.client().keys(f"{{sale:{sale.id}}}:*")}
    return {name for name in found if not name.startswith("ratelimit:")}


def config(sale: Sale) -> dict[str, str]:
    return publishing.standing(sale).config


# What it does


def test_redis_keeps_only_the_configuration(ended_sale: Sale):
    tell(ended_sale, 1771063530, "w", ended=2)
    store.client().pfadd(store.key(ended_sale.id, "shoppers"), "ada")

    done = archive(ended_sale)

    assert {key for key in keys(ended_sale) if not key.startswith("ratelimit")} == {"config"}
    assert (done.orders, done.cancelled, done.counts_moved) == (3, 1, 1)
    assert 0 < done.bytes_after < done.bytes_before
    standing = publishing.standing(ended_sale)
    assert (standing.sold, standing.remaining_stock, standing.is_mirrored(ended_sale)) == (3, 7, True)
    assert not ended_sale.mirror_due


def test_waiting_orders_are_written_before_archiving(open_sale: Sale):
    buy(open_sale, "ada", "bob")
    end(open_sale)

    done = archive(open_sale)

    assert (done.entries_moved, done.orders) == (2, 2)
    assert audit(open_sale).drift == {}


def test_analytics_keep_what_was_counted(ended_sale: Sale):
    tell(ended_sale, 1771063530, "w", ended=2, purchased=3)
    store.client().pfadd(store.key(ended_sale.id, "shoppers"), "ada", "bob")

    archive(ended_sale)
    attempt_counts.store_counts()

    assert AttemptCount.objects.get(sale=ended_sale).attempts == 5
    assert ShopperCount.objects.get(sale=ended_sale).about == 2
    measured = analytics.measures(ended_sale)
    assert (measured.sold, measured.cancelled, measured.attempts, measured.shoppers) == (3, 1, 5, 2)
    assert keys(ended_sale) & set(archive_mirror.FREED) == set()


def test_late_counts_put_nothing_back_into_redis(archived_sale: Sale):
    names = [store.key(archived_sale.id, name) for name in ("config", "attempts", "shoppers")]

    assert store.run_script_blocking("note_counts", names[:2], ["1 w", "{}"]) == 0
    assert store.run_script_blocking("note_shoppers", names[::2], ["ada"]) == 0


def test_archiving_again_changes_nothing(archived_sale: Sale):
    archived_at = archived_sale.archived_at

    done = archive(archived_sale)

    archived_sale.refresh_from_db()
    assert archived_sale.archived_at == archived_at
    assert (done.orders, done.bytes_before) == (3, done.bytes_after)


# What shoppers hear


def test_each_attempt_is_answered_from_sql(archived_sale: Sale):
    ada = order_id(archived_sale, "ada")

    assert attempt(archived_sale, "ada", "key of ada") == purchases.Purchase("replayed", ada, 9)
    assert attempt(archived_sale, "ada", "another key") == purchases.Purchase("already_purchased", ada, 7)
    assert attempt(archived_sale, "ada") == purchases.Purchase("already_purchased", ada, 7)
    assert attempt(archived_sale, "mallory") == purchases.Purchase("order_cancelled", "", 7)
    assert attempt(archived_sale, "new") == purchases.Purchase("ended", "", 7)


def test_lookups_are_answered_from_sql(archived_sale: Sale):
    assert found(archived_sale, "bob") == order_id(archived_sale, "bob")
    assert found(archived_sale, "mallory") is None
    assert found(archived_sale, "new") is None


def test_simultaneous_attempts_at_several_sales_get_their_own_answers(
    archived_sale: Sale, make_sale: MakeSale, open_sale: Sale
):
    other = make_sale(name="Other")
    buy(other, "ada", "zoe")
    buy(open_sale, "zoe")
    archive(end(other))
    asked = [(sale, user_id) for user_id in ("ada", "bob", "zoe") for sale in (archived_sale, other, open_sale)] * 3

    async def ask() -> list[str]:
        answers = await asyncio.gather(*(purchases.buy(sale.id, user_id) for sale, user_id in asked))
        return [answer.outcome for answer in answers]

    of_archives = [["already_purchased"] * 2, ["already_purchased", "ended"], ["ended", "already_purchased"]]
    of_open = [["purchased", "purchased", "already_purchased"], *[["already_purchased"] * 3] * 2]
    assert asyncio.run(ask()) == [
        word for turn in of_open for pair, last in zip(of_archives, turn, strict=True) for word in (*pair, last)
    ]


def test_without_sql_an_archive_answers_unavailable_in_time(archived_sale: Sale, monkeypatch: pytest.MonkeyPatch):
    def fail(*args: object) -> None:
        raise archives.DatabaseError("no SQL here")

    monkeypatch.setattr(archives, "_read_sale", fail)

    with pytest.raises(store.Unavailable, match="SQL cannot be asked"):
        attempt(archived_sale, "ada")
    with pytest.raises(store.Unavailable, match="SQL cannot be asked"):
        found(archived_sale, "ada")


def test_a_sql_that_hangs_holds_up_no_other_sale(archived_sale: Sale, open_sale: Sale, monkeypatch: pytest.MonkeyPatch):
    hangs, is_over = threading.Event(), threading.Event()

    def hang(*args: object) -> None:
        hangs.set()
        is_over.wait(60)

    monkeypatch.setattr(archives, "_read_sale", hang)

    async def ask() -> tuple[object, str]:
        while not hangs.is_set():  # a busy machine may come too late to ask SQL
            deadline = time.monotonic() + 2
            hanging = asyncio.ensure_future(purchases.buy(archived_sale.id, "ada", deadline=deadline))
            while not (hangs.is_set() or hanging.done()):
                await asyncio.sleep(0.01)
        other = await purchases.buy(open_sale.id, "ada")  # while nothing lets SQL answer
        (error,) = await asyncio.gather(hanging, return_exceptions=True)
        is_over.set()
        return error, other.outcome

    error, other = asyncio.run(ask())

    assert (type(error), other) == (store.Unavailable, "purchased")


def test_over_http_nothing_is_different(http: httpx.Client, ended_sale: Sale, seen: Callable[[], None]):
    slug = ended_sale.slug
    receipt = receipts.address(ended_sale.id, order_id(ended_sale, "ada"))

    def everything() -> list[object]:
        seen()
        seen()  # a page is shown for as long again, once it is rendered
        headers = {"Idempotency-Key": "key of ada"}
        status = http.get(f"/api/sales/{slug}/status").json()
        attempts = [
            http.post(f"/api/sales/{slug}/purchase", json={"userId": "ada"}, headers=headers),
            *(http.post(f"/api/sales/{slug}/purchase", json={"userId": name}) for name in ("bob", "mallory", "new")),
        ]
        form = {
            "sale": slug,
            "user_id": "eve",
            "order_code": order_codes.make(ended_sale.id, order_id(ended_sale, "eve")),
        }
        return [
            {name: value for name, value in status.items() if name not in ("serverTime", "pollAfterMs")},
            [(answer.status_code, answer.json(), answer.headers.get("idempotent-replayed")) for answer in attempts],
            [http.get(f"/api/sales/{slug}/user/{name}").json() for name in ("ada", "mallory", "new")],
            http.get(f"/sales/{slug}/").text,
            http.get("/sales/").text,
            http.get(receipt).text,
            http.post("/orders/find/", data=form).headers["location"],
            http.post(f"/sales/{slug}/", data={"userId": "bob"}).text,
        ]

    before = everything()

    archive(ended_sale)

    assert everything() == before
    assert http.get("/health").json()["redis"]["closed"] == {}


# What operators see


def test_it_is_shown_as_archived(archived_sale: Sale):
    assert states.state(archived_sale).word == "archived"
    assert "archived: Redis has what" in states.mirror_words(archived_sale)
    picture = live.look(archived_sale)
    assert picture.stand
    assert (picture.stand.sold, picture.stand.remaining_stock, picture.stand.drift) == (3, 7, live.Drift(0, 0, 0))


def test_the_audit_of_an_archive_asks_only_sql(archived_sale: Sale):
    result = audit(archived_sale)

    assert result.drift == {}
    assert (result.purchases, result.stream, result.orders, result.cancelled) == (3, 0, 3, 1)
    assert (result.total_stock, result.remaining_stock) == (10, 7)


@pytest.mark.parametrize(
    ("damage", "kind"),
    [
        (lambda sale: sale.valid_orders().filter(user_id="ada").delete(), "archive_differs_from_sql"),
        (lambda sale: store.client().hincrby(store.key(sale.id, "config"), "sold", 1), "archive_differs_from_sql"),
        (lambda sale: store.client().delete(store.key(sale.id, "config")), "archive_differs_from_sql"),
        (lambda sale: store.client().set(store.key(sale.id, "stock"), 5), "archive_not_freed"),
    ],
)
def test_the_audit_finds_what_is_wrong_and_repairs_it(archived_sale: Sale, damage: Callable[[Sale], None], kind: str):
    damage(archived_sale)

    assert set(audit(archived_sale).drift) == {kind}
    assert repair(archived_sale) == ["mirrored again from SQL"]
    assert audit(archived_sale).drift == {}
    assert repair(archived_sale) == []


def test_preflight_says_that_it_is_archived(archived_sale: Sale):
    findings = {finding.name: finding for finding in preflight.run(lambda: archived_sale)}

    assert "It is archived" in findings["window"].reason
    assert f"restore_sale {archived_sale.slug}" in findings["window"].remedy
    assert [findings[name].verdict for name in ("mirror", "continuity", "memory")] == ["ok"] * 3


def test_cancelling_an_archived_order_returns_its_unit_in_sql(archived_sale: Sale):
    cancel(archived_sale, "bob", may_buy_again=True)

    order = archived_sale.orders.get(user_id="bob")
    assert not order.cancellation_due
    assert (attempt(archived_sale, "bob").outcome, found(archived_sale, "bob")) == ("ended", None)
    standing = publishing.standing(archived_sale)
    assert (standing.sold, standing.remaining_stock) == (2, 8)
    assert audit(archived_sale).drift == {}


def test_restoring_gives_everything_back(archived_sale: Sale):
    cancel(archived_sale, "bob")

    restoring.restore(archived_sale)

    archived_sale.refresh_from_db()
    assert archived_sale.archived_at is None
    assert audit(archived_sale).drift == {}
    assert buy(archived_sale, "ada", "bob", "mallory", "new") == [
        *("replayed", "order_cancelled", "order_cancelled", "ended")
    ]
    archived_sale.ends_at = timezone.now() + timedelta(hours=1)
    archived_sale.save()
    publishing.publish(archived_sale)
    assert buy(archived_sale, "new", "ada") == ["purchased", "replayed"]
    run_once(consumer_name())
    assert audit(archived_sale).drift == {}


def test_a_restored_sale_can_be_archived_again(archived_sale: Sale):
    restoring.restore(archived_sale)

    archive(archived_sale)

    assert attempt(archived_sale, "ada").outcome == "already_purchased"
    assert audit(archived_sale).drift == {}


# What is refused


def test_a_sale_that_has_not_ended_is_refused(open_sale: Sale):
    with pytest.raises(archiving.Refused, match=r"This sale ends on .*\. Archive it after that"):
        archive(open_sale)

    assert buy(open_sale, "ada") == ["purchased"]


def test_an_end_that_redis_does_not_know_is_not_believed(open_sale: Sale):
    """Redis is what sells: it goes on until it has the end."""
    Sale.objects.update(ends_at=timezone.now() - timedelta(seconds=1))

    with pytest.raises(archiving.Refused, match="This sale ends on"):
        archive(open_sale)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda sale: store.client().hdel(store.key(sale.id, "purchases"), "bob"), "orders without purchase"),
        (lambda sale: store.client().incr(store.key(sale.id, "stock")), "stock and purchases"),
        (lambda sale: Sale.objects.update(total_stock=11), "total differs"),
        (
            lambda sale: Quarantine.objects.create(sale=sale, entry_id="5-1", fields={}, reason="x"),
            "entries in quarantine",
        ),
        (lambda sale: store.client().flushall(), "restore_sale"),
        (lambda sale: store.client().hset(store.key(sale.id, "config"), "closed", "run It is lost."), "It is lost"),
        (lambda sale: Sale.objects.update(epoch="another"), "Redis does not hold this sale: run"),
    ],
)
def test_any_doubt_refuses(ended_sale: Sale, damage: Callable[[Sale], None], reason: str):
    damage(ended_sale)
    before = keys(ended_sale)

    with pytest.raises(archiving.Refused, match=reason):
        archive(ended_sale)

    ended_sale.refresh_from_db()
    assert ended_sale.archived_at is None
    assert keys(ended_sale) == before


def test_a_sale_that_was_never_published_is_refused(make_sale: MakeSale):
    with pytest.raises(archiving.Refused, match="never published"):
        archive(make_sale(published=False))


def test_the_command_reports_moves_and_reasons_for_refusal(
    ended_sale: Sale, make_sale: MakeSale, capsys: pytest.CaptureFixture[str]
):
    still_open = make_sale(name="Open")

    call_command("archive_sale", ended_sale.slug)
    printed = capsys.readouterr().out
    call_command("archive_sale", ended_sale.slug, "--json")
    told = json.loads(capsys.readouterr().out)

    assert "is archived: SQL holds 3 orders, and 1 cancelled ones." in printed
    assert "memory in Redis: " in printed
    assert (told["slug"], told["orders"], told["entries_moved"]) == (ended_sale.slug, 3, 0)
    with pytest.raises(CommandError, match=r"open is not archived\. This sale ends on") as refused:
        call_command("archive_sale", still_open.slug)
    assert refused.value.returncode == 1


# A Redis that has lost it, or that is an older copy


def copy_of(sale: Sale) -> dict[bytes, bytes]:
    return {key: store.client().dump(key) for key in store.client().keys(f"{{sale:{sale.id}}}:*")}


def bring_back(copy: dict[bytes, bytes]) -> None:
    """Have Redis hold what it held then, as after a start from an older file."""
    store.client().flushall()
    for key, value in copy.items():
        store.client().restore(key, 0, value)


def test_the_order_writer_returns_a_lost_archive_to_redis(archived_sale: Sale):
    store.client().flushall()
    directory_mirror.list_all(store.run_id_blocking())

    assert "publish_sales" in states.closed_reason(archived_sale, publishing.standing(archived_sale))
    assert publishing.catch_up() == 1

    archived_sale.refresh_from_db()
    assert audit(archived_sale).drift == {}
    assert attempt(archived_sale, "ada").outcome == "already_purchased"


def test_over_http_a_redis_that_has_lost_it_is_mended(
    http: httpx.Client, archived_sale: Sale, seen: Callable[[], None]
):
    seen()
    store.client().flushall()
    seen()
    lost = http.get(f"/api/sales/{archived_sale.slug}/status")
    publishing.catch_up()
    seen()

    mended = http.get(f"/api/sales/{archived_sale.slug}/user/ada")

    assert lost.status_code in (404, 503)
    assert mended.json()["hasPurchased"]


def test_a_copy_from_before_it_was_archived_is_freed_again(ended_sale: Sale):
    copy = copy_of(ended_sale)
    archive(ended_sale)
    cancel(ended_sale, "bob")
    bring_back(copy)

    assert continuity.confirm(ended_sale.id, store.run_id_blocking()) == ""
    publishing.catch_up()

    assert audit(ended_sale).drift == {}
    assert found(ended_sale, "bob") is None


def test_a_copy_from_before_it_was_restored_is_closed(archived_sale: Sale):
    copy = copy_of(archived_sale)
    restoring.restore(archived_sale)
    archived_sale.ends_at = timezone.now() + timedelta(hours=1)
    archived_sale.save()
    publishing.publish(archived_sale)
    buy(archived_sale, "new")
    bring_back(copy)

    with pytest.raises(store.Unavailable):  # also to a worker that has not looked since
        attempt(archived_sale, "new")
    with pytest.raises(store.Unavailable):
        found(archived_sale, "new")
    assert "does not hold this publication" in continuity.confirm(archived_sale.id, store.run_id_blocking())


def test_an_archive_does_not_touch_another_publication(archived_sale: Sale):
    store.client().hset(store.key(archived_sale.id, "config"), "archived", "another")

    with pytest.raises(publishing.Lost):
        publishing.publish(archived_sale)


def test_publishing_every_sale_keeps_archives(archived_sale: Sale, open_sale: Sale):
    call_command("publish_sales")

    assert audit(archived_sale).drift == {}
    assert buy(open_sale, "ada") == ["purchased"]


# The order writer beside it


def test_the_writer_goes_on_when_a_stream_goes(ended_sale: Sale, open_sale: Sale, monkeypatch: pytest.MonkeyPatch):
    """A sale is archived while the writer waits at all streams."""
    buy(open_sale, "ada")
    original = orders._abandoned

    def archive_meanwhile(*args: object) -> object:
        found = original(*args)  # type: ignore[arg-type]
        if not Sale.objects.get(pk=ended_sale.pk).archived_at:
            archive(ended_sale)
        return found

    monkeypatch.setattr(orders, "_abandoned", archive_meanwhile)

    assert run_once(consumer_name()) == 0
    assert run_once(consumer_name(), claim_after_ms=0) == 1
    assert Order.objects.filter(sale=open_sale).count() == 1


def test_a_stream_that_lost_its_group_is_no_archive(open_sale: Sale):
    store.client().xgroup_destroy(store.key(open_sale.id, "orders"), store.WRITERS)

    with pytest.raises(store.ResponseError):
        run_once(consumer_name())
