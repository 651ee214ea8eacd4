"""Receipts: their addresses, what they show, and what they do when something is away."""

import asyncio
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from django.db import DatabaseError
from django.test import Client
from django.urls import reverse
from playwright.sync_api import Page, expect
from pytest_django import Settings

from sales import order_codes, orders, purchases, receipts, store
from sales.models import Order, Sale
from tests.conftest import MakeSale
from tests.servers import RedisServer

# Its fixtures open pages in a browser.
pytest_plugins = ("tests.test_browser",)
pytestmark = pytest.mark.usefixtures("static_files")

ORDER = (7, "1771063530000-0")


@pytest.fixture
def bought(open_sale: Sale) -> str:
    """Return the order_id of Ada's purchase, which SQL does not have yet."""
    return buy(open_sale, "ada@example.com")


def buy(sale: Sale, user_id: str) -> str:
    """Return the order_id of a purchase. Made in a thread, because a browser's loop may run in this one."""
    with ThreadPoolExecutor() as pool:
        return pool.submit(asyncio.run, purchases.buy(sale.id, user_id)).result().order_id


def written() -> None:
    while not Order.objects.exists():
        orders.run_once(orders.consumer_name())


def token_of(sale_id: int, order_id: str) -> str:
    return receipts.address(sale_id, order_id).split("/")[2]


# Addresses


@pytest.mark.pure
def test_an_address_leads_to_the_view_and_names_its_order():
    token = token_of(*ORDER)

    assert receipts.address(*ORDER) == reverse("receipt", args=[token])
    assert receipts.read(token) == ORDER


@pytest.mark.pure
def test_an_address_is_short_and_needs_no_escapes():
    assert re.fullmatch(r"/receipts/[0-9a-f.-]{1,60}/", receipts.address(*ORDER))


@pytest.mark.pure
def test_a_signature_has_128_bits():
    assert re.fullmatch(r"7\.1771063530000-0\.[0-9a-f]{32}", token_of(*ORDER))


@pytest.mark.pure
@pytest.mark.parametrize("place", range(len("7.1771063530000-0.") + 32))
def test_a_token_with_another_character_is_nobodys(place: int):
    token = token_of(*ORDER)
    other = "1" if token[place] != "1" else "2"

    assert receipts.read(token[:place] + other + token[place + 1 :]) is None


@pytest.mark.pure
@pytest.mark.parametrize("token", ["", ".", "..", "7", "7.1771063530000-0", "7.1771063530000-0.", "é.é.é", "x" * 5000])
def test_malformed_tokens_are_rejected(token: str):
    assert receipts.read(token) is None


@pytest.mark.pure
@pytest.mark.parametrize("length", range(50))
def test_a_token_that_was_cut_off_is_nobodys(length: int):
    assert receipts.read(token_of(*ORDER)[:length]) is None


@pytest.mark.pure
def test_another_secret_key_signs_otherwise(settings: Settings):
    token = token_of(*ORDER)

    settings.SECRET_KEY = "another"

    assert token_of(*ORDER) != token
    assert receipts.read(token) is None


@pytest.mark.pure
def test_an_earlier_secret_key_works_as_a_fallback(settings: Settings):
    token, earlier = token_of(*ORDER), settings.SECRET_KEY

    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "another", ["unused", earlier]

    assert receipts.read(token) == ORDER


# The page


def test_a_receipt_keeps_the_code_given_at_the_purchase(
    client: Client, open_sale: Sale, bought: str, settings: Settings
):
    code, address = order_codes.make(open_sale.id, bought), receipts.address(open_sale.id, bought)
    written()

    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "another", [settings.SECRET_KEY]

    assert order_codes.make(open_sale.id, bought) != code
    assert code in client.get(address).content.decode()


def test_a_receipt_before_the_order_is_written(client: Client, open_sale: Sale, bought: str):
    page = client.get(receipts.address(open_sale.id, bought))

    assert page.status_code == 200
    assert not Order.objects.exists()
    code = order_codes.make(open_sale.id, bought)
    for words in (bought, code, "ada@example.com", "Limited Edition Widget", "UTC", "Your order"):
        assert words in page.content.decode()


def test_a_receipt_after_the_stream_was_trimmed(client: Client, make_sale: MakeSale):
    sale = make_sale(display_price="49.00")
    order_id = buy(sale, "ada@example.com")
    written()
    store.client().xtrim(store.key(sale.id, "orders"), maxlen=0, approximate=False)

    page = client.get(receipts.address(sale.id, order_id)).content.decode()

    for words in (order_id, "ada@example.com", "€49.00"):
        assert words in page


