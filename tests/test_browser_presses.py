"""Double presses, Back and Reload in a real browser, with a server whose answers come late."""

import re
import time
from collections.abc import Callable, Iterator

import pytest
from django.contrib.auth.models import User
from django.test import Client
from playwright.sync_api import Browser, Locator, Page, Request, expect

from sales import store
from sales.models import Sale
from tests.browsers import Visitor, buy
from tests.conftest import MakeSale
from tests.servers import HoldingProxy, WebServer
from tests.test_shopper_pages import ADA, codes_of

pytestmark = pytest.mark.django_db(transaction=True)

WINDOWS = 7


@pytest.fixture
def way(server: WebServer) -> Iterator[HoldingProxy]:
    """The way to the server."""
    with HoldingProxy(server.url) as proxy:
        yield proxy


@pytest.fixture
def far_visitor(chromium: Browser, way: HoldingProxy) -> Iterator[Visitor]:
    visitor = Visitor(chromium, way.url)
    yield visitor
    way.let_go()
    visitor.close()
    assert visitor.errors == []


def press_twice(way: HoldingProxy, button: Locator, between_ms: int, sends: int) -> None:
    """Click twice, as one whom nothing seems to happen to does: the server has the first form, and its answer does not
    come before the second click has sent what it sends."""
    box = button.bounding_box()
    assert box
    place = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page, before = button.page, way.posts
    way.hold()
    page.mouse.click(*place)
    wait_for_posts(page, way, before + 1)
    page.wait_for_timeout(between_ms)
    page.mouse.click(*place)
    wait_for_posts(page, way, before + sends)
    way.let_go()


def wait_for_posts(page: Page, way: HoldingProxy, number: int) -> None:
    deadline = time.monotonic() + 60
    while way.posts < number:
        assert time.monotonic() < deadline, "the form is not sent"
        page.wait_for_timeout(20)


def sent_by(page: Page) -> list[Request]:
    """Return a list that grows by each form that the page sends."""
    sent: list[Request] = []
    page.on("request", lambda request: sent.append(request) if request.method == "POST" else None)
    return sent


@pytest.mark.parametrize(("java_script_enabled", "between_ms"), [(True, 0), (False, 0), (False, 150)])
def test_a_double_click_on_confirm_confirms(
    far_visitor: Visitor, way: HoldingProxy, verified_sale: Sale, java_script_enabled: bool, between_ms: int
):
    sends = 1 if java_script_enabled else 2
    page = far_visitor.open(f"/shopper/?sale={verified_sale.slug}", java_script_enabled=java_script_enabled)
    page.get_by_label("Your e-mail address").fill(ADA)
    press_twice(way, page.get_by_role("button", name="Send me a code"), between_ms, sends)
    expect(page.get_by_label("The code from the mail")).to_be_visible()
    page.get_by_label("The code from the mail").fill(codes_of(ADA).typed)
    sent = sent_by(page)

    press_twice(way, page.get_by_role("button", name="Confirm"), between_ms, sends)

    expect(page).to_have_url(re.compile(f"/sales/{verified_sale.slug}/$"))
    assert {cookie.get("name") for cookie in page.context.cookies()} >= {"shopper"}
    assert len(sent) == sends
    page.goto("/shopper/")
    expect(page.get_by_text(f"{ADA} is confirmed in this browser")).to_be_visible()


@pytest.mark.parametrize("java_script_enabled", [True, False])
def test_a_double_click_adds_stock_once(
    far_visitor: Visitor, way: HoldingProxy, make_sale: MakeSale, java_script_enabled: bool
):
    sale, client = make_sale(100), Client()
    client.force_login(User.objects.create_superuser("olga"))
    page = far_visitor.open("/health/live", java_script_enabled=java_script_enabled)
    origin = page.url.removesuffix("/health/live")
    page.context.add_cookies([{"name": "sessionid", "value": client.cookies["sessionid"].value, "url": origin}])
    page.goto(f"/admin/sales/sale/{sale.pk}/add-stock-sale/?units=5")

    press_twice(way, page.get_by_role("button", name="Yes, add stock"), 0, 1 if java_script_enabled else 2)

    expect(page.get_by_text("100 → 105")).to_be_visible()
    assert Sale.objects.get().total_stock == 105


