"""How an open page keeps up to date: by events where they come, by asking where they do not."""

import re

import pytest
from playwright.sync_api import Page, expect

from sales import publishing
from sales.models import Sale
from tests.conftest import OpenPage


def count_asked(page: Page) -> list[str]:
    """Return a list that grows by the last word of each address of the API that the page asks for."""
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url.rpartition("/")[2]) if "/api/" in request.url else None)
    return asked


def pause(sale: Sale) -> None:
    sale.paused = True
    sale.save()
    publishing.publish(sale)


def test_a_page_that_hears_events_does_not_ask(open_page: OpenPage, open_sale: Sale):
    page = open_page("/sales/")
    asked = count_asked(page)
    page.goto("/")
    expect(page.locator("#seconds")).to_have_text(re.compile(r"\d\d"))

    for _ in range(10):  # what it asks before it hears events may take its time
        before = len(asked)
        page.wait_for_timeout(4_000)  # longer than a page that asks would wait
        if len(asked) == before:
            break
    pause(open_sale)

    expect(page.locator("#state")).to_have_text("Paused")
    assert len(asked) == before


@pytest.mark.parametrize("refused", [{"status": 503, "json": {"code": "too_many_listeners"}}, None])
def test_a_page_that_hears_no_events_asks(open_page: OpenPage, open_sale: Sale, refused: dict | None):
    page = open_page("/sales/")
    page.route("**/events", lambda route: route.fulfill(**refused) if refused else route.abort())
    page.goto("/")
    expect(page.locator("#seconds")).to_have_text(re.compile(r"\d\d"))

    pause(open_sale)

    expect(page.locator("#state")).to_have_text("Paused")


def test_a_page_with_a_set_clock_accepts_cached_status(open_page: OpenPage, open_sale: Sale):
    page = open_page("/sales/")
    page.route("**/events", lambda route: route.abort())
    asked = count_asked(page)
    page.goto("/")
    expect(page.locator("#seconds")).to_have_text(re.compile(r"\d\d"))

    for _ in range(60):  # a question that follows too closely on another makes that one's answer worth nothing
        with page.expect_response("**/status*"):
            page.evaluate("dispatchEvent(new Event('online'))")
        if asked[-1] == "status":
            break

    statuses = [word for word in asked if word.startswith("status")]
    assert statuses[:3] == ["status?fresh=1"] * 3
    assert statuses[-1] == "status"


def test_a_page_that_comes_back_listens_again(open_page: OpenPage, open_sale: Sale):
    page = open_page()
    expect(page.locator("#seconds")).to_have_text(re.compile(r"\d\d"))
    page.get_by_role("link", name="All sales").first.click()
    asked = count_asked(page)

    page.go_back()
    pause(open_sale)

    expect(page.locator("#state")).to_have_text("Paused")
    assert "events" in asked
