"""Take pictures of all pages in all states into docs/screenshots: `make screenshots`."""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from tests import environment  # noqa: F401 (before Django's settings are read)

os.environ["DJANGO_SETTINGS_MODULE"] = "flashsale.settings"

import django

django.setup()

from django.conf import settings
from django.core.management import call_command
from django.utils import timezone
from PIL import Image
from playwright.sync_api import Page, expect

from flashsale import embedded_redis
from flashsale.supervisor import Process
from sales import publishing
from sales.models import Sale
from tests.browsers import Visitor, buy, chromium
from tests.servers import RedisServer, WebServer, free_port

FOLDER = settings.BASE_DIR / "docs" / "screenshots"
SIZES = {"phone": {"width": 360, "height": 780}, "desktop": {"width": 1280, "height": 800}}
COLOURS = 200

SALES = {
    "open": ("Limited Edition Widget", 100, -1, 48, {"description": "One hundred were made, and there will be no more."}),
    "upcoming": ("Ceramic Pour-Over Set", 250, 2, 48, {"description": "Thrown by hand: a dripper, a carafe, two cups."}),
    "paused": ("Linen Apron", 1200, -1, 48, {"paused": True}),
    "sold-out": ("Wool Blanket, Undyed", 1, -1, 48, {}),
    "ended": ("Walnut Desk Lamp", 40, -48, 24, {}),
}


@contextmanager
def shop() -> Iterator[str]:
    """A web server with a sale in every state; its address."""
    settings.DATABASES["default"]["NAME"] = settings.VAR_DIR / "screenshots.sqlite3"
    call_command("migrate", verbosity=0)
    call_command("collectstatic", verbosity=0, interactive=False)
    redis = RedisServer(Process("Redis", embedded_redis.command(settings.VAR_DIR)))
    redis.start()
    server = WebServer({"PORT": str(free_port())})
    try:
        for slug, (name, stock, starts_in, lasts, fields) in SALES.items():
            starts_at = timezone.now().replace(minute=0, second=0) + timedelta(hours=starts_in)
            ends_at = starts_at + timedelta(hours=lasts)
            fields = {"display_price": "49.00", "slug": slug, "name": name, "total_stock": stock, **fields}
            publishing.publish(Sale.objects.create(starts_at=starts_at, ends_at=ends_at, **fields))
        publishing.publish_all()
        server.start()
        yield server.url
    finally:
        if server.popen:
            server.stop()
        redis.stop()


def show_sale(page: Page) -> None:
    expect(page.locator("#seconds")).to_have_text("––", timeout=1) if page.locator("#sale").count() == 0 else None


def purchased(page: Page) -> None:
    buy(page, f"ada{os.urandom(3).hex()}@example.com")
    expect(page.locator("#order-id")).to_be_visible()


def answered(code: str) -> object:
    def act(page: Page) -> None:
        page.route("**/purchase", lambda route: route.fulfill(status=409, json={"code": code}))
        buy(page, "ada@example.com")
        expect(page.locator("#answer")).to_be_visible()

    return act
