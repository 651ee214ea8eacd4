"""The operator's desk in a real browser: one step from the list to the shoppers, and every page for everybody."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone
from playwright.sync_api import Browser, BrowserContext, Page, expect

from sales import publishing
from sales.models import Order, Sale
from tests.conftest import MakeSale
from tests.servers import WebServer, free_port

pytestmark = pytest.mark.django_db(transaction=True)

PHONE = {"width": 390, "height": 844}

OpenDesk = Callable[..., Page]


@pytest.fixture
def open_desk(chromium: Browser, server: WebServer) -> Iterator[OpenDesk]:
    """Open a page of the admin, signed in; a script error on it fails the test."""
    with desk_of(chromium, server) as open_it:
        yield open_it


@pytest.fixture
def own_desk(chromium: Browser, server: WebServer) -> Iterator[OpenDesk]:
    """The same, on a server that has seen no other test: it keeps the numbers by which the history names things."""
    own = WebServer({"PORT": str(free_port()), "WEB_CONCURRENCY": "1"})
    own.start()
    with desk_of(chromium, own) as open_it:
        yield open_it
    own.stop()


@contextmanager
def desk_of(chromium: Browser, server: WebServer) -> Iterator[OpenDesk]:
    client = Client()
    client.force_login(User.objects.create_superuser("olga"))
    cookie = {"name": "sessionid", "value": client.cookies["sessionid"].value, "url": server.url}
    contexts: list[BrowserContext] = []
    errors: list[str] = []

    def open_it(path: str, **options: Any) -> Page:
        context = chromium.new_context(base_url=server.url, **options)
        contexts.append(context)
        context.add_cookies([cookie])  # type: ignore[list-item]
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(path)
        return page

    yield open_it
    for context in contexts:
        context.close()
    assert errors == []


@pytest.fixture
def order(make_sale: MakeSale) -> Order:
    sale = make_sale(name="Limited Edition Widget in Blue")
    return Order.objects.create(
        sale=sale,
        order_id="1771070400000-0",
        user_id="a.shopper.with.a.long.name@subdomain.example.com",
        purchased_at=timezone.now(),
        remaining_stock=9,
    )


def paths(order: Order) -> dict[str, str]:
    sale = f"/admin/sales/sale/{order.sale_id}"
    return {
        "the list of sales": "/admin/sales/sale/",
        "a new sale": "/admin/sales/sale/add/",
        "a sale": f"{sale}/change/",
        "a step to confirm": f"{sale}/pause-sale/",
        "a step that asks": f"{sale}/extend-sale/",
        "a step that asked": f"{sale}/add-stock-sale/?units=5",
        "a step that is refused": f"{sale}/resume-sale/",
        "the list of orders": "/admin/sales/order/",
        "an order": f"/admin/sales/order/{order.id}/change/",
    }


NAMES = tuple(paths(Order(id=1, sale_id=1)))


def test_an_operator_pauses_a_sale(own_desk: OpenDesk, open_sale: Sale):
    page = own_desk("/admin/sales/sale/")

    page.get_by_role("link", name="Limited Edition Widget").click()
    page.get_by_role("link", name="Pause …").click()
    expect(page.get_by_role("row", name="Paused selling paused")).to_be_visible()
    page.get_by_role("button", name="Yes, pause").click()

    expect(page.get_by_text("It is in force: 0 sold, 10 remaining.")).to_be_visible()
    expect(page.get_by_role("region", name="The sale now")).to_contain_text("Paused, ends in")
    assert publishing.standing(open_sale).config["paused"] == "1"


def test_an_operator_adds_stock_on_a_phone_without_javascript(own_desk: OpenDesk, open_sale: Sale):
    page = own_desk(f"/admin/sales/sale/{open_sale.id}/change/", viewport=PHONE, java_script_enabled=False)

    page.get_by_role("link", name="Add stock …").click()
    page.get_by_label("Units to add").fill("5")
    page.get_by_role("button", name="Show what changes").click()
    page.get_by_role("button", name="Yes, add stock").click()

    expect(page.get_by_text("0 of 15 sold, 15 remaining")).to_be_visible()


def test_an_operator_prepares_a_sale_and_publishes_it(own_desk: OpenDesk):
    page = own_desk("/admin/sales/sale/add/")

    page.get_by_label("Product name").fill("Widget")
    page.get_by_label("Total stock").fill("10")
    page.locator("#id_ends_at_0").fill("2031-05-01")
    page.locator("#id_ends_at_1").fill("10:00")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_role("region", name="The sale now")).to_contain_text("Hidden from shoppers")
    page.get_by_role("link", name="Publish …").click()
    page.get_by_role("button", name="Yes, publish").click()

    expect(page.get_by_role("region", name="The sale now")).to_contain_text("On sale now, ends in")
    page.get_by_role("link", name="View on site").click()
    expect(page.get_by_role("heading", name="Widget")).to_be_visible()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nobody_is_kept_out_of(open_desk: OpenDesk, order: Order, name: str, scheme: str):
    page = open_desk(paths(order)[name], viewport=PHONE, color_scheme=scheme)

    found = Axe().run(page).response["violations"]

    violations = {violation["id"]: [node["html"] for node in violation["nodes"]] for violation in found}
    assert violations == {}


@pytest.mark.parametrize("name", NAMES)
def test_a_phone_shows_all_of(open_desk: OpenDesk, order: Order, name: str):
    page = open_desk(paths(order)[name], viewport=PHONE)

    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
