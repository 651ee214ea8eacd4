"""The live dashboard: its numbers are those of a known run, and it tells what should worry."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from django.contrib.auth.models import Group, User
from django.test import Client

from sales import attempt_counts, cancelling, live, purchases, roles, store, workers
from sales.attempt_counts import Second
from sales.clock import to_ms
from sales.desk import live_words
from sales.live import Drift
from sales.models import Order, Sale, ShopperCount
from sales.orders import consumer_name, run_once
from tests.conftest import MakeSale
from tests.servers import WebServer
from tests.test_attempt_counts import tell
from tests.test_attempts import wait_for
from tests.writers import OrderWriter

pytestmark = pytest.mark.usefixtures("static_files")


@pytest.fixture
def viewer(db: None) -> Client:
    return signed_in("viewer")


def signed_in(role: str) -> Client:
    user = User.objects.create_user(role, is_staff=True)
    user.groups.add(*Group.objects.filter(name=role))
    client = Client()
    client.force_login(user)
    return client


def buy(sale: Sale, *user_ids: str) -> None:
    async def all_of_them() -> None:
        for user_id in user_ids:
            await purchases.buy(sale.id, user_id)

    asyncio.run(all_of_them())


def tile(sale: Sale, key: str) -> live_words.Tile:
    return next(tile for tile in live_words.tiles(sale, live.look(sale)) if tile.key == key)


def data(client: Client, sale: Sale, **query: Any) -> dict[str, Any]:
    return client.get(f"/admin/sales/sale/{sale.id}/live/data/", query).json()


@pytest.mark.django_db(transaction=True)  # the server, another process, reads SQL
def test_the_numbers_are_those_of_a_known_run(make_sale: MakeSale, server: WebServer, seen: Callable[[], None]):
    sale = make_sale(stock=20)
    seen()
    viewer = Client()
    viewer.force_login(User.objects.create_superuser("viewer"))
    answers: Counter[str] = Counter()

    async def crowd() -> None:
        limits = httpx.Limits(max_connections=16)
        async with httpx.AsyncClient(base_url=server.url, limits=limits, timeout=120) as client:
            names = [f"shopper-{number % 60}" for number in range(150)]
            sent = (client.post("/api/sale/purchase", json={"userId": name}) for name in names)
            answers.update(answer.json()["code"] for answer in await asyncio.gather(*sent))

    with OrderWriter():
        asyncio.run(crowd())
        wait_for(lambda: sum(map(sum, outcome_columns(data(viewer, sale)))) == 150, seconds=60)
        wait_for(lambda: sale.orders.count() == 20, seconds=60)
        shown = data(viewer, sale)

    columns = shown["columns"]
    assert answers["purchased"] == sum(columns["purchased"]) == 20
    assert answers["already_purchased"] == sum(columns["already"])
    assert answers["sold_out"] == sum(columns["sold_out"])
    assert answers.total() == 150
    assert [sum(columns["refused"]), sum(columns["failed"])] == [0, 0]
    assert columns["remaining"][-1] == 0
    tiles = {tile["key"]: tile for tile in shown["tiles"]}
    values = {key: tiles[key]["value"] for key in ("remaining", "sold", "backlog", "drift")}
    assert values == {"remaining": "0", "sold": "20", "backlog": "0", "drift": "0"}
    assert not any(tiles[key]["worry"] for key in ("remaining", "attempts", "backlog", "drift"))
    wait_for(lambda: store.client().pfcount(store.key(sale.id, "shoppers")) >= 58, seconds=60)
    attempt_counts.store_counts()
    assert ShopperCount.objects.get(sale=sale).about == pytest.approx(60, abs=2)


def outcome_columns(shown: dict[str, Any]) -> list[list[int]]:
    return [shown["columns"][key] for key in live_words.OUTCOMES]


def test_seconds_without_attempts_are_shown_as_nothing(open_sale: Sale):
    now = live.look(open_sale).now_ms // 1000
    tell(open_sale, now - 8, purchased=3)
    tell(open_sale, now - 6, sold_out=1)

    seconds = live.look(open_sale).seconds
    columns = live_words.columns(seconds)

    assert columns["second"] == list(range(seconds[0].second, seconds[-1].second + 1))
    place = columns["second"].index(now - 8)
    assert columns["purchased"][place : place + 3] == [3, 0, 0]
    assert columns["sold_out"][place : place + 3] == [0, 0, 1]
    assert columns["remaining"][place - 1 : place + 3] == [10, 7, 7, 7]


def test_remaining_stock_is_drawn_without_attempts_too(open_sale: Sale):
    columns = live_words.columns(live.look(open_sale).seconds)

    assert set(columns["remaining"]) == {10}


def test_only_the_seconds_that_may_have_changed_are_sent_again(open_sale: Sale):
    now = live.look(open_sale).now_ms // 1000

    seconds = live.look(open_sale, since=now - 5).seconds

    assert seconds[0].second == now - 5 - live.LATE_SECONDS
    assert len(live.look(open_sale).seconds) == live.WINDOW_SECONDS


@pytest.mark.parametrize("since", ["", "x", "-1", "9" * 400])
def test_a_malformed_since_still_gets_an_answer(viewer: Client, open_sale: Sale, since: str):
    assert data(viewer, open_sale, since=since)["columns"]["second"]


@pytest.mark.pure
def test_every_outcome_has_a_series():
    words = ("purchased", "replayed", "sold_out", "not_started", "unknown", "something new")
    second = Second(1, Counter(words), [0] * 23, None)

    columns = live_words.columns([second])

    found = {key: columns[key] for key in live_words.OUTCOMES}
    assert found == {"purchased": [1], "already": [1], "sold_out": [1], "refused": [2], "failed": [1]}


def test_waiting_purchases_are_a_backlog_and_no_drift(open_sale: Sale):
    buy(open_sale, "ada", "bob")

    stand = live.look(open_sale).stand

    assert stand
    assert (stand.backlog, stand.drift) == (2, Drift(0, 0, 0))
    run_once(consumer_name())
    stand = live.look(open_sale).stand
    assert stand
    assert (stand.backlog, stand.lag_ms, stand.drift) == (0, 0, Drift(0, 0, 0))


def test_a_writer_that_is_late_is_a_worry(open_sale: Sale, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(live_words, "WRITER_LATE_MS", 3_600_000)
    buy(open_sale, "ada")
    assert tile(open_sale, "backlog").worry == ""

    monkeypatch.setattr(live_words, "WRITER_LATE_MS", 20)
    time.sleep(0.05)

    assert "write_orders" in tile(open_sale, "backlog").worry


def test_a_stream_without_its_writers_is_no_picture_of_redis(open_sale: Sale):
    store.client().xgroup_destroy(store.key(open_sale.id, "orders"), store.WRITERS)

    assert live.look(open_sale).stand is None


def test_an_order_that_sql_has_lost_is_drift(open_sale: Sale):
    buy(open_sale, "ada", "bob")
    run_once(consumer_name())
    Order.objects.filter(user_id="ada").delete()

    found = tile(open_sale, "drift")

    assert found.value == "1"
    assert found.worry == "1 orders missing in SQL: run manage.py audit_sale limited-edition-widget"


def test_a_cancelled_order_is_never_drift(open_sale: Sale):
    buy(open_sale, "ada", "bob")
    run_once(consumer_name())
    cancelling.cancel(Order.objects.get(user_id="ada"), User.objects.create_user("olga"), may_buy_again=True)

    before = tile(open_sale, "drift")
    cancelling.enforce(open_sale)
    after = tile(open_sale, "drift")

    assert (before.worry, after.worry) == ("", "")


def test_a_purchase_that_redis_has_lost_is_drift(open_sale: Sale):
    buy(open_sale, "ada")
    run_once(consumer_name())
    store.client().hdel(store.key(open_sale.id, "purchases"), "ada")

    assert "1 orders that Redis lacks, 1 units too few" in tile(open_sale, "drift").worry


def test_stock_that_was_changed_by_hand_is_drift(open_sale: Sale):
    store.client().incr(store.key(open_sale.id, "stock"))

    assert "1 units too many" in tile(open_sale, "drift").worry


@pytest.mark.parametrize("outcome", ["unavailable", "unknown", "server_error"])
def test_attempts_that_got_no_answer_are_a_worry(open_sale: Sale, outcome: str):
    for _ in range(10):  # until it is looked at while it is one of the last seconds
        tell(open_sale, live.look(open_sale).now_ms // 1000 - 2, "host-1", **{outcome: 3})
        if found := tile(open_sale, "attempts").worry:
            break

    assert found == "3 not answered in the last 10 s: see Redis"


def test_a_worker_that_is_silent_is_a_worry(open_sale: Sale):
    now_ms = live.look(open_sale).now_ms
    heard = {b"host-1": now_ms, b"host-2": now_ms - workers.ALIVE_MS - 1}

    assert workers.count(heard, now_ms) == (1, 2)
    assert workers.count({}, now_ms) == (0, 2)
    assert workers.count({**heard, b"other-1": now_ms}, now_ms) == (2, 4)


def test_without_worker_reports_the_rest_is_still_shown(open_sale: Sale):
    buy(open_sale, "ada")
    store.client().set(store.WORKERS, "no hash, so that asking fails")

    found = live.look(open_sale)

    assert found.stand
    assert (found.stand.sold, found.stand.remaining_stock, found.stand.workers) == (1, 9, None)
    shown = tile(open_sale, "workers")
    assert (shown.value, shown.worry) == ("?", "")
    assert "away" in shown.detail


def test_without_redis_the_page_shows_numbers_from_sql(
    viewer: Client, open_sale: Sale, monkeypatch: pytest.MonkeyPatch
):
    buy(open_sale, "ada")
    run_once(consumer_name())
    tell(open_sale, to_ms(open_sale.starts_at) // 1000 + 55, purchased=1)
    attempt_counts.store_counts()

    def away(*args: object, **kwargs: object) -> None:
        raise store.RedisError("away")

    monkeypatch.setattr("redis.connection.ConnectionPool.get_connection", away)
    shown = data(viewer, open_sale)
    page = viewer.get(f"/admin/sales/sale/{open_sale.id}/live/").content.decode()

    tiles = {tile["key"]: tile for tile in shown["tiles"]}
    assert not shown["isRedisThere"]
    assert "Redis cannot be reached" in tiles["remaining"]["worry"]
    assert [tiles[key]["value"] for key in ("attempts", "buyers", "drift", "workers")] == ["?"] * 4
    assert (tiles["sold"]["value"], tiles["sold"]["detail"]) == ("1", "that SQL knows of")
    assert sum(shown["columns"]["purchased"]) == 1
    assert "Redis cannot be reached" in page


def test_a_sale_that_is_not_published_yet_has_a_page(viewer: Client, make_sale: MakeSale):
    sale = make_sale()
    Sale.objects.filter(pk=sale.pk).update(published=False, first_published_at=None)
    store.client().flushall()

    page = viewer.get(f"/admin/sales/sale/{sale.id}/live/")

    assert page.status_code == 200
    assert "Hidden from shoppers" in page.content.decode()


PAGES = ("live/", "live/?wall", "live/data/", "analytics/", "analytics/analytics.json", "analytics/seconds.csv")


@pytest.mark.parametrize("role", [*roles.ROLES, "nobody"])
def test_only_users_with_a_role_see_live_pages(open_sale: Sale, role: str):
    client = signed_in(role)
    answers = {page: client.get(f"/admin/sales/sale/{open_sale.id}/{page}") for page in PAGES}

    expected = 403 if role == "nobody" else 200
    assert {page: answer.status_code for page, answer in answers.items()} == dict.fromkeys(PAGES, expected)
    assert all("no-store" in answer["Cache-Control"] for answer in answers.values())


def test_live_pages_send_anonymous_visitors_to_the_log_in(open_sale: Sale):
    answers = [Client().get(f"/admin/sales/sale/{open_sale.id}/{page}") for page in PAGES]

    assert [answer.status_code for answer in answers] == [302] * len(PAGES)
    assert all(answer["Location"].startswith("/admin/login/?next=") for answer in answers)


@pytest.mark.pure
def test_there_is_no_page_of_no_sale(viewer: Client):
    assert [viewer.get(f"/admin/sales/sale/999/{page}").status_code for page in PAGES] == [404] * len(PAGES)


def test_the_sales_page_leads_to_both(viewer: Client, open_sale: Sale):
    page = viewer.get(f"/admin/sales/sale/{open_sale.id}/change/").content.decode()

    assert f'href="/admin/sales/sale/{open_sale.id}/live/"' in page
    assert f'href="/admin/sales/sale/{open_sale.id}/analytics/"' in page
