"""After each start of Redis: nothing is sold until it was compared with SQL, and nothing at all when it lost data."""

import asyncio
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from django.conf import settings
from django.core.management import call_command

from sales import continuity, orders, publishing, purchases, restoring, snapshots, states, store
from sales import health as health_checks
from sales.audit import audit
from sales.models import Order, Sale
from sales.order_ids import position
from sales.orders import consumer_name, run_once
from sales.restoring import restore
from tests.conftest import MakeSale
from tests.servers import RedisServer, WebServer

pytestmark = pytest.mark.django_db


def buy(sale: Sale, *user_ids: str) -> list[str]:
    async def all_of_them() -> list[str]:
        return [(await purchases.buy(sale.id, user_id, f"key of {user_id}")).outcome for user_id in user_ids]

    return asyncio.run(all_of_them())


def confirm(sale: Sale, acknowledged: dict[str, str] | None = None) -> str:
    """Compare the sale, as a worker that has acknowledged these orders: each an order_id and its shopper."""
    orders = {order_id: (user_id, 0, "") for order_id, user_id in (acknowledged or {}).items()}
    return continuity.confirm(sale.id, store.run_id_blocking(), orders)


@pytest.fixture
def sold_sale(open_sale: Sale) -> Sale:
    buy(open_sale, "ada", "bob", "eve")
    run_once(consumer_name())
    return open_sale


@pytest.fixture
def restarted(redis_server: RedisServer) -> Callable[[], None]:
    def restart() -> None:
        redis_server.kill()
        redis_server.start()

    return restart


def test_after_a_restart_nothing_is_sold_until_redis_was_compared(sold_sale: Sale, restarted: Callable[[], None]):
    restarted()

    with pytest.raises(store.Unavailable, match="UNCHECKED"):
        buy(sold_sale, "new")
    assert confirm(sold_sale) == ""
    assert buy(sold_sale, "new", "ada") == ["purchased", "replayed"]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda sale: store.client().flushall(), "does not hold this publication"),
        (lambda sale: Sale.objects.update(epoch="another"), "does not hold this publication"),
        (lambda sale: store.client().hdel(store.key(sale.id, "purchases"), "bob"), "knows of 2 purchases, SQL of 3"),
        (
            lambda sale: store.client().hset(store.key(sale.id, "purchases"), "bob", "1-1 5 "),
            "does not know 1 of the newest orders",
        ),
        (lambda sale: store.client().delete(store.key(sale.id, "orders")), "The stream ends at 0-0, before order"),
    ],
)
def test_a_redis_that_lost_data_closes_the_sale(
    sold_sale: Sale, damage: Callable[[Sale], None], reason: str, restarted: Callable[[], None]
):
    damage(sold_sale)
    restarted()

    assert reason in confirm(sold_sale)

    assert f"restore_sale {sold_sale.slug}" in confirm(sold_sale)
    with pytest.raises(store.Unavailable, match=r"CLOSED|NOTMIRRORED"):
        buy(sold_sale, "new")
    assert states.state(sold_sale).word == "closed"


def test_a_complete_older_copy_gets_the_configuration_from_sql(sold_sale: Sale, restarted: Callable[[], None]):
    Sale.objects.update(total_stock=4, paused=True)  # published, but not to this copy
    restarted()

    assert confirm(sold_sale) == ""

    sold_sale.refresh_from_db()
    standing = publishing.standing(sold_sale)
    assert (standing.is_mirrored(sold_sale), standing.remaining_stock) == (True, 1)
    assert buy(sold_sale, "new") == ["paused"]


def test_a_total_below_the_units_sold_keeps_the_sale_open(sold_sale: Sale, restarted: Callable[[], None]):
    Sale.objects.update(total_stock=2)
    restarted()

    assert confirm(sold_sale) == ""
    assert buy(sold_sale, "new") == ["purchased"]


@pytest.mark.django_db(transaction=True)
def test_over_http_a_sale_missing_from_older_data_is_closed(
    server: WebServer, open_sale: Sale, restarted: Callable[[], None], seen: Callable[[], None]
):
    store.client().hdel(store.DIRECTORY, open_sale.slug)
    store.client().hset(store.DIRECTORY, "an-older-address", f"{open_sale.id} 0 1")
    store.client().delete(store.key(open_sale.id, "config"))
    restarted()
    seen()

    assert httpx.get(f"{server.url}/api/sales/{open_sale.slug}/status").status_code == 503
    assert httpx.get(f"{server.url}/api/sales/an-older-address/status").status_code == 404


