"""The list of sales: live, next and past, from what the workers know of Redis."""

import re
from collections.abc import Callable

import httpx
import pytest

from sales import directory, store
from sales.directory import Listing
from tests.conftest import MakeSale

MINUTE = 60


def shelves(http: httpx.Client) -> dict[str, list[str]]:
    """Return the names on the list by the title above them."""
    sections = re.split(r"<h2>(.*?)</h2>", http.get("/sales/").text)[1:]
    return {
        title: re.findall(r"<h3>(.*?)</h3>", body) for title, body in zip(sections[::2], sections[1::2], strict=True)
    }


def test_sales_stand_where_they_belong(http: httpx.Client, make_sale: MakeSale, seen: Callable[[], None]):
    make_sale(name="Open", lasts=60 * MINUTE)
    make_sale(name="Open, ends first", lasts=30 * MINUTE)
    make_sale(name="Later", starts_in=20 * MINUTE)
    make_sale(name="Next", starts_in=10 * MINUTE)
    make_sale(name="Long over", starts_in=-90 * MINUTE, lasts=MINUTE)
    make_sale(name="Just over", starts_in=-10 * MINUTE, lasts=MINUTE)
    make_sale(name="Hidden", published=False)
    seen()

    assert shelves(http) == {
        "On sale now": ["Open, ends first", "Open"],
        "Coming next": ["Next", "Later"],
        "Past sales": ["Just over", "Long over"],
    }


def test_a_list_without_sales_says_so(http: httpx.Client, seen: Callable[[], None]):
    seen()

    assert "No sale is announced yet. Come back soon." in http.get("/sales/").text


def test_each_sale_shows_its_state_price_and_stock(http: httpx.Client, make_sale: MakeSale, seen: Callable[[], None]):
    make_sale(stock=1200, name="Apron", display_price="1250", currency="EUR", paused=True)
    seen()

    text = http.get("/sales/", headers={"Accept-Language": "de"}).text

    for words in ("Angehalten", "1.250,00\xa0€", "Noch 1.200 von 1.200", 'href="/sales/apron/"'):
        assert words in text


def test_a_sale_that_redis_has_lost_hides_no_other(http: httpx.Client, make_sale: MakeSale, seen: Callable[[], None]):
    lost = make_sale(name="Lost")
    make_sale(name="Kept")
    store.client().delete(store.key(lost.id, "config"))
    seen()

    assert shelves(http) == {"On sale now": ["Kept"]}


def test_the_list_is_cached_as_the_sale_page_is(http: httpx.Client, make_sale: MakeSale, seen: Callable[[], None]):
    make_sale()
    seen()
    page = http.get("/sales/")

    assert page.headers["cache-control"] == "public, max-age=1"
    assert page.headers["content-encoding"] == "gzip"
    assert http.get("/sales/", headers={"If-None-Match": page.headers["etag"]}).status_code == 304


@pytest.mark.parametrize("path", ["/", "/sales/", "/nowhere/"])
def test_every_page_links_to_the_list(http: httpx.Client, make_sale: MakeSale, seen: Callable[[], None], path: str):
    make_sale()
    seen()

    assert 'href="/sales/"' in http.get(path).text


@pytest.mark.pure
def test_a_list_shows_no_more_than_it_can_read():
    crowd = {f"sale-{number}": Listing(number, 0, 1000 + number) for number in range(500)}

    live, coming, past = directory.shown(crowd, now_ms=500)

    assert (len(live), coming, past) == (directory.MOST_LIVE, [], [])
    assert live[0] == "sale-0"
