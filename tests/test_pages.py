"""The shoppers' pages as a browser without JavaScript sees them."""

import re
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from sales import identities, order_codes, purchases, store, tokens
from sales.models import Sale
from tests.conftest import MakeSale
from tests.servers import WebServer, free_port


@pytest.fixture(autouse=True)
def _fresh(request: pytest.FixtureRequest, seen: Callable[[], None]) -> None:
    """Let neither the page nor the snapshot be those of the test before, while nobody asks for them."""
    if "open_sale" in request.fixturenames:
        request.getfixturevalue("open_sale")
        seen()


def press(http: httpx.Client, user_id: str, slug: str = "limited-edition-widget") -> httpx.Response:
    return http.post(f"/sales/{slug}/", data={"userId": user_id})


def test_the_page_of_the_current_sale(http: httpx.Client, open_sale: Sale):
    page = http.get("/")

    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    for words in ("Limited Edition Widget", "On sale now", "10 of 10 left", "One per person", "Buy now"):
        assert words in page.text
    assert 'name="userId"' in page.text
    assert "set-cookie" not in page.headers


def test_the_page_of_a_sale_by_its_slug(http: httpx.Client, make_sale: MakeSale, seen: Callable[[], None]):
    make_sale(name="First")
    make_sale(name="Second")
    seen()

    assert "<h1>First</h1>" in http.get("/sales/first/").text
    assert http.get("/sales/first", follow_redirects=True).status_code == 200


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"starts_in": 600}, "Starts soon"),
        ({"paused": True}, "Paused"),
        ({"starts_in": -120, "lasts": 60}, "Ended"),
    ],
)
def test_the_state_in_words(
    http: httpx.Client, make_sale: MakeSale, seen: Callable[[], None], fields: dict, words: str
):
    make_sale(name=words, **fields)
    seen()

    assert words in http.get("/").text


def test_a_plain_refresh_shows_the_stock(http: httpx.Client, open_sale: Sale, seen: Callable[[], None]):
    before = http.get("/")
    press(http, "ada@example.com")
    seen()

    after = http.get("/", headers={"If-None-Match": before.headers["etag"]})

    assert "9 of 10 left" in after.text
    assert http.get("/", headers={"If-None-Match": after.headers["etag"]}).status_code == 304


@pytest.mark.django_db(transaction=True)  # the server, another process, reads SQL
def test_buying_with_the_form(http: httpx.Client, open_sale: Sale):
    answer = press(http, " Ada@Example.com ")
    receipt = http.get(answer.headers["location"])

    assert (answer.status_code, receipt.status_code) == (303, 200)
    assert "You have it!" in receipt.text
    assert re.search(r"\d{13}-0", receipt.text)
    assert store.client().hkeys(store.key(open_sale.id, "purchases")) == [b"ada@example.com"]


def test_buying_twice_with_the_form_leads_to_no_receipt(http: httpx.Client, open_sale: Sale):
    press(http, "ada@example.com")

    assert_no_receipt(press(http, "ada@example.com"), open_sale)


def assert_no_receipt(answer: httpx.Response, sale: Sale) -> None:
    """Check an answer to a name that has bought, from somebody who is not known to be the buyer."""
    order_id = purchase_of(sale).split()[0]
    assert answer.status_code == 409
    assert "location" not in answer.headers
    assert "You already have one" in answer.text
    assert f'href="/orders/find/?sale={sale.slug}">Find it with your order code' in answer.text
    assert not [secret for secret in ("/receipts/", order_codes.make(sale.id, order_id)) if secret in answer.text]


def purchase_of(sale: Sale) -> str:
    return store.client().hget(store.key(sale.id, "purchases"), "ada@example.com").decode()


def test_a_confirmed_shopper_buys_twice_and_sees_the_receipt(http: httpx.Client, verified_sale: Sale):
    http.cookies.set(identities.COOKIE, tokens.issue("ada@example.com"))

    first, second = (
        http.post(f"/sales/{verified_sale.slug}/", headers={"Sec-Fetch-Site": "same-origin"}) for _ in range(2)
    )

    assert (first.status_code, second.status_code) == (303, 303)
    assert second.headers["location"] == first.headers["location"].replace("=purchased", "=already_purchased")


@pytest.fixture(scope="module")
def addressed(redis_server: object, static_files: None, django_db_setup: None) -> Iterator[str]:
    """The address of a server that knows its clients' addresses, also those behind a proxy on this machine."""
    settings = {"ADDRESS_RATE": "100000/s", "TRUSTED_PROXIES": "127.0.0.1", "WEB_CONCURRENCY": "1"}
    with WebServer({"PORT": str(free_port()), **settings}) as server:
        yield server.url