def test_an_order_that_is_written_between_the_looks_is_found(
    open_sale: Sale, bought: str, monkeypatch: pytest.MonkeyPatch
):
    def written_and_trimmed(sale_id: int, order_id: str) -> receipts.Found | None:
        written()
        store.client().xtrim(store.key(open_sale.id, "orders"), maxlen=0, approximate=False)
        return in_stream(sale_id, order_id)

    in_stream = receipts._in_stream
    monkeypatch.setattr(receipts, "_in_stream", written_and_trimmed)

    found = receipts.find(open_sale.id, bought)

    assert found
    assert found.user_id == "ada@example.com"


def test_a_receipt_of_a_sale_that_is_no_longer_shown(client: Client, open_sale: Sale, bought: str):
    Sale.objects.update(published=False)

    assert client.get(receipts.address(open_sale.id, bought)).status_code == 200


def test_a_name_with_markup_is_shown_as_text(client: Client, open_sale: Sale):
    order_id = buy(open_sale, "<script>alert(1)</script>")

    page = client.get(receipts.address(open_sale.id, order_id)).content.decode()

    assert "&lt;script&gt;alert(1)" in page
    assert "<script>alert" not in page


@pytest.mark.parametrize(
    ("outcome", "headline"),
    [
        ("", "Your order"),
        ("?outcome=purchased", "You have it!"),
        ("?outcome=already_purchased", "You already have one"),
        ("?outcome=sold_out", "Your order"),
        ("?outcome=<b>", "Your order"),
    ],
)
def test_a_receipts_headline_follows_the_outcome(
    client: Client, open_sale: Sale, bought: str, outcome: str, headline: str
):
    page = client.get(receipts.address(open_sale.id, bought) + outcome).content.decode()

    assert f"<h1>{headline}</h1>" in page


@pytest.mark.parametrize(
    "change", [lambda path: path[:-2] + "/", lambda path: path[:-20] + "/", lambda path: path[:10]]
)
def test_a_wrong_address_says_nothing_but_what_to_do(
    client: Client, open_sale: Sale, bought: str, change: Callable[[str], str]
):
    page = client.get(change(receipts.address(open_sale.id, bought)))

    text = page.content.decode()
    assert page.status_code == 404
    assert "cut off or mistyped" in text
    assert '<a href="/orders/find/">Find my order</a>' in text
    assert bought not in text
    assert "ada" not in text


def test_a_receipt_for_a_missing_order_asks_to_retry(client: Client, open_sale: Sale):
    page = client.get(receipts.address(open_sale.id, "1771063530000-0"))

    assert (page.status_code, page["Retry-After"]) == (503, "5")
    assert "We are looking for your order" in page.content.decode()


def test_a_receipt_for_a_missing_sale_is_unavailable(client: Client, db: None):
    assert client.get(receipts.address(999, "1771063530000-0")).status_code == 503


def test_a_receipt_while_redis_is_away(client: Client, open_sale: Sale, bought: str, redis_server: RedisServer):
    redis_server.kill()
    try:
        page = client.get(receipts.address(open_sale.id, bought))
    finally:
        redis_server.start()

    assert (page.status_code, page["Retry-After"]) == (503, "5")
    assert "Your order is safe, but it cannot be shown right now." in page.content.decode()


def test_a_written_receipt_needs_no_redis(client: Client, open_sale: Sale, bought: str, redis_server: RedisServer):
    written()
    redis_server.kill()
    try:
        page = client.get(receipts.address(open_sale.id, bought))
    finally:
        redis_server.start()

    assert page.status_code == 200


def test_a_receipt_while_sql_is_away(client: Client, open_sale: Sale, bought: str, monkeypatch: pytest.MonkeyPatch):
    def fail(*_: object) -> str:
        raise DatabaseError("the server has gone away")

    monkeypatch.setattr(receipts, "_in_sql", fail)

    assert client.get(receipts.address(open_sale.id, bought)).status_code == 503


def test_a_receipt_takes_no_other_method(client: Client, open_sale: Sale, bought: str):
    response = client.post(receipts.address(open_sale.id, bought))

    assert (response.status_code, response["Allow"]) == (405, "GET, HEAD")


