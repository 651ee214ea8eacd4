"""The purchase in a real browser, with JavaScript and without."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from sales import publishing
from sales.models import Sale
from tests.conftest import MakeSale
from tests.servers import WebServer


@pytest.fixture(params=[True, False], ids=["with JavaScript", "without JavaScript"])
def javascript(request: pytest.FixtureRequest) -> bool:
    return request.param


@pytest.fixture
def open_page(chromium: Browser, server: WebServer, seen: Callable[[], None]) -> Iterator[Callable[..., Page]]:
    """Open a page of the server; a script error or a refused resource on it fails the test."""
    contexts: list[BrowserContext] = []
    errors: list[str] = []

    def open_it(path: str = "/", **options: Any) -> Page:
        seen()
        seen()
        context = chromium.new_context(base_url=server.url, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text) if _is_defect(message) else None)
        page.goto(path)
        return page

    yield open_it
    for context in contexts:
        context.close()
    assert errors == []


def _is_defect(message: Any) -> bool:
    # The browser reports the API's refusals (409) as failed loads; they are answers.
    return message.type == "error" and "Failed to load resource" not in message.text


def buy(page: Page, user_id: str) -> None:
    page.get_by_label("Your e-mail address").fill(user_id)
    page.get_by_role("button").click()


def test_a_shopper_buys(open_page: Callable[..., Page], open_sale: Sale, javascript: bool):
    page = open_page(java_script_enabled=javascript)

    buy(page, "ada@example.com")

    expect(page.get_by_role("heading", name="You have it!")).to_be_visible()
    expect(page.locator("#order-id")).to_have_text(
        next(iter(_purchases(open_sale).values())).split()[0], use_inner_text=True
    )
    expect(page.locator("#left")).to_have_text("9 of 10 left")
    expect(page.get_by_label("Your e-mail address")).to_have_value("ada@example.com")


def _purchases(sale: Sale) -> dict[str, str]:
    from sales import store

    found = store.client().hgetall(store.key(sale.id, "purchases"))
    return {user_id.decode(): purchase.decode() for user_id, purchase in found.items()}


def test_a_shopper_who_has_one_is_told_so(open_page: Callable[..., Page], open_sale: Sale, javascript: bool):
    page = open_page(java_script_enabled=javascript)
    buy(page, "ada@example.com")
    expect(page.get_by_role("heading", name="You have it!")).to_be_visible()

    buy(page, "ADA@example.com")

    expect(page.get_by_role("heading", name="You already have one")).to_be_visible()
    expect(page.locator("#order")).to_be_visible()


def test_a_mistyped_name_is_kept(open_page: Callable[..., Page], open_sale: Sale, javascript: bool):
    page = open_page(java_script_enabled=javascript)

    buy(page, "ada\u200b@example.com")

    expect(page.get_by_role("heading", name="Please check what you typed")).to_be_visible()
    expect(page.get_by_label("Your e-mail address")).to_have_value("ada\u200b@example.com")


def test_the_sale_starts_while_the_page_is_open(open_page: Callable[..., Page], make_sale: MakeSale):
    make_sale(starts_in=4)
    page = open_page()

    expect(page.get_by_role("button")).to_be_disabled()
    expect(page.locator("#when")).to_contain_text("Starts in 00:00:0")
    expect(page.get_by_role("button", name="Buy now")).to_be_enabled(timeout=6000)
    buy(page, "ada@example.com")

    expect(page.get_by_role("heading", name="You have it!")).to_be_visible()


def test_the_page_hears_of_a_pause(open_page: Callable[..., Page], open_sale: Sale):
    page = open_page()
    expect(page.locator("#state")).to_have_text("On sale now")

    open_sale.paused = True
    open_sale.save()
    publishing.publish(open_sale)

    expect(page.locator("#state")).to_have_text("Paused", timeout=6000)
    expect(page.get_by_role("button")).to_be_disabled()


def test_the_last_unit_goes_while_the_page_is_open(open_page: Callable[..., Page], make_sale: MakeSale):
    make_sale(stock=1)
    first, second = open_page(), open_page()

    buy(first, "ada@example.com")
    expect(first.get_by_role("heading", name="You have it!")).to_be_visible()
    second.get_by_label("Your e-mail address").fill("bob@example.com")

    expect(second.locator("#state")).to_have_text("Sold out", timeout=6000)
    expect(second.get_by_role("button", name="Sold out")).to_be_disabled()


def test_no_host_but_our_own_is_asked(open_page: Callable[..., Page], server: WebServer, open_sale: Sale):
    page = open_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))

    page.reload()
    buy(page, "ada@example.com")
    expect(page.get_by_role("heading", name="You have it!")).to_be_visible()

    assert asked
    assert all(url.startswith(server.url) for url in asked)