def test_a_second_press_leads_to_the_first_ones_receipt(addressed: str, open_sale: Sale):
    with httpx.Client(base_url=addressed) as browser:
        first, second = press(browser, "ada@example.com"), press(browser, " ADA@example.com")

    assert (first.status_code, second.status_code) == (303, 303)
    assert second.headers["location"] == first.headers["location"]
    assert second.headers["location"].endswith("?outcome=purchased")


def test_a_press_cut_off_by_another_shows_its_receipt(addressed: str, open_sale: Sale):
    with httpx.Client(base_url=addressed) as browser:
        address = httpx.URL(addressed)
        request = browser.build_request("POST", f"/sales/{open_sale.slug}/", data={"userId": "ada@example.com"})
        head = [
            f"POST /sales/{open_sale.slug}/ HTTP/1.1",
            *(f"{name}: {value}" for name, value in request.headers.items()),
        ]
        with socket.create_connection((address.host, address.port)) as cut_off:
            cut_off.sendall("\r\n".join([*head, "", ""]).encode() + request.content)
        while not store.client().hexists(store.key(open_sale.id, "purchases"), "ada@example.com"):
            time.sleep(0.01)

        answer = press(browser, "ada@example.com")

    assert answer.headers["location"].startswith("/receipts/")


@pytest.mark.parametrize(
    "headers", [{"User-Agent": "another"}, {"Accept-Language": "en-GB"}], ids=["browser", "language"]
)
def test_behind_the_same_address_another_browser_gets_no_receipt(addressed: str, open_sale: Sale, headers: dict):
    with httpx.Client(base_url=addressed) as buyer, httpx.Client(base_url=addressed, headers=headers) as stranger:
        press(buyer, "ada@example.com")

        answer = press(stranger, "ada@example.com")

    assert_no_receipt(answer, open_sale)


def test_from_another_address_the_same_browser_gets_no_receipt(addressed: str, open_sale: Sale):
    with httpx.Client(base_url=addressed) as browser:
        presses = []
        for address in ("192.0.2.1", "192.0.2.2", "192.0.2.1"):
            browser.headers["X-Forwarded-For"] = address
            presses.append(press(browser, "ada@example.com"))

    bought, stranger, again = presses
    assert again.headers["location"] == bought.headers["location"]
    assert_no_receipt(stranger, open_sale)


def test_a_minute_later_the_same_browser_gets_no_receipt(addressed: str, open_sale: Sale):
    with httpx.Client(base_url=addressed) as browser:
        press(browser, "ada@example.com")
        for seconds, is_shown in ((30, True), (31, False)):  # together more than a minute
            order_id, rest = purchase_of(open_sale).split(" ", 1)
            earlier = f"{purchases.purchased_ms(order_id) - seconds * 1000}-0"
            store.client().hset(store.key(open_sale.id, "purchases"), "ada@example.com", f"{earlier} {rest}")

            answer = press(browser, "ada@example.com")

            assert ("location" in answer.headers) is is_shown

    assert_no_receipt(answer, open_sale)


@pytest.mark.parametrize(
    ("fields", "status", "words"),
    [
        ({"starts_in": 600}, 409, "Not open yet"),
        ({"paused": True}, 409, "The sale is paused"),
        ({"starts_in": -120, "lasts": 60}, 409, "The sale has ended"),
    ],
)
def test_refusals_with_the_form(
    http: httpx.Client, make_sale: MakeSale, seen: Callable[[], None], fields: dict, status: int, words: str
):
    make_sale(**fields)
    seen()

    page = press(http, "ada@example.com")

    assert page.status_code == status
    assert f'<h2 id="answer-headline" tabindex="-1">{words}</h2>' in page.text
    assert 'value="ada@example.com"' in page.text


def test_sold_out_with_the_form(http: httpx.Client, make_sale: MakeSale, seen: Callable[[], None]):
    make_sale(stock=1)
    seen()
    press(http, "ada")

    page = press(http, "bob")

    assert page.status_code == 409
    assert "Every unit has been bought." in page.text


def test_typed_names_are_kept_and_escaped(http: httpx.Client, open_sale: Sale):
    page = press(http, '"><script>alert(1)</script>\u200b')

    assert page.status_code == 400
    assert "Please check what you typed" in page.text
    assert "<script>alert" not in page.text
    assert "&quot;&gt;&lt;script&gt;" in page.text


def test_an_empty_form(http: httpx.Client, open_sale: Sale):
    assert press(http, "").status_code == 400


