"""The operator's desk in a real browser: one step from the list to the shoppers, and every page for everybody."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any

import pytest
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth.models import Group, User
from django.test import Client
from django.utils import timezone
from django_otp.plugins.otp_totp.models import TOTPDevice
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Page, expect

from sales import publishing, second_factor
from sales.models import Order, Quarantine, Sale
from sales.orders import consumer_name, run_once
from tests.conftest import MakeSale
from tests.servers import WebServer
from tests.test_accessibility import violations

pytestmark = pytest.mark.django_db(transaction=True)

PHONE = {"width": 390, "height": 844}

OpenDesk = Callable[..., Page]


def red_picture() -> bytes:
    file = BytesIO()
    Image.new("RGB", (40, 30), "#f00").save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def open_desk(chromium: Browser, server: WebServer) -> Iterator[OpenDesk]:
    """Open a page of the admin, signed in; a script error on it fails the test."""
    with desk_of(chromium, server) as open_it:
        yield open_it


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


PATHS = {
    "the desk": "/admin/",
    "the flash sales": "/admin/sales/",
    "the list of sales": "/admin/sales/sale/",
    "a new sale": "/admin/sales/sale/add/",
    "a sale": "/admin/sales/sale/{sale}/change/",
    "a sale's history": "/admin/sales/sale/{sale}/history/",
    "a sale's preflight": "/admin/sales/sale/{sale}/preflight/",
    "a step to confirm": "/admin/sales/sale/{sale}/pause-sale/",
    "a step that asks": "/admin/sales/sale/{sale}/extend-sale/",
    "a step that asked": "/admin/sales/sale/{sale}/add-stock-sale/?units=5",
    "a step that is refused": "/admin/sales/sale/{sale}/resume-sale/",
    "the list of orders": "/admin/sales/order/",
    "an order": "/admin/sales/order/{order}/change/",
    "an order to cancel": "/admin/sales/order/{order}/cancel/",
    "a cancelled order": "/admin/sales/order/{cancelled}/change/",
    "a cancelled order to cancel": "/admin/sales/order/{cancelled}/cancel/",
    "the list of cancelled orders": "/admin/sales/order/?state=cancelled",
    "the quarantine": "/admin/sales/quarantine/",
    "an entry in quarantine": "/admin/sales/quarantine/{entry}/change/",
    "the people": "/admin/auth/user/",
    "somebody": "/admin/auth/user/{person}/change/",
    "somebody new": "/admin/auth/user/add/",
    "somebody's password": "/admin/auth/user/{person}/password/",
    "somebody's second factor": "/admin/auth/user/{person}/second-factor/",
    "the roles": "/admin/auth/group/",
    "a role": "/admin/auth/group/{role}/change/",
    "a role that goes": "/admin/auth/group/{role}/delete/",
    "one's own password": "/admin/password_change/",
    "no page": "/admin/nothing/",
}


@pytest.fixture
def numbers(make_sale: MakeSale) -> dict[str, int]:
    """One of everything that has a page, by its number."""
    sale = make_sale(name="Limited Edition Widget in Blue")
    who = "a.shopper.with.a.long.name@subdomain.example.com"
    fields = {"sale": sale, "user_id": who, "purchased_at": timezone.now(), "remaining_stock": 9}
    order = Order.objects.create(order_id="1771070400000-0", **fields)
    cancelled = Order.objects.create(
        order_id="1771070300000-0", cancelled_at=timezone.now(), may_buy_again=True, cancellation_due=True, **fields
    )
    entry = Quarantine.objects.create(sale=sale, entry_id="1-0", fields={"user_id": who * 5}, reason="It has no time.")
    person, role = User.objects.create_user("pia", is_staff=True), Group.objects.create(name="crew")
    second_factor.begin(person)
    TOTPDevice.objects.update(confirmed=True)
    person.groups.add(role)
    LogEntry.objects.log_actions(person.pk, [sale], CHANGE, "Pause. Paused: selling → paused.", single_object=True)
    return {
        "sale": sale.pk,
        "order": order.pk,
        "cancelled": cancelled.pk,
        "entry": entry.pk,
        "person": person.pk,
        "role": role.pk,
    }


def test_an_operator_pauses_a_sale(open_desk: OpenDesk, open_sale: Sale):
    page = open_desk("/admin/sales/sale/")

    page.get_by_role("link", name="Limited Edition Widget").click()
    page.get_by_role("link", name="Pause …").click()
    expect(page.get_by_role("row", name="Paused selling paused")).to_be_visible()
    page.get_by_role("button", name="Yes, pause").click()

    expect(page.get_by_text("It is in force: 0 sold, 10 remaining.")).to_be_visible()
    expect(page.get_by_role("region", name="The sale now")).to_contain_text("Paused, ends in")
    assert publishing.standing(open_sale).config["paused"] == "1"


def test_an_operator_adds_stock_on_a_phone_without_javascript(open_desk: OpenDesk, open_sale: Sale):
    page = open_desk(f"/admin/sales/sale/{open_sale.id}/change/", viewport=PHONE, java_script_enabled=False)

    page.get_by_role("link", name="Add stock …").click()
    page.get_by_label("Units to add").fill("5")
    page.get_by_role("button", name="Show what changes").click()
    page.get_by_role("button", name="Yes, add stock").click()

    expect(page.get_by_text("0 of 15 sold, 15 remaining")).to_be_visible()


def test_an_operator_prepares_a_sale_and_publishes_it(open_desk: OpenDesk):
    page = open_desk("/admin/sales/sale/add/")

    page.get_by_label("Product name").fill("Widget")
    page.get_by_label("Total stock").fill("10")
    page.locator("#id_ends_at").fill("2031-05-01T10:00")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_role("region", name="The sale now")).to_contain_text("Hidden from shoppers")
    page.get_by_role("link", name="Publish …").click()
    page.get_by_role("button", name="Yes, publish").click()

    expect(page.get_by_role("region", name="The sale now")).to_contain_text("On sale now, ends in")
    page.get_by_role("link", name="View on site").click()
    expect(page.get_by_role("heading", name="Widget")).to_be_visible()


@pytest.mark.parametrize("java_script_enabled", [True, False])
def test_an_operator_cancels_an_order_on_a_phone(
    open_desk: OpenDesk, open_sale: Sale, seen: Callable[[], None], java_script_enabled: bool
):
    seen()
    page = open_desk("/admin/", viewport=PHONE, java_script_enabled=java_script_enabled)
    attempt = "/api/sale/purchase", {"userId": "ada@example.com"}
    order_id = page.request.post(attempt[0], data=attempt[1]).json()["orderId"]
    run_once(consumer_name())
    page.goto("/admin/sales/order/")

    page.get_by_role("link", name=order_id).click()
    page.get_by_role("link", name="Cancel …").click()
    expect(page.get_by_role("row", name="Units remaining 9 10")).to_be_visible()
    page.get_by_role("radio", name="No: further attempts are refused").check()
    page.get_by_role("button", name="Yes, cancel").click()

    told = f"Order {order_id} of ada@example.com is cancelled. It is in force: 0 sold, 10 remaining."
    expect(page.get_by_text(told)).to_be_visible()
    expect(page.get_by_role("region", name="The order now")).to_contain_text("the shopper may not buy again")
    expect(page.get_by_role("link", name="Cancel …")).to_have_count(0)
    assert page.request.post(attempt[0], data=attempt[1]).json()["code"] == "order_cancelled"


def test_a_chosen_picture_is_seen_before_it_is_saved(open_desk: OpenDesk):
    page = open_desk("/admin/sales/sale/add/", viewport=PHONE)
    picture, chosen = (
        page.locator("#id_image"),
        page.get_by_role("img", name="The picture that you chose; it is not saved yet"),
    )

    picture.set_input_files({"name": "red.png", "mimeType": "image/png", "buffer": red_picture()})
    expect(chosen).to_be_visible()
    top_left = chosen.evaluate("canvas => [...canvas.getContext('2d').getImageData(0, 0, 1, 1).data]")
    picture.set_input_files({"name": "x.png", "mimeType": "image/png", "buffer": b"no picture"})
    expect(page.get_by_text("This file is not a picture. Choose a JPEG, PNG or WebP.")).to_be_visible()
    picture.set_input_files([])

    expect(page.get_by_text("A placeholder, until you choose a picture.")).to_be_visible()
    assert top_left == [255, 0, 0, 255]


@pytest.mark.long
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nobody_is_kept_out(open_desk: OpenDesk, numbers: dict[str, int], scheme: str):
    page = open_desk("/admin/", viewport=PHONE, color_scheme=scheme)
    found: dict[str, list[str]] = {}

    for name, path in PATHS.items():
        page.goto(path.format(**numbers))
        found[name] = violations(page)
        if page.evaluate("document.documentElement.scrollWidth") > PHONE["width"]:
            found[name].append("a phone does not show all of it")

    assert {where: wrong for where, wrong in found.items() if wrong} == {}
