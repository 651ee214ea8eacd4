"""A real browser for tests and screenshots: Debian's chromium, driven by Playwright.

Its headless shell is the same engine without windows, and opens a page in half of the time.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.test import RequestFactory
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect, sync_playwright

from sales import refusals
from tests import parts

BROWSERS = "chromium-headless-shell", "chromium", "google-chrome", "chrome"
CHROMIUM = next((path for name in BROWSERS if (path := shutil.which(name))), None)
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
# The tests' machine may be slow and shared.
PATIENCE_MS = 30_000

expect.set_options(timeout=PATIENCE_MS)


@contextmanager
def chromium() -> Iterator[Browser]:
    executable = parts.need("chromium", CHROMIUM)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=ARGUMENTS)
        yield browser
        browser.close()


class Visitor:
    """Opens pages, each for a shopper of its own. Script errors, also those of the security policy, are in `errors`."""

    def __init__(self, browser: Browser, base_url: str):
        self._browser, self._base_url = browser, base_url
        self._contexts: list[BrowserContext] = []
        self.errors: list[str] = []

    def open(self, path: str = "/", *, script: str = "", **options: Any) -> Page:
        context = self._browser.new_context(base_url=self._base_url, **{"locale": "en-US", **options})
        self._contexts.append(context)
        if script:
            context.add_init_script(script)
        return self.tab(context, path)

    def tab(self, context: BrowserContext, path: str = "/") -> Page:
        """Open a page in the browser of a shopper who has one open already."""
        page = context.new_page()
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda message: self.errors.append(message.text) if is_defect(message) else None)
        page.goto(path)
        return page

    def close(self) -> None:
        for context in self._contexts:
            context.close()


def is_defect(message: ConsoleMessage) -> bool:
    # The browser reports the API's refusals (409) as failed loads; they are answers.
    return message.type == "error" and "Failed to load resource" not in message.text


def show_refusal(page: Page, code: str) -> None:
    """Open the page that a shopper gets who is refused with this code, without bringing the server to it."""
    refused = refusals.refusal(RequestFactory().get("/"), code)
    page.route(
        "**/refused/",
        lambda route: route.fulfill(status=refused.status_code, headers=dict(refused.items()), body=refused.content),
    )
    page.goto("/refused/")


def buy(page: Page, user_id: str) -> None:
    page.locator("#user-id").fill(user_id)
    page.locator("#press").click()


def resize(page: Page, width: int, height: int = 740) -> None:
    """Give a page another size, and return when it is laid out for it."""
    page.set_viewport_size({"width": width, "height": height})
    page.wait_for_function("(width) => innerWidth === width", arg=width)
    page.evaluate("() => new Promise((next) => requestAnimationFrame(() => requestAnimationFrame(next)))")