def test_too_many_presses(http: httpx.Client, open_sale: Sale):
    page = press(http, "ada")
    for _ in range(300):  # ten at once, then one a second: a slow machine gets some more
        if page.status_code == 429:
            break
        page = press(http, "ada")

    assert page.status_code == 429
    assert page.headers["retry-after"] == "1"
    assert "One moment" in page.text


def test_a_form_from_another_site_is_refused(http: httpx.Client, open_sale: Sale):
    page = http.post(
        "/sales/limited-edition-widget/", data={"userId": "ada"}, headers={"Origin": "https://evil.example"}
    )

    assert page.status_code == 403
    assert "It came from another site." in page.text
    assert not store.client().hlen(store.key(open_sale.id, "purchases"))


def test_a_link_in_a_chat_shows_the_product(http: httpx.Client, make_sale: MakeSale, seen: Callable[[], None]):
    picture = [{"name": "products/apron-480.webp", "width": 480, "height": 360}]
    make_sale(name="Linen Apron", description="Sewn by hand.", image=picture[0]["name"], renditions=picture)
    seen()

    text = http.get("/").text

    assert '<meta property="og:title" content="Linen Apron">' in text
    assert '<meta property="og:description" content="Sewn by hand.">' in text
    assert re.search(r'<meta property="og:image"\s+content="http://localhost:\d+/media/products/apron-480.webp">', text)
    assert re.search(r'<meta property="og:url"\s+content="http://localhost:\d+/sales/linen-apron/">', text)


def test_static_files_are_served_with_long_lived_names(http: httpx.Client, open_sale: Sale):
    names = re.findall(r'(?:href|src)="(/static/sales/[^"]+)"', http.get("/").text)

    assert {name.rpartition(".")[2] for name in names} >= {"css", "js", "svg"}
    for name in names:
        response = http.get(name)
        assert re.search(r"\.[0-9a-f]{12}\.\w+$", name)
        assert response.status_code == 200
        assert "immutable" in response.headers["cache-control"]


@pytest.mark.parametrize("path", ["/", "/sales/"])
def test_a_page_names_all_modules_that_its_script_imports(http: httpx.Client, open_sale: Sale, path: str):
    text = http.get(path).text
    script = re.search(r'<script src="([^"]+)"', text)
    assert script

    found, ahead = {script[1]}, [script[1]]
    while ahead:
        source = http.get(ahead.pop()).text
        imported = {f"/static/sales/{name}" for name in re.findall(r'from "\./([^"]+)"', source)}
        ahead += imported - found
        found |= imported

    assert found == {script[1], *re.findall(r'<link rel="modulepreload" href="([^"]+)"', text)}
    assert len(found) > 1
    assert all(re.search(r"\.[0-9a-f]{12}\.js$", name) for name in found)


@pytest.mark.pure
def test_all_pages_together_are_light(project_dir: Path):
    sizes = [path.stat().st_size for kind in ("css", "js") for path in (project_dir / "static/sales").glob(f"*.{kind}")]

    assert len(sizes) >= 2
    assert sum(sizes) < 50_000


def test_browsers_and_crawlers_get_their_standard_files(http: httpx.Client):
    icon, robots = http.get("/favicon.ico"), http.get("/robots.txt")

    assert (icon.status_code, icon.content[:4]) == (200, b"\0\0\1\0")
    assert "Disallow: /admin/" in robots.text


def test_a_slug_in_capitals_leads_to_the_sale(http: httpx.Client, open_sale: Sale):
    page = http.get("/sales/LIMITED-Edition-Widget/?utm_source=print")
    without_slash = http.get("/sales/LIMITED-Edition-Widget", follow_redirects=True)
    bought = http.post("/sales/LIMITED-Edition-Widget/", data={"userId": "ada"}, follow_redirects=True)

    assert (page.status_code, page.headers["location"]) == (308, "/sales/limited-edition-widget/?utm_source=print")
    assert page.headers["cache-control"] == "no-store"
    assert without_slash.url.path == "/sales/limited-edition-widget/"
    assert bought.url.path.startswith("/receipts/")


def test_capitals_lead_to_no_sale_that_is_not_there(http: httpx.Client, make_sale: MakeSale, seen: Callable[[], None]):
    make_sale(name="Old", slug="OLD")
    seen()

    assert http.get("/sales/NOWHERE/").status_code == 404
    assert http.get("/sales/OLD/").status_code == 200
    assert http.get("/api/sales/LIMITED-EDITION-WIDGET/status").status_code == 404
