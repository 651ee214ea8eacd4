"""The live dashboard and the analytics in a real browser: they move by themselves, on any screen, for everybody."""

import re
import time
from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from sales import store
from sales.models import Sale
from tests.browsers import is_defect
from tests.conftest import MakeSale
from tests.servers import WebServer
from tests.test_accessibility import violations
from tests.test_analytics import attempt, sell
from tests.test_desk_browser import PHONE, OpenDesk, desk_of
from tests.writers import OrderWriter

pytestmark = pytest.mark.django_db(transaction=True)  # the server, another process, reads SQL

WALL = {"width": 1920, "height": 1080}
# The units sold by their tile, and by the table of the buyers.
SHOWN = """[
  Number(document.querySelector("[data-tile=sold] .live-value").textContent),
  [...document.querySelectorAll("[data-chart=buyers] td")].reduce((sum, cell) => sum + Number(cell.textContent), 0),
]"""


@pytest.fixture
def open_desk(chromium: Browser, server: WebServer) -> Iterator[OpenDesk]:
    with desk_of(chromium, server) as open_it:
        yield open_it


def buy(http: httpx.Client, *names: str) -> None:
    for name in names:
        answer = http.post("/api/sale/purchase", json={"userId": name})
        assert answer.json()["code"] == "purchased", answer.text


def live(sale: Sale) -> str:
    return f"/admin/sales/sale/{sale.id}/live/"


def value(page: Page, key: str) -> Locator:
    return page.locator(f'[data-tile="{key}"] .live-value')


def drawn(page: Page) -> None:
    expect(page.locator(".chart-plot canvas")).to_have_count(4)


def test_the_numbers_move_without_a_reload(open_desk: OpenDesk, open_sale: Sale, http: httpx.Client):
    with OrderWriter():
        page = open_desk(live(open_sale))
        drawn(page)
        expect(value(page, "sold")).to_have_text("0")

        buy(http, "ada", "bob", "eve")

        expect(value(page, "sold")).to_have_text("3")
        expect(value(page, "remaining")).to_have_text("7")
        expect(page.locator('[data-tile="buyers"] .live-detail')).to_have_text(re.compile("peak [123]"))
        expect(page.locator('[data-tile="backlog"] .live-detail')).to_have_text("all orders are in SQL")


def test_a_purchase_is_in_the_picture_within_two_seconds(open_desk: OpenDesk, make_sale: MakeSale, http: httpx.Client):
    sale = make_sale(stock=100)
    page = open_desk(live(sale))
    drawn(page)
    page.locator('[data-chart="buyers"] summary').click()
    for number in range(1, 4):
        buy(http, f"shopper-{number}")
        deadline = time.monotonic() + 60
        while (shown := page.evaluate(SHOWN)) != [number, number]:
            assert time.monotonic() < deadline, shown
            time.sleep(0.05)


def test_a_table_beside_each_chart_says_the_same(open_desk: OpenDesk, open_sale: Sale, http: httpx.Client):
    buy(http, "ada")
    page = open_desk(live(open_sale))
    drawn(page)

    page.get_by_text("As a table: Buyers per second").click()

    expect(page.get_by_role("region", name="Table: Buyers per second").locator("td", has_text="1")).to_have_count(1)


def test_milestones_are_announced_to_screen_readers(open_desk: OpenDesk, make_sale: MakeSale, http: httpx.Client):
    sale = make_sale(stock=2)
    page = open_desk(live(sale))
    drawn(page)

    buy(http, "ada")
    expect(page.get_by_role("status")).to_contain_text("50 % of the units remain")
    buy(http, "bob")

    expect(page.get_by_role("status")).to_contain_text("Sold out, ends in")


def test_a_writer_that_does_not_run_becomes_a_worry(open_desk: OpenDesk, open_sale: Sale, http: httpx.Client):
    page = open_desk(live(open_sale))

    buy(http, "ada")

    tile = page.locator('[data-tile="backlog"]')
    expect(tile).to_contain_text("see that manage.py write_orders runs")
    assert "worries" in (tile.get_attribute("class") or "")


def test_an_offline_server_is_shown_until_it_returns(open_desk: OpenDesk, open_sale: Sale, http: httpx.Client):
    page = open_desk(live(open_sale))
    drawn(page)

    page.context.set_offline(True)
    expect(page.get_by_role("alert")).to_contain_text("The server cannot be reached.")
    expect(page.locator("#live-age")).to_contain_text("s old")
    buy(http, "ada")
    page.context.set_offline(False)

    expect(value(page, "sold")).to_have_text("1")
    expect(page.get_by_role("alert")).to_be_hidden()


def test_a_limited_address_is_shown_and_keeps_asking(open_desk: OpenDesk, open_sale: Sale, http: httpx.Client):
    page = open_desk(live(open_sale))
    drawn(page)

    page.route("**/live/data/**", lambda route: route.fulfill(status=429, headers={"Retry-After": "1"}))
    expect(page.get_by_role("alert")).to_contain_text("ADDRESS_RATE")
    page.unroute("**/live/data/**")

    buy(http, "ada")
    expect(value(page, "sold")).to_have_text("1")