@pytest.mark.django_db(transaction=True)
def test_over_http_a_health_check_opens_a_restarted_sale(
    server: WebServer, open_sale: Sale, restarted: Callable[[], None], seen: Callable[[], None]
):
    restarted()
    seen()

    deadline = time.monotonic() + 60
    while (health := httpx.get(f"{server.url}/health")).status_code != 200 and time.monotonic() < deadline:
        time.sleep(0.1)

    assert (health.status_code, health.json()["redis"]["closed"]) == (200, {})


def test_an_acknowledged_purchase_is_missed_before_sql_has_it(open_sale: Sale, restarted: Callable[[], None]):
    buy(open_sale, "ada")
    restarted()

    told = confirm(open_sale, {"9999999999999-0": "bob"})

    advice = f"Run manage.py restore_sale {open_sale.slug}"
    assert told == f"Acknowledged purchases that neither Redis nor SQL has: 1. {advice}"


def test_a_confirmation_of_an_earlier_run_opens_nothing(open_sale: Sale, restarted: Callable[[], None]):
    earlier_run = store.run_id_blocking()
    restarted()

    with pytest.raises(store.RedisError, match="another server"):
        continuity.confirm(open_sale.id, earlier_run)

    with pytest.raises(store.Unavailable, match="UNCHECKED"):
        buy(open_sale, "ada")


def test_restoring_brings_back_every_purchase_the_keys_and_the_stock(
    sold_sale: Sale, capsys: pytest.CaptureFixture[str]
):
    before = store.client().hgetall(store.key(sold_sale.id, "purchases"))
    store.client().flushall()

    call_command("restore_sale", sold_sale.slug)

    printed = capsys.readouterr().out
    assert "Redis knew 0 purchases, SQL knows 3 orders" in printed
    assert "restored from SQL to Redis:     3" in printed
    assert "7 of 10 remaining" in printed
    assert store.client().hgetall(store.key(sold_sale.id, "purchases")) == before
    assert buy(sold_sale, "ada", "new") == ["replayed", "purchased"]
    assert asyncio.run(purchases.buy(sold_sale.id, "stranger", "key of ada")).outcome == "idempotency_key_reused"
    run_once(consumer_name())
    assert audit(sold_sale).drift == {}


def test_restoring_tells_again_when_the_last_unit_went(make_sale: MakeSale):
    sale = make_sale(stock=2)
    buy(sale, "ada", "bob")
    run_once(consumer_name())
    config = store.key(sale.id, "config")
    before = store.client().hget(config, "sold_out_ms")
    store.client().flushall()

    restore(sale)

    assert store.client().hget(config, "sold_out_ms") == before


def test_restoring_keeps_what_only_redis_knows(open_sale: Sale):
    buy(open_sale, "written")
    run_once(consumer_name())
    buy(open_sale, "only in redis")
    store.client().hset(store.key(open_sale.id, "config"), "epoch", "lost")

    done = restore(open_sale)

    assert (done.purchases_found, done.stream_entries_written, done.purchases_restored) == (2, 1, 0)
    assert set(Order.objects.values_list("user_id", flat=True)) == {"written", "only in redis"}
    assert buy(open_sale, "only in redis") == ["replayed"]
    assert audit(open_sale).drift == {}


def test_restoring_twice_changes_nothing_more(sold_sale: Sale):
    store.client().flushall()
    restore(sold_sale)

    again = restore(sold_sale)

    assert (again.purchases_restored, again.remaining_stock) == (0, 7)
    assert audit(sold_sale).drift == {}