# Over HTTP


@pytest.mark.django_db(transaction=True)  # the server, another process, reads SQL
def test_the_api_links_to_an_uncached_receipt(http: httpx.Client, open_sale: Sale, seen: Callable[[], None]):
    seen()
    path = http.post("/api/sale/purchase", json={"userId": "ada@example.com"}).json()["receiptUrl"]

    page, head = http.get(path), http.head(path)

    assert page.status_code == head.status_code == 200
    assert "ada@example.com" in page.text
    assert page.headers["cache-control"] == "private, no-store"
    assert page.headers["referrer-policy"] == "no-referrer"
    assert page.headers["x-robots-tag"] == "noindex"
    assert page.headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "set-cookie" not in page.headers
    assert head.content == b""


def test_the_key_that_bought_gets_the_same_receipt_again(http: httpx.Client, open_sale: Sale, seen: Callable[[], None]):
    seen()
    body, headers = {"userId": "ada@example.com"}, {"Idempotency-Key": "k-1"}

    purchased = http.post("/api/sale/purchase", json=body, headers=headers).json()
    replayed = http.post("/api/sale/purchase", json=body, headers=headers).json()
    again = http.post("/api/sale/purchase", json=body).json()

    assert (purchased["code"], again["code"]) == ("purchased", "already_purchased")
    assert purchased["receiptUrl"] == replayed["receiptUrl"]
    assert "receiptUrl" not in again
    assert receipts.read(purchased["receiptUrl"].split("/")[2]) == (open_sale.id, purchased["orderId"])


@pytest.mark.pure
def test_two_sales_have_different_receipts():
    assert receipts.address(1, "1771063530000-0") != receipts.address(2, "1771063530000-0")


@pytest.mark.parametrize("path", ["/receipts/", "/receipts/1.2.3/", "/receipts/%ff%F0%9F/", "/receipts/..%2f..%2fx/"])
def test_no_receipt_here(http: httpx.Client, path: str):
    page = http.get(path)

    assert page.status_code == 404
    assert "No receipt here" in page.text or "Nothing here" in page.text


# In a browser


@pytest.mark.django_db(transaction=True)  # the server, another process, reads SQL
@pytest.mark.parametrize("javascript", [True, False])
def test_a_browser_shows_the_time_where_the_shopper_is(
    open_page: Callable[..., Page], open_sale: Sale, bought: str, javascript: bool
):
    path = receipts.address(open_sale.id, bought)
    options = {"java_script_enabled": javascript, "timezone_id": "Asia/Tokyo", "locale": "en-GB"}

    page = open_page(f"{path}?outcome=purchased", **options)

    expect(page.get_by_role("heading", name="You have it!")).to_be_visible()
    expect(page.locator("#bought-at")).to_contain_text("UTC")
    if javascript:
        expect(page.locator("#local")).to_contain_text(re.compile(r"GMT\+9|JST"))
        expect(page.get_by_role("button", name="Print")).to_be_visible()
        assert page.evaluate("location.pathname + location.search") == path
    else:
        expect(page.locator("#local")).to_be_hidden()
        expect(page.get_by_role("button", name="Print")).to_be_hidden()


@pytest.mark.django_db(transaction=True)  # the server, another process, reads SQL
def test_paper_has_the_order_and_nothing_to_press(open_page: Callable[..., Page], open_sale: Sale, bought: str):
    page = open_page(receipts.address(open_sale.id, bought))

    page.emulate_media(media="print")

    expect(page.get_by_text(bought)).to_be_visible()
    expect(page.get_by_text("ada@example.com")).to_be_visible()
    expect(page.get_by_role("button")).to_have_count(0)
    expect(page.get_by_role("link")).to_have_text(["Flash sale"])


@pytest.mark.django_db(transaction=True)  # the server, another process, reads SQL
def test_links_from_a_receipt_do_not_tell_its_address(
    open_page: Callable[..., Page], open_sale: Sale, bought: str, seen: Callable[[], None]
):
    page = open_page(receipts.address(open_sale.id, bought))
    referers: list[str | None] = []
    page.on("request", lambda request: referers.append(request.headers.get("referer")))

    page.get_by_role("link", name="Back to the sale").click()

    expect(page.get_by_role("heading", name="Limited Edition Widget")).to_be_visible()
    assert not referers[0]
    assert not any("receipts" in (referer or "") for referer in referers)
