"""Finding one's order by the sale and the name that bought."""

from collections.abc import Callable

import httpx
import pytest
from django.http import HttpResponse
from django.test import Client
from playwright.sync_api import Page, expect
from pytest_django import Settings

from sales import orders, receipts, store
from sales.models import Order, Sale
from tests.conftest import MakeSale
from tests.servers import RedisServer, free_port
from tests.test_receipts import buy

# Its fixtures open pages in a browser.
pytest_plugins = ("tests.test_browser",)
pytestmark = pytest.mark.usefixtures("static_files")

PATH = "/orders/find/"
NO_ORDER = "No order for that name in this sale."


@pytest.fixture
def bought(open_sale: Sale) -> str:
    """Return the address of Ada's receipt; SQL does not have her order yet."""
    return receipts.address(open_sale.id, buy(open_sale, "ada@example.com"))


def find(client: Client, user_id: str, sale: str = "limited-edition-widget", **headers: str) -> HttpResponse:
    return client.post(PATH, {"sale": sale, "user_id": user_id}, **headers)  # type: ignore[arg-type, return-value]


def test_the_name_that_bought_leads_to_the_receipt(client: Client, bought: str):
    answer = find(client, "ada@example.com")

    assert (answer.status_code, answer["Location"]) == (303, bought)
    assert "ada@example.com" in client.get(answer["Location"]).content.decode()


def test_another_spelling_of_the_name_leads_there_too(client: Client, bought: str):
    assert find(client, " ＡDA@Example.com ")["Location"] == bought


@pytest.mark.parametrize("typed", ["Ada Lovelace <Ada@example.com>", "mailto:ada@example.com"])
def test_a_name_that_is_pasted_from_a_mail_leads_there_too(client: Client, bought: str, typed: str):
    assert find(client, typed)["Location"] == bought


def test_an_order_that_only_sql_has_is_found(client: Client, open_sale: Sale, bought: str):
    while not Order.objects.exists():
        orders.run_once(orders.consumer_name())
    store.client().delete(store.key(open_sale.id, "purchases"))

    assert find(client, "ada@example.com")["Location"] == bought


def test_a_name_without_an_order(client: Client, bought: str):
    page = find(client, "bob@example.com")

    assert page.status_code == 404
    assert NO_ORDER in page.content.decode()
    assert 'value="bob@example.com"' in page.content.decode()
    assert "ada" not in page.content.decode()


def test_an_order_in_another_sale_is_not_found_in_this_one(client: Client, bought: str, make_sale: MakeSale):
    make_sale(name="Another")

    assert find(client, "ada@example.com", "another").status_code == 404


def test_a_name_that_is_none_is_told_why(client: Client, bought: str):
    page = find(client, "ada\u200b@example.com")

    assert page.status_code == 400
    assert "visible characters" in page.content.decode()


@pytest.mark.parametrize("slug", ["", "nothing", "x" * 500])
def test_a_sale_that_is_none_is_told(client: Client, bought: str, slug: str):
    page = find(client, "ada@example.com", slug)

    assert page.status_code == 400
    assert "Choose a sale from the list." in page.content.decode()


def test_a_sale_that_is_not_published_is_not_in_the_list(client: Client, open_sale: Sale, bought: str):
    Sale.objects.update(published=False)

    assert "Limited Edition Widget" not in client.get(PATH).content.decode()
    assert find(client, "ada@example.com").status_code == 400


def test_the_sale_one_came_from_is_chosen(client: Client, make_sale: MakeSale):
    make_sale(name="First")
    make_sale(name="Second")

    for slug in ("first", "second"):
        page = client.get(PATH, {"sale": slug}).content.decode()
        assert f'<option value="{slug}" selected>' in " ".join(page.split())


def test_what_was_typed_is_escaped(client: Client, open_sale: Sale):
    page = find(client, '"><script>alert(1)</script>').content.decode()

    assert "<script>alert" not in page
    assert "&quot;&gt;&lt;script&gt;" in page


