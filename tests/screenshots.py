"""Pictures of all pages in all states, phone and desktop, light and dark, for docs/screenshots: `make screenshots`."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Page, ViewportSize, expect

from tests.browsers import buy, show_refusal
from tests.conftest import MakeSale, OpenPage

SIZES: dict[str, ViewportSize] = {"phone": {"width": 360, "height": 780}, "desktop": {"width": 1280, "height": 800}}
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


@pytest.fixture
def picture(project_dir: Path) -> Callable[[Page, str], None]:
    folder = project_dir / "docs" / "screenshots"
    folder.mkdir(exist_ok=True)

    def take(page: Page, name: str) -> None:
        for size, viewport in SIZES.items():
            page.set_viewport_size(viewport)
            for scheme in ("light", "dark"):
                page.emulate_media(color_scheme=scheme)
                shot = Image.open(io.BytesIO(page.screenshot(full_page=True, animations="disabled")))
                shot.convert("RGB").save(folder / f"{name}-{size}-{scheme}.webp", quality=QUALITY, method=6)

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
    page.locator(".find button").click()
    expect(page.get_by_role("alert")).to_be_visible()

    picture(page, "find-order")
