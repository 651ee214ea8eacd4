"""What an open page shows as time passes: start, end, stock, and clocks that are wrong."""

import re
from collections.abc import Callable
from datetime import timedelta

import httpx
import pytest
from django.utils import timezone
from playwright.sync_api import APIResponse, Page, Route, expect

from sales import publishing
from sales.models import Sale
from tests.browsers import buy
from tests.conftest import MakeSale, OpenPage

# Puts the shopper's clock wrong: `new Date()` and `Date.now()` are off by so much.
WRONG_CLOCK = """
  const Right = Date;
  globalThis.Date = class extends Right {
    constructor(...given) { given.length ? super(...given) : super(Right.now() + %d); }
    static now() { return Right.now() + %d; }
  };
"""

# sleepFor(ms) leaves performance.now() behind, as it is on a computer that has slept.
SLEEP = """
  const steady = performance.now.bind(performance);
  let slept = 0;
  performance.now = () => steady() - slept;
  globalThis.sleepFor = (ms) => { slept += ms; };
"""


def change(sale: Sale, **fields: object) -> None:
    for name, value in fields.items():
        setattr(sale, name, value)
    sale.save()
    publishing.publish(sale)


def hide(page: Page, is_hidden: bool) -> None:
    page.evaluate(
        """(isHidden) => {
            Object.defineProperty(document, "hidden", { configurable: true, get: () => isHidden });
            document.dispatchEvent(new Event("visibilitychange"));
        }""",
        is_hidden,
    )


def test_the_sale_starts_while_the_page_is_open(open_page: OpenPage, make_sale: MakeSale):
    sale = make_sale(starts_in=600)
    page = open_page()
    page.evaluate("window.sameDocument = true")

    expect(page.get_by_role("button", name="Not open yet")).to_be_disabled()
    expect(page.locator("#seconds")).to_have_text(re.compile(r"\d\d"))
    change(sale, starts_at=timezone.now() + timedelta(seconds=2))
    expect(page.get_by_role("button", name="Buy now")).to_be_enabled()
    buy(page, "ada@example.com")

    expect(page.get_by_role("heading", name="You have it!")).to_be_visible()
    assert page.evaluate("window.sameDocument")


@pytest.mark.parametrize("hours", [-1, pytest.param(1, marks=pytest.mark.long)])
def test_a_clock_that_is_off_by_an_hour_changes_nothing(open_page: OpenPage, make_sale: MakeSale, hours: int):
    sale = make_sale(starts_in=600)
    off_ms = hours * 3_600_000

    page = open_page(script=WRONG_CLOCK % (off_ms, off_ms))

    expect(page.locator("#minutes")).to_have_text(re.compile("0[5-9]"))
    expect(page.locator("#hours")).to_have_text("00")
    change(sale, starts_at=timezone.now() + timedelta(seconds=2))
    expect(page.get_by_role("button", name="Buy now")).to_be_enabled()
    buy(page, "ada@example.com")
    expect(page.get_by_role("heading", name="You have it!")).to_be_visible()


def test_the_countdown_does_not_run_back_while_nothing_changes(open_page: OpenPage, make_sale: MakeSale):
    make_sale(lasts=120)
    page = open_page()
    expect(page.locator("#minutes")).to_have_text("00")

    page.evaluate(
        """() => {
            const left = () => Number(document.getElementById("seconds").textContent);
            window.before = left();
            window.ranBack = false;
            setInterval(() => { window.ranBack ||= left() > window.before; window.before = left(); }, 50);
        }"""
    )
    for _ in range(3):
        with page.expect_response("**/status*"):
            page.evaluate("dispatchEvent(new Event('online'))")

    assert page.evaluate("window.ranBack") is False


def test_after_sleep_the_countdown_is_right_again(open_page: OpenPage, make_sale: MakeSale):
    make_sale(starts_in=2 * 3600 - 60)
    page = open_page(script=SLEEP)
    expect(page.locator("#hours")).to_have_text("01")

    with page.expect_response("**/status*"):
        page.evaluate("sleepFor(3_600_000)")

    expect(page.locator("#hours")).to_have_text("01")
    expect(page.locator("#minutes")).to_have_text(re.compile("5[0-9]"))


