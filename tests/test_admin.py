"""The operator's desk, through Django's own client, over a real Redis."""

import asyncio
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from sales import publishing, purchases, store
from sales.models import Order, Sale
from sales.orders import consumer_name, run_once
from tests.servers import RedisServer, free_port

pytestmark = pytest.mark.usefixtures("static_files")

LIST = "/admin/sales/sale/"


@pytest.fixture(autouse=True)
def _quick_passwords(settings: Settings) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture
def operator(transactional_db: None) -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("operator"))
    return client


def form(**changes: object) -> dict[str, object]:
    starts_at = timezone.now().replace(microsecond=0) - timedelta(minutes=1)
    ends_at = starts_at + timedelta(hours=1)
    fields = {
        "name": "Widget",
        "slug": "",
        "description": "",
        "currency": "EUR",
        "display_price": "49.00",
        "total_stock": "10",
        "starts_at_0": starts_at.date().isoformat(),
        "starts_at_1": starts_at.time().isoformat(),
        "ends_at_0": ends_at.date().isoformat(),
        "ends_at_1": ends_at.time().isoformat(),
        "published": "on",
    }
    return {name: value for name, value in {**fields, **changes}.items() if value is not None}


def add(operator: Client, **changes: object) -> Sale:
    response = operator.post(f"{LIST}add/", form(**changes))
    assert response.status_code == 302, response.context["adminform"].form.errors
    return Sale.objects.latest("id")


def change(operator: Client, sale: Sale, **changes: object) -> str:
    return operator.post(f"{LIST}{sale.id}/change/", form(**changes), follow=True).content.decode()


def buy(sale: Sale, user_id: str) -> str:
    return asyncio.run(purchases.buy(sale.id, user_id)).outcome


def test_saving_a_sale_publishes_it(operator: Client):
    sale = add(operator)

    assert sale.slug == "widget"
    assert publishing.standing(sale).is_mirrored(sale)
    assert buy(sale, "ada") == "purchased"


def test_a_change_takes_effect(operator: Client):
    sale = add(operator)
    buy(sale, "ada")

    page = change(operator, sale, total_stock="3", paused="on", name="New name")

    standing = publishing.standing(sale)
    assert "1 sold, 2 remaining" in page
    assert (standing.remaining_stock, standing.config["product_name"]) == (2, "New name")
    assert buy(sale, "bob") == "paused"


def test_a_total_below_the_units_sold_is_refused_on_the_form(operator: Client):
    sale = add(operator)
    for user_id in ("ada", "bob"):
        buy(sale, user_id)

    page = change(operator, sale, total_stock="1")

    assert "2 units are sold already: set 2 or more." in page
    assert Sale.objects.get().total_stock == 10
    assert publishing.standing(sale).remaining_stock == 8


def test_units_sold_while_the_form_was_saved_keep_the_total_that_is_in_force(
    operator: Client, monkeypatch: pytest.MonkeyPatch
):
    sale = add(operator)
    for user_id in ("ada", "bob"):
        buy(sale, user_id)
    monkeypatch.setattr("sales.admin._units_sold", lambda sale: 0)

    page = change(operator, sale, total_stock="1")

    assert "2 units are sold already" in page
    assert Sale.objects.get().total_stock == 10
    assert publishing.standing(sale).remaining_stock == 8


@pytest.mark.parametrize("changes", [{"display_price": "39.00"}, {"display_price": ""}, {"currency": "USD"}])
def test_the_price_is_fixed_once_a_unit_is_sold(operator: Client, changes: dict[str, str]):
    sale = add(operator)
    change(operator, sale, **changes)
    assert Sale.objects.get().price_text() != "49.00 EUR"
    change(operator, sale)
    buy(sale, "ada")

    page = change(operator, sale, **changes)

    assert "1 units are sold already: keep 49.00 EUR" in page
    assert Sale.objects.get().price_text() == "49.00 EUR"


def test_an_end_before_the_start_is_refused(operator: Client):
    page = operator.post(f"{LIST}add/", form(ends_at_0="2020-01-01")).content.decode()

    assert "The end must be after the start." in page
    assert not Sale.objects.exists()


def test_the_slug_of_a_published_sale_is_fixed(operator: Client):
    sale = add(operator)

    change(operator, sale, slug="another")

    assert Sale.objects.get().slug == "widget"


