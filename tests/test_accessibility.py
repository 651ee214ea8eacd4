"""Pages for everyone: WCAG 2.2 AA by axe in every state, by keyboard alone, and by ear."""

import json
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from django.utils import timezone
from playwright.sync_api import Page, expect

from sales import receipts
from sales.models import Order, Sale
from sales.outcomes import HTTP_STATUS
from tests.browsers import buy, show_refusal
from tests.conftest import MakeSale, OpenPage
from tests.test_browser_time import change
from tests.test_shopper_pages import codes_of

pytestmark = pytest.mark.long

AXE = {
    "runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]},
    "rules": {"target-size": {"enabled": True}},
    "resultTypes": ["violations"],
}
AXE_SCRIPT = Axe().axe_script

STATES: dict[str, dict[str, Any]] = {
    "upcoming": {"starts_in": 600},
    "open": {"display_price": "49.00", "description": "One hundred were made."},
    "paused": {"paused": True},
    "ended": {"starts_in": -120, "lasts": 60},
    "for confirmed": {"identity": "verified"},
    "for invited": {"identity": "invited"},
}

ANSWERS = [
    *("purchased", "already_purchased", "sold_out", "not_started", "ended", "paused", "invalid_request", "forbidden"),
    *("rate_limited", "unavailable", "unknown", "server_error", "order_cancelled", "unauthorized", "not_invited"),
    "something new",
]


@pytest.fixture(params=[("light", "en-US"), ("dark", "de-DE")], ids=["light", "dark"])
def look(request: pytest.FixtureRequest) -> dict[str, str]:
    scheme, locale = request.param
    return {"color_scheme": scheme, "locale": locale, "reduced_motion": "reduce"}