def test_an_answer_delayed_by_sleep_does_not_set_the_clock(open_page: OpenPage, make_sale: MakeSale):
    make_sale(starts_in=2 * 3600 - 60)
    page = open_page(script=SLEEP)
    expect(page.locator("#hours")).to_have_text("01")
    waiting: list[tuple[Route, APIResponse]] = []
    page.route("**/status*", lambda route: waiting.append((route, route.fetch())), times=1)
    with page.expect_request("**/status*"):
        page.evaluate("dispatchEvent(new Event('online'))")

    with page.expect_response("**/status*"):
        page.evaluate("sleepFor(3_600_000)")
    [(route, answer)] = waiting
    an_hour_old = answer.json() | {"serverTime": (timezone.now() - timedelta(hours=1)).isoformat()}
    with page.expect_event("requestfinished"):
        route.fulfill(response=answer, json=an_hour_old)

    page.wait_for_timeout(500)  # the page shows its time every 250 ms; that nothing happens has no event to wait for
    expect(page.locator("#hours")).to_have_text("01")
    expect(page.locator("#minutes")).to_have_text(re.compile("5[0-9]"))


def test_a_slow_clock_does_not_hold_up_the_countdown(open_page: OpenPage, make_sale: MakeSale):
    make_sale(starts_in=600)

    page = open_page(script=WRONG_CLOCK % (-3_600_000, -3_600_000))
    expect(page.locator("#hours")).to_have_text(re.compile(r"\d\d"))

    assert page.locator("#hours").inner_text() == "00"


def test_a_cached_answer_does_not_set_the_clock(open_page: OpenPage, make_sale: MakeSale):
    make_sale(starts_in=2 * 3600 - 60)
    page = open_page()

    def answer_from_cache(route: Route) -> None:
        answer = route.fetch()
        an_hour_old = answer.json() | {"serverTime": (timezone.now() - timedelta(hours=1)).isoformat()}
        route.fulfill(response=answer, json=an_hour_old)

    page.route(re.compile("/status$"), answer_from_cache)  # no cache has an answer for "?fresh=1"
    page.reload()
    expect(page.locator("#hours")).to_have_text(re.compile(r"\d\d"))

    assert page.locator("#hours").inner_text() == "01"


def test_a_hidden_page_polls_only_once_it_is_visible_again(open_page: OpenPage, open_sale: Sale):
    page = open_page()
    expect(page.locator("#seconds")).not_to_have_text("––")
    hide(page, True)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))

    page.wait_for_timeout(3_500)  # more than a poll takes; that nothing happens has no event to wait for
    assert asked == []
    change(open_sale, paused=True)
    hide(page, False)

    expect(page.locator("#state")).to_have_text("Paused")


def test_the_page_hears_of_a_pause(open_page: OpenPage, open_sale: Sale):
    page = open_page()
    expect(page.locator("#state")).to_have_text("On sale now")

    change(open_sale, paused=True)

    expect(page.locator("#state")).to_have_text("Paused")
    expect(page.get_by_role("button")).to_be_disabled()


def test_the_page_hears_of_a_new_end(open_page: OpenPage, open_sale: Sale):
    page = open_page()
    expect(page.locator("#state")).to_have_text("On sale now")

    change(open_sale, ends_at=timezone.now() + timedelta(seconds=2))

    expect(page.locator("#state")).to_have_text("Ended")
    expect(page.get_by_role("button", name="Ended")).to_be_disabled()
    expect(page.locator("#seconds")).to_have_text("00")


def test_the_last_unit_goes_while_the_page_is_open(open_page: OpenPage, make_sale: MakeSale):
    make_sale(stock=1)
    first, second = open_page(), open_page()
    expect(second.locator("#seconds")).not_to_have_text("––")

    buy(first, "ada@example.com")
    expect(first.get_by_role("heading", name="You have it!")).to_be_visible()
    second.locator("#user-id").fill("bob@example.com")

    expect(second.locator("#state")).to_have_text(re.compile(r"Sold out in \d+ (seconds|minutes)"))
    expect(second.get_by_role("button", name="Sold out")).to_be_disabled()
    expect(second.locator("#left")).to_have_text("0 of 1 left")
    expect(second.locator("#user-id")).to_have_value("bob@example.com")


@pytest.mark.parametrize("javascript", [True, False])
def test_late_visitors_read_how_fast_the_sale_sold_out(
    open_page: OpenPage, make_sale: MakeSale, http: httpx.Client, seen: Callable[[], None], javascript: bool
):
    sale = make_sale(stock=1, starts_in=-65)
    seen()
    http.post("/api/sale/purchase", json={"userId": "ada@example.com"}).raise_for_status()
    config = publishing.standing(sale).config
    seconds = (int(config["sold_out_ms"]) - int(config["starts_ms"])) // 1000

    page = open_page(java_script_enabled=javascript)

    if javascript:
        expect(page.locator("#seconds")).not_to_have_text("––")
    expect(page.locator("#state")).to_have_text(re.compile(rf"Sold out in ({seconds}|{seconds + 1}) seconds"))
