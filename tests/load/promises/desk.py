"""How far the dashboard of a running sale is behind, in a real browser."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from playwright.sync_api import Page

from tests.load.promises.promise import Missing, promised
from tests.load.promises.shops import Shop, plain, seconds_until

SHOWN = 'document.querySelector("[data-tile=sold] .live-value").textContent'


class Watched(NamedTuple):
    """A shop, and the page on which an operator watches it sell."""

    shop: Shop
    page: Page


@contextmanager
def live() -> Iterator[Watched]:
    from tests import browsers, parts

    if not browsers.CHROMIUM:
        raise Missing(f"no chromium; on Debian: apt install {parts.PACKAGES['chromium']}")
    with plain() as shop, browsers.chromium() as browser:
        context = browser.new_context(base_url=shop.url)
        context.add_cookies([{"name": "sessionid", "value": shop.operator.session, "url": shop.url}])
        page = context.new_page()
        page.goto(f"/admin/sales/sale/{shop.sale_id}/live/")
        yield Watched(shop, page)


@promised("*Live* shows a purchase", "README.md", within=2.0, on=live, rounds=20)
def live_dashboard(watched: Watched) -> float:
    before = watched.page.evaluate(SHOWN)
    watched.shop.sell()
    return seconds_until(lambda: watched.page.evaluate(SHOWN) != before)