def test_a_signed_out_operator_sees_a_notice(open_desk: OpenDesk, open_sale: Sale):
    page = open_desk(live(open_sale))
    drawn(page)

    page.context.clear_cookies()

    expect(page.get_by_role("alert")).to_contain_text("You are signed out.")


def test_the_wall_screen_is_full_and_does_not_scroll(open_desk: OpenDesk, open_sale: Sale, http: httpx.Client):
    page = open_desk(f"{live(open_sale)}?wall", viewport=WALL)
    drawn(page)

    buy(http, "ada")

    expect(value(page, "remaining")).to_have_text("9")
    size = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.scrollHeight]")
    assert size == [WALL["width"], WALL["height"]]
    assert value(page, "remaining").evaluate("element => parseFloat(getComputedStyle(element).fontSize)") > 150
    for tile in page.locator(".live-tile, .chart").all():
        box = tile.bounding_box()
        assert box
        assert box["y"] + box["height"] <= WALL["height"]


def test_the_wall_screen_has_room_for_a_million(open_desk: OpenDesk, make_sale: MakeSale):
    sale = make_sale(stock=1_000_000)
    page = open_desk(f"{live(sale)}?wall", viewport=WALL)
    drawn(page)

    expect(value(page, "remaining")).to_have_text("1,000,000")
    assert value(page, "remaining").evaluate("element => element.scrollWidth <= element.clientWidth")


def test_without_javascript_the_numbers_can_be_reloaded(open_desk: OpenDesk, open_sale: Sale, http: httpx.Client):
    page = open_desk(live(open_sale), java_script_enabled=False)
    expect(value(page, "sold")).to_have_text("0")

    buy(http, "ada")
    page.get_by_role("link", name="Load it again").click()

    expect(value(page, "sold")).to_have_text("1")
    expect(page.get_by_text("As a table").first).to_be_visible()


def a_past(sale: Sale) -> None:
    sell(sale, 1, 2, 40)
    attempt(sale, 1, purchased=1, sold_out=3)
    attempt(sale, 2, purchased=1, already_purchased=3)
    attempt(sale, 40, purchased=1)


def test_the_analytics_are_drawn(open_desk: OpenDesk, make_sale: MakeSale):
    sale = make_sale(stock=3)
    a_past(sale)
    page = open_desk(f"/admin/sales/sale/{sale.id}/analytics/")

    drawn(page)
    expect(value(page, "sellout")).to_have_text("40.0 s")
    expect(page.get_by_role("row", name="within 5 s 2")).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("link", name="Seconds as CSV").click()
    assert download.value.suggested_filename == f"{sale.slug}-seconds.csv"


VIEWS = ("live/", "live/?wall", "analytics/")


@pytest.mark.long
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nobody_is_kept_out(open_desk: OpenDesk, make_sale: MakeSale, scheme: str):
    sale = make_sale(name="Limited Edition Widget in Blue", stock=3)
    a_past(sale)
    store.client().incr(store.key(sale.id, "stock"))  # a drift, so that a tile worries
    page = open_desk("/admin/", viewport=PHONE, color_scheme=scheme)
    found: dict[str, list[str]] = {}

    for view in VIEWS:
        page.goto(f"/admin/sales/sale/{sale.id}/{view}")
        drawn(page)
        for summary in page.locator("summary").all():
            if summary.is_visible():
                summary.click()
        found[view] = violations(page)
        if page.evaluate("document.documentElement.scrollWidth") > PHONE["width"]:
            found[view].append("a phone does not show all of it")

    assert {where: wrong for where, wrong in found.items() if wrong} == {}


def test_nothing_is_drawn_that_the_security_policy_refuses(open_desk: OpenDesk, make_sale: MakeSale):
    sale = make_sale(stock=3)
    a_past(sale)
    page = open_desk(f"/admin/sales/sale/{sale.id}/live/data/")
    errors: list[str] = []
    page.on("console", lambda message: errors.append(message.text) if is_defect(message) else None)

    for view in VIEWS:
        page.set_viewport_size({"width": 1280, "height": 720})
        page.emulate_media(color_scheme="light")
        page.goto(f"/admin/sales/sale/{sale.id}/{view}")
        drawn(page)
        page.set_viewport_size({"width": 700, "height": 900})
        page.emulate_media(color_scheme="dark")
        drawn(page)
        assert errors == [], view


@pytest.mark.long
def test_nobody_is_kept_out_of_the_desktop_s(open_desk: OpenDesk, make_sale: MakeSale):
    sale = make_sale(stock=3)
    a_past(sale)
    page = open_desk("/admin/")
    found: dict[str, list[str]] = {}

    for view in ("live/", "analytics/"):
        page.goto(f"/admin/sales/sale/{sale.id}/{view}")
        drawn(page)
        found[view] = violations(page)

    assert {where: wrong for where, wrong in found.items() if wrong} == {}