def test_asking_for_one_name_is_limited_whatever_the_address(client: Client, bought: str):
    spellings = ("ada@example.com", "ADA@example.com ")

    statuses = [
        find(client, spellings[number % 2], REMOTE_ADDR=f"192.0.2.{number}").status_code for number in range(12)
    ]

    assert statuses == [303] * 10 + [429] * 2


def test_who_asks_too_often_hears_when_to_ask_again(client: Client, bought: str):
    for _ in range(10):
        find(client, "ada@example.com")

    page = find(client, "ada@example.com")

    assert page.status_code == 429
    assert 1 <= int(page["Retry-After"]) <= 60
    assert "Too many attempts" in page.content.decode()


def test_reading_the_form_is_not_limited(client: Client, open_sale: Sale):
    assert {client.get(PATH).status_code for _ in range(30)} == {200}


def test_nothing_is_found_while_nothing_can_be_counted(client: Client, bought: str, settings: Settings):
    settings.CACHES = {
        "default": {**settings.CACHES["default"], "LOCATION": f"redis://127.0.0.1:{free_port()}/0"},
    }

    page = find(client, "ada@example.com")

    assert (page.status_code, page["Retry-After"]) == (503, "5")
    assert "Orders cannot be looked up right now" in page.content.decode()


def test_without_redis_the_form_is_there_and_finds_nothing(client: Client, bought: str, redis_server: RedisServer):
    redis_server.kill()
    try:
        form, answer = client.get(PATH), find(client, "ada@example.com")
    finally:
        redis_server.start()

    assert (form.status_code, answer.status_code) == (200, 503)


@pytest.mark.parametrize(
    "loss", [lambda key: store.client().delete(key), lambda key: store.client().hset(key, "closed", "run why")]
)
def test_no_order_is_said_only_while_redis_is_trusted(client: Client, open_sale: Sale, loss: Callable[[str], object]):
    loss(store.key(open_sale.id, "config"))

    assert find(client, "ada@example.com").status_code == 503


def test_a_form_from_another_site_finds_nothing(client: Client, bought: str):
    page = find(client, "ada@example.com", HTTP_ORIGIN="https://evil.example", HTTP_HOST="testserver")

    assert page.status_code == 403
    assert "Location" not in page


def test_the_form_takes_no_other_method(client: Client, open_sale: Sale):
    response = client.put(PATH)

    assert (response.status_code, response["Allow"]) == (405, "GET, HEAD, POST")


@pytest.mark.django_db(transaction=True)  # the server, another process, reads SQL
def test_the_form_over_http(http: httpx.Client, bought: str):
    form = http.get(PATH)
    answer = http.post(PATH, data={"sale": "limited-edition-widget", "user_id": "ada@example.com"})

    assert form.headers["cache-control"] == answer.headers["cache-control"] == "private, no-store"
    assert "set-cookie" not in form.headers
    assert (answer.status_code, answer.headers["location"]) == (303, bought)


@pytest.mark.django_db(transaction=True)  # the server, another process, reads SQL
@pytest.mark.parametrize("javascript", [True, False])
def test_a_shopper_finds_an_order_from_the_sales_page(open_page: Callable[..., Page], bought: str, javascript: bool):
    page = open_page("/", java_script_enabled=javascript)
    page.get_by_role("link", name="Find my order").click()

    page.get_by_label("Your e-mail address").fill("bob@example.com")
    page.get_by_role("button", name="Find my order").click()
    expect(page.get_by_role("alert")).to_contain_text(NO_ORDER)
    page.get_by_label("Your e-mail address").fill("Ada@example.com")
    page.get_by_role("button", name="Find my order").click()

    expect(page.get_by_role("heading", name="Your order")).to_be_visible()
    expect(page.get_by_text("ada@example.com")).to_be_visible()