def test_enter_twice_sends_once(far_visitor: Visitor, way: HoldingProxy):
    page = far_visitor.open("/shopper/")
    sent = sent_by(page)
    page.get_by_label("Your e-mail address").fill(ADA)

    way.hold()
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    wait_for_posts(page, way, 1)
    way.let_go()

    expect(page.get_by_label("The code from the mail")).to_be_visible()
    assert len(sent) == 1


def test_a_form_works_again_after_going_back(visitor: Visitor):
    page = visitor.open("/shopper/")
    page.get_by_label("Your e-mail address").fill(ADA)
    page.get_by_role("button", name="Send me a code").click()
    expect(page.get_by_label("The code from the mail")).to_be_visible()

    page.go_back()
    page.get_by_label("Your e-mail address").fill("bob@example.com")
    page.get_by_role("button", name="Send me a code").click()

    expect(page.get_by_text("bob@example.com")).to_be_visible()


def test_a_form_is_free_again_where_nothing_came_of_it(visitor: Visitor):
    page = visitor.open("/health/live")
    page.clock.install()
    page.goto("/shopper/")
    page.route("**/shopper/", lambda route: route.abort() if route.request.method == "POST" else route.continue_())
    button = page.get_by_role("button", name="Send me a code")
    page.evaluate("addEventListener('submit', (event) => event.preventDefault())")
    page.get_by_label("Your e-mail address").fill(ADA)
    button.click()
    held = button.get_attribute("aria-disabled")

    page.clock.fast_forward(11_000)

    assert held == "true"
    expect(button).not_to_have_attribute("aria-disabled", "true")


@pytest.mark.parametrize("java_script_enabled", [True, False])
def test_the_code_page_survives_reloading_and_going_back(visitor: Visitor, java_script_enabled: bool):
    page = visitor.open("/shopper/", java_script_enabled=java_script_enabled)
    page.get_by_label("Your e-mail address").fill(ADA)
    page.get_by_role("button", name="Send me a code").click()
    code = page.get_by_label("The code from the mail")
    expect(code).to_be_visible()
    sent = sent_by(page)

    page.reload()
    expect(page.get_by_text(f"We have sent a code to {ADA}")).to_be_visible()
    page.goto("/")
    page.go_back()
    expect(code).to_be_visible()
    code.fill(codes_of(ADA).typed)
    page.get_by_role("button", name="Confirm").click()
    expect(page.get_by_text(f"{ADA} is confirmed in this browser")).to_be_visible()
    page.reload()

    assert [request.url.rpartition("/shopper/")[2].partition("?")[0] for request in sent] == ["confirm/"]


def test_going_back_to_a_refused_code_sends_nothing(visitor: Visitor, verified_sale: Sale):
    page = visitor.open(f"/shopper/confirm/?email=ada%40example.com&sale={verified_sale.slug}")
    page.get_by_label("The code from the mail").fill("1")
    page.get_by_role("button", name="Confirm").click()
    expect(page.get_by_role("alert")).to_be_visible()
    sent = sent_by(page)

    page.reload()
    expect(page.get_by_label("The code from the mail")).to_be_visible()
    page.goto("/sales/")
    page.go_back()

    expect(page.get_by_text(f"We have sent a code to {ADA}")).to_be_visible()
    assert sent == []


@pytest.mark.parametrize("is_one_sale", [pytest.param(True, marks=pytest.mark.long), False])
def test_many_windows_leave_room_for_a_press(
    visitor: Visitor, make_sale: MakeSale, seen: Callable[[], None], is_one_sale: bool
):
    sales = [make_sale(name=f"Widget {number}") for number in range(1 if is_one_sale else WINDOWS)]
    seen()
    first = visitor.open(f"/sales/{sales[0].slug}/")

    windows = [visitor.tab(first.context, f"/sales/{sales[n % len(sales)].slug}/") for n in range(1, WINDOWS)]
    buy(first, ADA)

    expect(first.locator("#answer-headline")).to_have_text("You have it!")
    assert store.client().hlen(store.key(sales[0].id, "purchases")) == 1
    if is_one_sale:
        for window in windows:
            expect(window.locator("#left")).to_have_text("9 of 10 left")
