"""The purchase in a real browser, with JavaScript and without."""

import re
from zoneinfo import ZoneInfo

import pytest
from playwright.sync_api import expect

from sales import order_codes, store
from sales.models import Sale
from tests.browsers import Visitor, buy
from tests.conftest import OpenPage
from tests.servers import WebServer


@pytest.fixture(params=[True, False], ids=["with JavaScript", "without JavaScript"])
def javascript(request: pytest.FixtureRequest) -> bool:
    return request.param


def code_of(sale: Sale, user_id: str) -> str:
    found = store.client().hget(store.key(sale.id, "purchases"), user_id)
    return order_codes.make(sale.id, found.decode().split()[0])


@pytest.mark.django_db(transaction=True)  # the server, another process, reads SQL
def test_a_shopper_buys(open_page: OpenPage, open_sale: Sale, javascript: bool):
    page = open_page(java_script_enabled=javascript)

    buy(page, "ada@example.com")

    expect(page.get_by_role("heading", name="You have it!")).to_be_visible()
    expect(page.locator("#order-code")).to_have_text(code_of(open_sale, "ada@example.com"))
    if javascript:
        expect(page.locator("#left")).to_have_text("9 of 10 left")
        page.get_by_role("link", name="Open your receipt").click()
    expect(page.get_by_text("Bought by")).to_be_visible()
    assert "/receipts/" in page.url


@pytest.mark.django_db(transaction=True)  # the server, another process, reads SQL
def test_a_buyers_name_leads_somebody_else_to_no_receipt(
    open_page: OpenPage, visitor: Visitor, open_sale: Sale, javascript: bool
):
    page = open_page(java_script_enabled=javascript)
    buy(page, "ada@example.com")
    expect(page.get_by_role("heading", name="You have it!")).to_be_visible()

    other = visitor.open(java_script_enabled=javascript, user_agent="another browser")
    buy(other, "ADA@example.com")

    expect(other.get_by_role("heading", name="You already have one")).to_be_visible()
    expect(other.get_by_role("link", name="Open your receipt")).to_have_count(0)
    assert not {order for order in (code_of(open_sale, "ada@example.com"), "/receipts/") if order in other.content()}
    other.get_by_role("link", name="Find it with your order code").click()
    expect(other.get_by_label("Sale")).to_have_value(open_sale.slug)


@pytest.mark.django_db(transaction=True)  # the server, another process, reads SQL
def test_the_tab_that_bought_gets_its_receipt_again(open_page: OpenPage, open_sale: Sale):
    page = open_page()
    buy(page, "ada@example.com")
    expect(page.get_by_role("heading", name="You have it!")).to_be_visible()

    page.reload()
    buy(page, "ada@example.com")

    expect(page.locator("#order-code")).to_have_text(code_of(open_sale, "ada@example.com"))
    page.get_by_role("link", name="Open your receipt").click()
    expect(page.get_by_text("Bought by")).to_be_visible()


def test_somebody_else_buys_on_the_same_screen(open_page: OpenPage, open_sale: Sale):
    page = open_page()
    buy(page, "ada@example.com")

    page.get_by_role("link", name="Order for someone else").click()
    buy(page, "bob@example.com")

    expect(page.get_by_role("heading", name="You have it!")).to_be_visible()
    expect(page.locator("#order-code")).to_have_text(code_of(open_sale, "bob@example.com"))


def test_a_mistyped_name_is_kept(open_page: OpenPage, open_sale: Sale, javascript: bool):
    page = open_page(java_script_enabled=javascript)

    buy(page, "ada\u200b@example.com")

    expect(page.get_by_role("heading", name="Please check what you typed")).to_be_visible()
    expect(page.locator("#user-id")).to_have_value("ada\u200b@example.com")
    expect(page.locator("#user-id")).to_have_attribute("aria-invalid", "true")


def test_a_shopper_without_javascript_sees_no_clock_that_stands_still(open_page: OpenPage, open_sale: Sale):
    page = open_page(java_script_enabled=False)

    expect(page.locator("#when")).to_contain_text(re.compile(r"Ends \w+ \d+, \d{4}, .* UTC"))
    expect(page.locator("#countdown")).to_be_hidden()
    expect(page.locator("noscript .hint")).to_have_text("Reload this page to see what is left.")


def test_a_shopper_with_javascript_reads_times_in_their_own_zone(open_page: OpenPage, open_sale: Sale):
    page = open_page(timezone_id="Asia/Tokyo")
    ends = open_sale.ends_at.astimezone(ZoneInfo("Asia/Tokyo"))

    expect(page.locator("#when")).to_contain_text(ends.strftime("%-I:%M\u202f%p"))


def test_the_list_is_in_the_shoppers_own_zone(open_page: OpenPage, open_sale: Sale):
    page = open_page("/sales/", timezone_id="Asia/Tokyo")
    ends = open_sale.ends_at.astimezone(ZoneInfo("Asia/Tokyo"))

    expect(page.locator(".tile .when")).to_contain_text(ends.strftime("%-I:%M\u202f%p"))


def test_no_host_but_our_own_is_asked(open_page: OpenPage, server: WebServer, open_sale: Sale):
    page = open_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))

    page.reload()
    buy(page, "ada@example.com")
    expect(page.get_by_role("heading", name="You have it!")).to_be_visible()
    page.get_by_role("link", name="All sales").first.click()
    expect(page.get_by_role("heading", name="All sales")).to_be_visible()

    assert asked
    assert all(url.startswith(server.url) for url in asked)
