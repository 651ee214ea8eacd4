"""Pictures of all pages in all states, phone and desktop, light and dark, for docs/screenshots: `make screenshots`."""

import io
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, ViewportSize, expect

from tests.browsers import buy, show_refusal
from tests.conftest import MakeSale, OpenPage
from tests.servers import WebServer
from tests.test_desk_browser import desk_of
from tests.writers import OrderWriter

SIZES: dict[str, ViewportSize] = {"phone": {"width": 360, "height": 780}, "desktop": {"width": 1280, "height": 800}}
WALL: ViewportSize = {"width": 1920, "height": 1080}
QUALITY = 82

ABOUT = {"description": "One hundred were made, and there will be no more.", "display_price": "49.00"}
HOUR = 3600


def press(page: Page) -> None:
    buy(page, "ada@example.com")
    expect(page.locator("#answer")).to_be_visible()


def press_twice(page: Page) -> None:
    press(page)
    page.reload()
    press(page)


def mistype(page: Page) -> None:
    buy(page, "ada\u200b@example.com")
    expect(page.locator("#answer")).to_be_visible()


def lose_the_answer(page: Page) -> None:
    page.route("**/purchase", lambda route: route.fulfill(status=503, json={"code": "unknown"}))
    press(page)


def go_offline(page: Page) -> None:
    page.context.set_offline(True)
    expect(page.locator("#offline")).not_to_be_empty()


def look(page: Page) -> None:
    """What is there is the picture."""


STATES: dict[str, tuple[dict[str, Any], Callable[[Page], None]]] = {
    "upcoming": ({"starts_in": 2 * HOUR}, look),
    "open": ({}, look),
    "bought": ({}, press),
    "already-bought": ({}, press_twice),
    "sold-out": ({"stock": 0}, look),
    "paused": ({"paused": True}, look),
    "ended": ({"starts_in": -2 * HOUR, "lasts": HOUR}, look),
    "mistyped": ({}, mistype),
    "not-sure": ({}, lose_the_answer),
    "offline": ({}, go_offline),
}


def save(page: Page, path: Path) -> None:
    shot = Image.open(io.BytesIO(page.screenshot(full_page=True, animations="disabled")))
    shot.convert("RGB").save(path, quality=QUALITY, method=6)


@pytest.fixture
def picture(project_dir: Path) -> Callable[[Page, str], None]:
    folder = project_dir / "docs" / "screenshots"
    folder.mkdir(exist_ok=True)

    def take(page: Page, name: str) -> None:
        for size, viewport in SIZES.items():
            page.set_viewport_size(viewport)
            for scheme in ("light", "dark"):
                page.emulate_media(color_scheme=scheme)
                save(page, folder / f"{name}-{size}-{scheme}.webp")

    return take


@pytest.mark.parametrize("state", STATES)
def test_the_sale_page(open_page: OpenPage, make_sale: MakeSale, picture: Callable[[Page, str], None], state: str):
    fields, act = STATES[state]
    stock = fields.get("stock", 100)
    make_sale(**{**ABOUT, **fields, "stock": stock or 1})
    if not stock:
        press(open_page())
    page = open_page()
    if state != "ended":
        expect(page.locator("#seconds")).not_to_have_text("––")

    act(page)

    picture(page, f"sale-{state}")


def test_the_sale_page_in_german(open_page: OpenPage, make_sale: MakeSale, picture: Callable[[Page, str], None]):
    make_sale(**ABOUT)
    page = open_page(locale="de-DE")
    press(page)

    picture(page, "sale-bought-german")


def test_the_sale_page_without_javascript(
    open_page: OpenPage, make_sale: MakeSale, picture: Callable[[Page, str], None]
):
    make_sale(**ABOUT)

    picture(open_page(java_script_enabled=False), "sale-without-javascript")


def test_the_list(open_page: OpenPage, make_sale: MakeSale, picture: Callable[[Page, str], None]):
    make_sale(100, **ABOUT)
    make_sale(1200, name="Linen Apron", display_price="85.00", paused=True)
    make_sale(250, name="Ceramic Pour-Over Set", display_price="39.00", starts_in=2 * HOUR)
    make_sale(40, name="Walnut Desk Lamp", display_price="129.00", starts_in=-30 * HOUR)

    picture(open_page("/sales/"), "sales")


@pytest.mark.parametrize(("path", "name"), [("/sales/nothing/", "no-sale"), ("/nowhere/", "not-found")])
def test_refusals(open_page: OpenPage, picture: Callable[[Page, str], None], path: str, name: str):
    picture(open_page(path), name)


@pytest.mark.parametrize(
    ("code", "name"), [("rate_limited", "too-often"), ("server_error", "defect"), ("unavailable", "unavailable")]
)
def test_refusals_that_take_trouble(
    open_page: OpenPage, make_sale: MakeSale, picture: Callable[[Page, str], None], code: str, name: str
):
    make_sale(**ABOUT)
    page = open_page()

    show_refusal(page, code)

    picture(page, name)


@pytest.mark.django_db(transaction=True)  # the server, another process, reads SQL
def test_the_receipt(open_page: OpenPage, make_sale: MakeSale, picture: Callable[[Page, str], None]):
    make_sale(**ABOUT)
    page = open_page(java_script_enabled=False)
    buy(page, "ada@example.com")
    expect(page.locator("#bought-at")).to_be_visible()

    picture(open_page(page.url), "receipt")


@pytest.mark.django_db(transaction=True)  # the server, another process, reads SQL
def test_the_way_to_the_receipt(open_page: OpenPage, make_sale: MakeSale, picture: Callable[[Page, str], None]):
    make_sale(**ABOUT)
    page = open_page("/orders/find/")
    page.locator("#user-id").fill("bob@example.com")
    page.locator(".find button").first.click()
    expect(page.get_by_role("alert")).to_be_visible()

    picture(page, "find-order")


class Crowd(threading.Thread):
    """Attempts from a few connections, more and more of them, by shoppers of whom some come again."""

    def __init__(self, url: str, seconds: float):
        super().__init__()
        self._url, self._ends_at, self._began_at = url, time.monotonic() + seconds, time.monotonic()

    def run(self) -> None:
        with httpx.Client(base_url=self._url) as client:
            while (now := time.monotonic()) < self._ends_at:
                name = f"shopper-{random.randrange(30_000)}@example.com"
                client.post("/api/sale/purchase", json={"userId": name})
                time.sleep(0.02 / (1 + (now - self._began_at) / 6))


@pytest.mark.django_db(transaction=True)  # the server, another process, reads SQL
def test_the_desk_while_a_sale_runs_and_afterwards(
    chromium: Browser, server: WebServer, make_sale: MakeSale, picture: Callable[[Page, str], None], project_dir: Path
):
    make_sale(250, name="Blue Enamel Kettle", starts_in=-4 * 24 * HOUR, lasts=HOUR)
    sale = make_sale(9_000, name="Walnut Desk Lamp", starts_in=8, lasts=600)
    with desk_of(chromium, server) as open_desk, OrderWriter():
        page = open_desk(f"/admin/sales/sale/{sale.id}/live/")
        wall = open_desk(f"/admin/sales/sale/{sale.id}/live/?wall", viewport=WALL)
        crowd = [Crowd(server.url, seconds=50) for _ in range(10)]
        for part in crowd:
            part.start()
        time.sleep(18)
        save(wall, project_dir / "docs" / "screenshots" / "desk-wall-desktop-dark.webp")
        picture(page, "desk-live")
        for part in crowd:
            part.join()
        time.sleep(2)
        picture(open_desk(f"/admin/sales/sale/{sale.id}/analytics/"), "desk-analytics")