def violations(page: Page) -> list[str]:
    """Return what axe finds wrong on a page as it is now."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE_SCRIPT)
    found = page.evaluate("async (options) => (await axe.run(document, options)).violations", AXE)
    return [f"{rule['id']}: {node['html']} {node['failureSummary']}" for rule in found for node in rule["nodes"]]


def answer_with(page: Page, code: str) -> None:
    """Let the page get this answer to its next press."""
    body = {"code": code, "remainingStock": 3}
    if code in ("purchased", "already_purchased"):
        body |= {"orderId": "1771063530000-0", "purchaseTime": "2026-02-14T10:05:30Z"}
    if code == "purchased":
        body |= {"orderCode": "K7QX-2M9P", "receiptUrl": "/receipts/x/"}
    page.route("**/purchase", lambda route: route.fulfill(status=200, body=json.dumps(body)))
    buy(page, "ada@example.com")
    expect(page.locator("#answer")).to_be_visible()


def test_axe_finds_nothing_on_the_sale_page(open_page: OpenPage, make_sale: MakeSale, look: dict):
    slugs = {state: make_sale(name=state, **fields).slug for state, fields in STATES.items()}
    page = open_page("/sales/", **look)
    found = {}

    for state, slug in slugs.items():
        page.goto(f"/sales/{slug}/")
        is_open = state in ("open", "for confirmed", "for invited")
        expect(page.locator("#state")).to_have_attribute("data-status", "active" if is_open else state)
        found[state] = violations(page)

    assert {where: wrong for where, wrong in found.items() if wrong} == {}


def test_axe_finds_nothing_on_a_sold_out_page(
    open_page: OpenPage, make_sale: MakeSale, http: httpx.Client, seen: Callable[[], None], look: dict
):
    make_sale(stock=1)
    seen()
    http.post("/api/sale/purchase", json={"userId": "ada@example.com"}).raise_for_status()
    page = open_page(**look)
    expect(page.locator("#state")).to_have_attribute("data-status", "sold_out")

    assert violations(page) == []


def test_axe_finds_nothing_on_other_pages(open_page: OpenPage, make_sale: MakeSale, look: dict):
    for name, fields in STATES.items():
        make_sale(name=name, **fields)
    page = open_page("/sales/", **look)
    found = {"/sales/": violations(page)}

    for path in ("/sales/nothing/", "/nowhere/", "/api/docs"):
        page.goto(path)
        page.evaluate("document.querySelectorAll('details').forEach((details) => { details.open = true; })")
        found[path] = violations(page)

    assert {where: wrong for where, wrong in found.items() if wrong} == {}


def test_axe_finds_nothing_where_an_address_is_confirmed(open_page: OpenPage, make_sale: MakeSale, look: dict):
    sale = make_sale(identity="verified")
    page = open_page(f"/shopper/?sale={sale.slug}", **look)
    assert violations(page) == []

    page.locator("#email").fill("ada@example.com")
    page.locator("main button").click()
    expect(page.locator("#code")).to_be_visible()
    assert violations(page) == []
    page.locator("#code").fill("1")
    page.locator("main button").click()
    expect(page.locator("#code-error")).to_be_visible()
    assert violations(page) == []

    page.goto(f"/shopper/confirm/?email=ada%40example.com&code={codes_of('ada@example.com').linked}")
    expect(page.locator("main button")).to_be_visible()
    assert violations(page) == []
    page.locator("main button").click()
    expect(page.locator(".confirmed")).to_be_visible()
    assert violations(page) == []
    page.goto(f"/sales/{sale.slug}/")
    expect(page.locator("#who-words")).to_contain_text("ada@example.com")
    assert violations(page) == []


def test_axe_finds_nothing_on_a_refusal(open_page: OpenPage, open_sale: Sale, look: dict):
    page = open_page(**look)
    found = {}

    for code in ("rate_limited", "server_error", "unavailable"):
        show_refusal(page, code)
        expect(page.get_by_text(f"Code {HTTP_STATUS[code].value}")).to_be_visible()
        found[code] = violations(page)

    assert {where: wrong for where, wrong in found.items() if wrong} == {}


@pytest.mark.django_db(transaction=True)  # the server, another process, reads SQL
def test_axe_finds_nothing_on_receipts_or_the_order_search(open_page: OpenPage, open_sale: Sale, look: dict):
    page = open_page(**look)
    buy(page, "ada@example.com")
    page.locator("#receipt").click()
    expect(page.locator("#bought-at")).to_be_visible()
    receipt = violations(page)
    page.locator("a[href^='/orders/find/']").click()
    page.locator("#user-id").fill("bob@example.com")
    page.locator(".find button").first.click()
    expect(page.get_by_role("alert")).to_be_visible()

    assert receipt == []
    assert violations(page) == []


@pytest.mark.django_db(transaction=True)
def test_axe_finds_nothing_on_the_receipt_of_a_cancelled_order(open_page: OpenPage, open_sale: Sale, look: dict):
    Order.objects.create(
        sale=open_sale,
        order_id="1771063530000-0",
        user_id="ada",
        purchased_at=open_sale.starts_at,
        remaining_stock=9,
        cancelled_at=open_sale.starts_at,
    )

    page = open_page(receipts.address(open_sale.id, "1771063530000-0"), **look)

    expect(page.locator(".slip.over h1")).to_be_visible()
    assert violations(page) == []


def test_axe_finds_nothing_without_a_network(open_page: OpenPage, make_sale: MakeSale, look: dict):
    make_sale()
    page = open_page(**look)
    page.context.set_offline(True)
    expect(page.locator("#offline")).not_to_be_empty()

    assert violations(page) == []


def test_axe_finds_what_is_wrong(open_page: OpenPage, make_sale: MakeSale):
    """The control: the checks above can fail."""
    make_sale()
    page = open_page()
    page.evaluate("document.querySelector('label').remove()")
    page.evaluate("document.getElementById('limit').style.color = '#ccc'")

    assert {violation.partition(":")[0] for violation in violations(page)} >= {"label", "color-contrast"}


def test_buying_works_with_only_the_keyboard(open_page: OpenPage, make_sale: MakeSale):
    make_sale()
    page = open_page()
    expect(page.locator("#seconds")).not_to_have_text("––")

    for _ in range(3):  # the brand, the list, the field
        page.keyboard.press("Tab")
    page.keyboard.type("ada@example.com")
    page.keyboard.press("Tab")
    expect(page.locator("#press")).to_be_focused()
    assert page.locator("#press").evaluate("button => getComputedStyle(button).outlineStyle") == "solid"
    page.keyboard.press("Enter")

    expect(page.get_by_role("heading", name="You have it!")).to_be_focused()


def test_the_keyboard_waits_on_the_button_for_the_start(open_page: OpenPage, make_sale: MakeSale):
    sale = make_sale(starts_in=600)
    page = open_page()
    page.locator("#user-id").fill("ada@example.com")
    page.locator("#press").focus()
    page.keyboard.press("Enter")  # too early: nothing happens
    change(sale, starts_at=timezone.now() + timedelta(seconds=2))

    expect(page.get_by_role("button", name="Buy now")).to_be_enabled()
    expect(page.locator("#press")).to_be_focused()
    page.keyboard.press("Enter")

    expect(page.get_by_role("heading", name="You have it!")).to_be_visible()


def test_a_screen_reader_hears_milestones_and_not_every_second(open_page: OpenPage, make_sale: MakeSale):
    sale = make_sale(starts_in=58)  # of the milestones, 10 s is the next
    page = open_page()
    expect(page.locator("#seconds")).not_to_have_text("––")
    page.evaluate(
        """() => {
            window.heard = [];
            const announcer = document.getElementById("announcer");
            new MutationObserver(() => heard.push(announcer.textContent)).observe(announcer, { childList: true });
        }"""
    )

    change(sale, starts_at=timezone.now() + timedelta(seconds=12))
    expect(page.locator("#announcer")).to_have_text("The sale starts in 10 seconds.")
    change(sale, starts_at=timezone.now() + timedelta(seconds=3))
    expect(page.locator("#announcer")).to_have_text("On sale now")
    buy(page, "ada@example.com")

    expect(page.locator(".slot").get_by_role("status")).to_contain_text("You have it!")
    assert page.evaluate("heard") == ["The sale starts in 10 seconds.", "On sale now"]


BOXES = """() => ["h1", "#when", "#bar", "#buy", ".slot", "#sale", ".bottom"].map((selector) => {
  const box = document.querySelector(selector).getBoundingClientRect();
  return [selector, ...[box.x, box.y + scrollY, box.width, box.height].map(Math.round)].join(" ");
})"""
# Whether all of the answer is inside of its place.
FITS = """() => {
  const answer = document.getElementById("answer");
  return answer.scrollHeight <= answer.clientHeight && answer.scrollWidth <= answer.clientWidth;
}"""


@pytest.mark.parametrize("width", [320, 1280])  # the smallest phone, and a desk
def test_answers_shift_no_layout(open_page: OpenPage, make_sale: MakeSale, look: dict, width: int):
    make_sale()
    page = open_page(viewport={"width": width, "height": 740}, **look)

    for code in ANSWERS:
        page.reload()
        expect(page.locator("#seconds")).not_to_have_text("––")
        before = page.evaluate(BOXES)
        answer_with(page, code)

        assert page.evaluate(BOXES) == before, code
        assert page.evaluate(FITS), code


def test_axe_finds_nothing_in_an_answer(open_page: OpenPage, make_sale: MakeSale, look: dict):
    make_sale()
    page = open_page(**look)

    for code in ANSWERS:
        page.reload()
        answer_with(page, code)

        assert violations(page) == [], code


@pytest.mark.parametrize("locale", ["en-US", "de-DE"])
def test_no_page_scrolls_sideways_on_the_smallest_phone(open_page: OpenPage, make_sale: MakeSale, locale: str):
    make_sale(name="Donaudampfschifffahrtsgesellschaftskapitänsmütze", display_price="12345.00")

    page = open_page(locale=locale, viewport={"width": 320, "height": 640})

    for path in ("/", "/sales/", "/nowhere/", "/api/docs"):
        page.goto(path)
        assert page.evaluate("document.documentElement.scrollWidth") == 320, path


def test_the_first_answer_of_the_shop_moves_nothing(open_page: OpenPage, make_sale: MakeSale):
    make_sale()
    page = open_page(viewport={"width": 360, "height": 740})
    page.route("**/status*", lambda route: route.abort())
    page.reload()
    before = page.evaluate(BOXES)

    page.unroute("**/status*")
    expect(page.locator("#seconds")).to_have_text(re.compile(r"\d\d"))

    assert page.evaluate(BOXES) == before


def test_reduced_motion_is_respected(open_page: OpenPage, make_sale: MakeSale, seen: Callable[[], None]):
    make_sale()
    page = open_page(reduced_motion="reduce")
    buy(page, "ada@example.com")
    expect(page.get_by_role("heading", name="You have it!")).to_be_visible()

    longest = "Math.max(...document.getAnimations().map((motion) => motion.effect.getComputedTiming().duration), 0)"
    assert page.evaluate(longest) <= 1