def test_unpublishing_takes_the_sale_from_the_shoppers(operator: Client):
    sale = add(operator)

    page = change(operator, sale, published=None)

    assert "not shown to shoppers" in page
    assert not store.client().hexists(store.DIRECTORY, "widget")


def test_without_redis_a_sale_is_saved_with_a_warning_and_published_later(operator: Client, redis_server: RedisServer):
    redis_server.kill()
    try:
        page = operator.post(f"{LIST}add/", form(), follow=True).content.decode()
        listed = operator.get(LIST)
    finally:
        redis_server.start()
    sale = Sale.objects.get()

    assert "Saved, but shoppers see the sale as it was: Redis cannot be reached" in page
    assert listed.status_code == 200
    assert publishing.standing(sale).config == {}
    page = operator.post(LIST, {"action": "publish", "_selected_action": [sale.id]}, follow=True).content.decode()
    assert "10 remaining" in page
    assert publishing.standing(sale).is_mirrored(sale)


def test_the_list_shows_units_sold_and_remaining_from_redis(operator: Client):
    sale = add(operator)
    for user_id in ("ada", "bob", "eve"):
        buy(sale, user_id)

    page = operator.get(LIST).content.decode()

    assert '<td class="field-sold">3</td>' in page
    assert '<td class="field-remaining">7</td>' in page
    assert "in Redis" in page


def test_a_mirror_that_differs_is_shown(operator: Client):
    sale = add(operator)
    Sale.objects.filter(pk=sale.pk).update(name="Changed behind the scenes")

    assert "differs from Redis" in operator.get(LIST).content.decode()


def test_orders_are_read_only(operator: Client):
    sale = add(operator)
    buy(sale, "ada@example.com")
    run_once(consumer_name())

    page = operator.get("/admin/sales/order/?q=ada")
    order = Order.objects.get()
    assert "ada@example.com" in page.content.decode()
    assert operator.get(f"/admin/sales/order/{order.id}/change/").status_code == 200
    assert operator.post(f"/admin/sales/order/{order.id}/change/", {"user_id": "x"}).status_code == 403
    assert operator.get("/admin/sales/order/add/").status_code == 403
    assert operator.post(f"/admin/sales/order/{order.id}/delete/", {"post": "yes"}).status_code == 403


def test_a_sale_is_not_deleted(operator: Client):
    sale = add(operator)

    assert operator.post(f"{LIST}{sale.id}/delete/", {"post": "yes"}).status_code == 403


def login(client: Client, username: str = "operator", address: str = "192.0.2.1") -> int:
    data = {"username": username, "password": "wrong"}
    return client.post("/admin/login/", data, REMOTE_ADDR=address).status_code


def test_guessing_an_accounts_password_is_limited_whatever_the_address(db: None):
    statuses = [login(Client(), address=f"192.0.2.{number}") for number in range(12)]

    assert statuses == [200] * 10 + [429] * 2


def test_other_spellings_of_an_account_share_its_limit(db: None):
    spellings = ("operator", " operator", "OPERATOR ", "ｏperator")

    statuses = [login(Client(), username=spellings[number % 4]) for number in range(12)]

    assert statuses == [200] * 10 + [429] * 2


def test_guessing_from_one_address_is_limited_whatever_the_account(db: None):
    statuses = [login(Client(), username=f"operator-{number}") for number in range(22)]

    assert statuses == [200] * 20 + [429] * 2


def test_a_limited_log_in_says_when_to_try_again(db: None):
    for _ in range(10):
        login(Client())

    response = Client().post("/admin/login/", {"username": "operator", "password": "wrong"})

    assert response.status_code == 429
    assert 1 <= int(response["Retry-After"]) <= 60
    assert "Too many attempts to sign in" in response.content.decode()


def test_the_log_in_page_itself_is_not_limited(db: None):
    assert {Client().get("/admin/login/").status_code for _ in range(30)} == {200}


def test_nobody_signs_in_while_attempts_cannot_be_counted(db: None, settings: Settings):
    settings.CACHES = {
        "default": {**settings.CACHES["default"], "LOCATION": f"redis://127.0.0.1:{free_port()}/0"},
    }

    response = Client().post("/admin/login/", {"username": "operator", "password": "wrong"})

    assert response.status_code == 503
    assert "Nobody can sign in while Redis cannot be reached" in response.content.decode()