def test_a_restoration_that_was_interrupted_leaves_the_sale_closed(
    sold_sale: Sale, restarted: Callable[[], None], monkeypatch: pytest.MonkeyPatch
):
    store.client().hdel(store.key(sold_sale.id, "purchases"), "ada", "bob")
    store.client().set(store.key(sold_sale.id, "stock"), 9)

    def die(*args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("sales.restoring._reopen", die)
        with pytest.raises(KeyboardInterrupt):
            restore(sold_sale)
    restarted()

    assert "does not hold this publication" in confirm(sold_sale)
    with pytest.raises(store.Unavailable):
        buy(sold_sale, "new")
    assert restore(sold_sale).remaining_stock == 7
    assert buy(sold_sale, "new", "ada") == ["purchased", "replayed"]


@pytest.mark.django_db(transaction=True)  # Redis is compared with SQL in another thread
def test_a_restoration_that_was_interrupted_closes_no_other_sale(
    sold_sale: Sale, make_sale: MakeSale, restarted: Callable[[], None]
):
    other = make_sale(name="other")
    store.client().hdel(store.key(sold_sale.id, "config"), "epoch")
    restarted()

    async def find_both() -> tuple[str, str]:
        with pytest.raises(store.Unavailable) as closed:
            await snapshots.find(sold_sale.slug)
        found = await snapshots.find(other.slug)
        assert found
        return str(closed.value), found.slug

    reason, found = asyncio.run(find_both())

    assert (reason, found) == (
        f"Its restoration was interrupted. Run manage.py restore_sale {sold_sale.slug}",
        other.slug,
    )


def test_new_orders_are_numbered_behind_the_restored_ones(sold_sale: Sale):
    Order.objects.filter(user_id="eve").update(order_id="9999999999999-7", purchased_at="2286-11-20T17:46:39.999Z")
    store.client().flushall()
    restore(sold_sale)

    purchase = asyncio.run(purchases.buy(sold_sale.id, "new"))

    assert position(purchase.order_id) > (9999999999999, 7)


def test_of_one_millisecond_the_highest_order_is_the_newest(open_sale: Sale):
    for number, user_id in ((9, "nine"), (101, "highest"), (11, "eleven"), (100, "hundred")):
        orders.row(open_sale.id, user_id, f"1700000000000-{number}", 1, "").save()

    assert [order.user_id for order in open_sale.newest_orders()] == ["highest", "hundred", "eleven", "nine"]


def test_units_that_were_sold_twice_are_reported(sold_sale: Sale, capsys: pytest.CaptureFixture[str]):
    store.client().flushall()
    Sale.objects.update(total_stock=2)

    call_command("restore_sale", sold_sale.slug)

    assert "1 units were sold twice" in capsys.readouterr().out
    assert buy(sold_sale, "new") == ["sold_out"]


def test_restoring_opens_under_a_new_epoch(sold_sale: Sale):
    epoch = sold_sale.epoch
    store.client().flushall()

    restore(sold_sale)

    sold_sale.refresh_from_db()
    assert sold_sale.epoch != epoch
    assert publishing.standing(sold_sale).config["epoch"] == sold_sale.epoch


@pytest.fixture
def older_copy(tmp_path: Path) -> Path:
    return tmp_path / "copy"


@pytest.mark.django_db(transaction=True)
def test_over_http_a_restart_resumes_unless_redis_has_older_data(
    server: WebServer,
    redis_server: RedisServer,
    open_sale: Sale,
    seen: Callable[[], None],
    older_copy: Path,
):
    def attempt(user_id: str) -> dict:
        return httpx.post(f"{server.url}/api/sale/purchase", json={"userId": user_id}).json()

    seen()
    assert attempt("ada")["code"] == "purchased"
    run_once(consumer_name())
    redis_server.kill()
    shutil.copytree(settings.VAR_DIR / "redis", older_copy)
    redis_server.start()

    while (code := attempt("bob")["code"]) == "unavailable":
        time.sleep(0.02)
    assert code == "purchased"
    run_once(consumer_name())

    redis_server.kill()
    shutil.rmtree(settings.VAR_DIR / "redis")
    shutil.copytree(older_copy, settings.VAR_DIR / "redis")
    redis_server.start()
    for _ in range(20):
        assert attempt("eve")["code"] == "unavailable"
        time.sleep(0.03)
    health = httpx.get(f"{server.url}/health")
    page = httpx.get(f"{server.url}/")

    assert health.status_code == 503
    assert f"restore_sale {open_sale.slug}" in health.json()["redis"]["reason"]
    assert (page.status_code, "Nothing was bought" in page.text) == (503, True)
    restore(open_sale)
    seen()
    assert attempt("bob")["code"] == "already_purchased"
    assert attempt("eve")["code"] == "purchased"


@pytest.fixture
def weak_redis(redis_server: RedisServer) -> Iterator[None]:
    store.client().config_set("appendfsync", "everysec")
    yield
    store.client().config_set("appendfsync", "always")


def test_the_embedded_redis_has_the_settings_of_the_guarantee(redis_server: RedisServer):
    found = {
        name: store.client().config_get(name)[name]
        for name in ("appendonly", "appendfsync", "no-appendfsync-on-rewrite", "maxmemory-policy")
    }

    assert found == {
        "appendonly": "yes",
        "appendfsync": "always",
        "no-appendfsync-on-rewrite": "no",
        "maxmemory-policy": "noeviction",
    }


@pytest.mark.usefixtures("weak_redis")
def test_weak_settings_show_in_health_and_in_the_log(
    server: WebServer, open_sale: Sale, caplog: pytest.LogCaptureFixture
):
    from sales.durability import log_verdict

    time.sleep(0.6)
    health = httpx.get(f"{server.url}/health")
    log_verdict()

    assert (health.status_code, health.json()["status"]) == (200, "degraded")
    assert health.json()["redis"]["durability"] == "appendfsync is everysec, not always"
    assert "appendfsync is everysec" in health.json()["redis"]["reason"]
    assert "appendfsync is everysec, not always" in caplog.text


def test_settings_that_redis_does_not_tell_are_unknown(open_sale: Sale):
    from sales import durability

    store.client().execute_command("ACL", "SETUSER", "default", "-config")
    try:
        assert durability.check() == durability.UNKNOWN
        assert durability.summary(asyncio.run(durability.verdicts_on_lane())) == durability.UNKNOWN
    finally:
        store.client().execute_command("ACL", "SETUSER", "default", "+config")


def test_health_shows_how_far_the_writer_is_behind(server: WebServer, open_sale: Sale):
    buy(open_sale, "ada", "bob")
    time.sleep(0.7)

    behind = httpx.get(f"{server.url}/health").json()["writer"]
    run_once(consumer_name())
    time.sleep(0.7)
    done = httpx.get(f"{server.url}/health").json()["writer"]

    assert behind["backlog"] == 2
    assert behind["lagMs"] > 500
    assert (done["backlog"], done["lagMs"]) == (0, 0)


def test_a_writer_far_behind_is_degraded_with_a_reason(open_sale: Sale, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(health_checks, "LONGEST_LAG_MS", 100)
    buy(open_sale, "ada")
    time.sleep(0.3)

    writer = health_checks.writer_blocking()

    assert writer["status"] == "degraded"
    assert "write_orders" in writer["reason"]


def test_one_closed_sale_of_two_degrades_and_is_named(
    server: WebServer, open_sale: Sale, make_sale: MakeSale, seen: Callable[[], None]
):
    lost = make_sale(slug="lost")
    store.client().hset(store.key(lost.id, "config"), "closed", f"{store.run_id_blocking()} Data is missing.")
    seen()
    time.sleep(health_checks.KEEP_SECONDS)

    found = httpx.get(f"{server.url}/health")

    assert (found.status_code, found.json()["status"]) == (200, "degraded")
    assert found.json()["redis"]["reason"] == "closed: lost"


def test_a_loss_during_restoration_keeps_the_sale_closed(sold_sale: Sale, monkeypatch: pytest.MonkeyPatch):
    original = restoring._continue_stream

    def lose_one(sale: Sale) -> None:
        original(sale)
        store.client().hdel(store.key(sale.id, "purchases"), "bob")

    with monkeypatch.context() as patch:
        patch.setattr(restoring, "_continue_stream", lose_one)
        with pytest.raises(store.Unavailable, match="Restore the sale once more"):
            restore(sold_sale)

    with pytest.raises(store.Unavailable):
        buy(sold_sale, "new")
    restore(sold_sale)
    assert buy(sold_sale, "bob", "new") == ["replayed", "purchased"]


def test_a_unit_sold_during_restoration_is_not_sold_again(sold_sale: Sale, monkeypatch: pytest.MonkeyPatch):
    """Somebody else has restored the sale, and it sells."""

    def sell_one() -> str:
        store.client().hset(store.key(sold_sale.id, "purchases"), "new", "9999999999999-0 0 ")
        return "the next epoch"

    monkeypatch.setattr(restoring, "new_epoch", sell_one)

    restore(sold_sale)

    standing = publishing.standing(sold_sale)
    assert (standing.sold, standing.remaining_stock) == (4, 6)
