"""The page that a partner's site sends its users to: nobody is somebody else by a link alone."""

import re
import time
from collections.abc import Callable

import httpx
import pytest
from django.db import OperationalError
from django.test import RequestFactory
from playwright.sync_api import expect

from sales import identities, store, tokens
from sales.models import Sale
from tests.browsers import resize
from tests.conftest import MakeSale, OpenPage
from tests.test_accessibility import look, violations  # noqa: F401

pytestmark = pytest.mark.django_db(transaction=True)  # the server, another process, reads SQL

ADA, BOB = "ada@example.com", "bob@example.com"
OWN = {"Sec-Fetch-Site": "same-origin"}
QUARTER = 15 * 60


def path(sale: Sale) -> str:
    return f"/shopper/enter/{sale.slug}/"


def vouch(sale: Sale, user_id: str = ADA, seconds: int = QUARTER) -> str:
    return tokens.vouch(user_id, sale.id, sale.key_number, seconds=seconds)


def press(http: httpx.Client, sale: Sale, token: str, **headers: str) -> httpx.Response:
    return http.post(path(sale), data={"token": token}, headers=headers or OWN)


def text(response: httpx.Response) -> str:
    return re.sub(r"\s+", " ", response.text)


def test_opening_the_link_shows_name_and_sale_without_confirming(http: httpx.Client, verified_sale: Sale):
    opened = http.get(path(verified_sale), params={"token": vouch(verified_sale, " Ada@Example.com")})

    assert opened.status_code == 200
    assert f"Continue as {ADA}" in text(opened)
    assert verified_sale.name in opened.text
    assert "shopper" not in opened.cookies
    assert opened.headers["cache-control"] == "private, no-store"
    assert opened.headers["x-robots-tag"] == "noindex"
    assert opened.headers["referrer-policy"] == "strict-origin"


def test_the_press_leads_to_the_sale_and_its_shopper_buys(http: httpx.Client, verified_sale: Sale):
    pressed = press(http, verified_sale, vouch(verified_sale))
    bought = http.post(f"/sales/{verified_sale.slug}/", data={}, headers=OWN)

    assert (pressed.status_code, pressed.headers["location"]) == (303, f"/sales/{verified_sale.slug}/")
    assert bought.status_code == 303
    assert store.client().hkeys(store.key(verified_sale.id, "purchases")) == [ADA.encode()]


def cookie_of(response: httpx.Response) -> tuple[tokens.Named, set[str]]:
    token, *attributes = response.headers["set-cookie"].partition("=")[2].split("; ")
    return tokens.read(token), set(attributes)


def test_the_cookie_is_bound_to_sale_key_and_token_expiry(http: httpx.Client, verified_sale: Sale):
    word = vouch(verified_sale)
    ends_at = tokens.read_for(word, verified_sale.id, 1).expires_at
    asked_at = time.time()
    named, attributes = cookie_of(press(http, verified_sale, word))

    assert (named.user_id, named.sale_id, named.key_number) == (ADA, verified_sale.id, 1)
    assert named.expires_at == ends_at
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= attributes
    (max_age,) = (int(word.partition("=")[2]) for word in attributes if word.startswith("Max-Age="))
    assert ends_at - time.time() - 1 <= max_age <= ends_at - asked_at + 1


def test_a_confirmation_lasts_at_most_a_day(http: httpx.Client, verified_sale: Sale):
    asked_at = int(time.time())
    named, _ = cookie_of(press(http, verified_sale, vouch(verified_sale, seconds=10**9)))

    assert asked_at + 24 * 3600 <= named.expires_at <= time.time() + 24 * 3600


def test_the_cookie_is_of_no_use_in_another_sale(
    http: httpx.Client, verified_sale: Sale, make_sale: MakeSale, seen: Callable[[], None]
):
    other = make_sale(name="Other", identity="verified")
    seen()
    press(http, verified_sale, vouch(verified_sale))

    refused = http.post(f"/api/sales/{other.slug}/purchase", json={}, headers=OWN)

    assert refused.status_code == 401
    assert store.client().hlen(store.key(other.id, "purchases")) == 0


def test_the_shopper_page_names_the_sale_it_covers(http: httpx.Client, verified_sale: Sale, make_sale: MakeSale):
    other = make_sale(name="Other", identity="verified")
    press(http, verified_sale, vouch(verified_sale))

    alone, from_it, from_other = (
        text(http.get("/shopper/", params=params))
        for params in ({}, {"sale": verified_sale.slug}, {"sale": other.slug})
    )

    link = f'<a href="/sales/{verified_sale.slug}/">{verified_sale.name}</a>'
    for page in (alone, from_it, from_other):
        assert f"<strong>{ADA}</strong> is confirmed in this browser, for {link} alone." in page
    found = ["counts for nothing in the sale that you come from" in page for page in (alone, from_it, from_other)]
    assert found == [False, False, True]


def make_a_new_key(sale: Sale) -> None:
    sale.key_number += 1
    sale.save(update_fields=["key_number"])


@pytest.mark.parametrize("end", [make_a_new_key, lambda sale: Sale.objects.filter(pk=sale.pk).update(published=False)])
def test_the_shopper_page_forgets_a_void_confirmation(
    http: httpx.Client, verified_sale: Sale, end: Callable[[Sale], None]
):
    press(http, verified_sale, vouch(verified_sale))
    before = http.get("/shopper/")
    end(verified_sale)

    after = http.get("/shopper/")

    assert f"<strong>{ADA}</strong> is confirmed" in before.text
    assert after.status_code == 200
    assert ADA not in after.text


def test_while_sql_is_away_the_shoppers_own_page_shows_nobody(
    verified_sale: Sale, rf: RequestFactory, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def fail(**which: object) -> Sale:
        raise OperationalError("SQL is away")

    monkeypatch.setattr("sales.models.Sale.objects.get", fail)
    request = rf.get("/shopper/")
    request.COOKIES[identities.COOKIE] = tokens.issue(ADA, sale_id=verified_sale.id, key_number=1)

    assert identities.remembered(request) is None
    assert "SQL is away" in caplog.text
    request.COOKIES[identities.COOKIE] = tokens.issue(ADA)
    assert identities.remembered(request)


def test_a_link_mentions_no_shopper_with_a_void_confirmation(http: httpx.Client, verified_sale: Sale):
    press(http, verified_sale, vouch(verified_sale, BOB))
    make_a_new_key(verified_sale)

    opened = http.get(path(verified_sale), params={"token": vouch(verified_sale)})

    assert f"Continue as {ADA}" in text(opened)
    assert BOB not in opened.text


@pytest.mark.parametrize(
    "headers",
    [
        {"Accept": "*/*"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "null"},
        {"Origin": "https://partner.example"},
    ],
)
def test_no_other_site_can_press(http: httpx.Client, verified_sale: Sale, headers: dict[str, str]):
    refused = press(http, verified_sale, vouch(verified_sale), **headers)

    assert refused.status_code == 403
    assert "set-cookie" not in refused.headers


BAD: dict[str, Callable[[Sale], str]] = {
    "none": lambda sale: "",
    "expired": lambda sale: vouch(sale, seconds=-1),
    "of another sale": lambda sale: tokens.vouch(ADA, sale.id + 1, 1, seconds=QUARTER),
    "of the next key": lambda sale: tokens.vouch(ADA, sale.id, 2, seconds=QUARTER),
    "cut off": lambda sale: vouch(sale)[:-5],
    "of nobody": lambda sale: vouch(sale, ""),
    "garbage": lambda sale: "é\x01<script>",
    "endless": lambda sale: "a" * 5_000,
}


@pytest.mark.parametrize("kind", BAD)
def test_an_invalid_token_is_refused_with_advice(http: httpx.Client, verified_sale: Sale, kind: str):
    token = BAD[kind](verified_sale)

    for response in (http.get(path(verified_sale), params={"token": token}), press(http, verified_sale, token)):
        assert response.status_code == 401
        assert response.headers["www-authenticate"] == "Bearer"
        assert response.headers["cache-control"] == "private, no-store"
        assert "This link does not work any more" in response.text
        assert "Go back to the page that sent you here" in response.text
        assert "<script>" not in response.text
        assert "set-cookie" not in response.headers


def test_the_link_warns_that_it_replaces_another_address(http: httpx.Client, verified_sale: Sale):
    http.cookies.set(identities.COOKIE, tokens.issue(BOB))

    page = http.get(path(verified_sale), params={"token": vouch(verified_sale)})

    assert f"In this browser it takes the place of {BOB}." in text(page)


def test_a_general_confirmation_of_the_same_address_is_kept(http: httpx.Client, verified_sale: Sale):
    http.cookies.set(identities.COOKIE, tokens.issue(ADA))

    page = http.get(path(verified_sale), params={"token": vouch(verified_sale)})
    pressed = press(http, verified_sale, vouch(verified_sale))

    assert "takes the place" not in page.text
    assert pressed.status_code == 303
    assert "set-cookie" not in pressed.headers


def test_an_open_sale_asks_for_the_name_itself(http: httpx.Client, open_sale: Sale):
    response = http.get(path(open_sale), params={"token": vouch(open_sale)})

    assert (response.status_code, response.headers["location"]) == (303, f"/sales/{open_sale.slug}/")
    assert "set-cookie" not in response.headers


def test_a_hidden_or_missing_sale_cannot_be_entered(http: httpx.Client, verified_sale: Sale):
    token = vouch(verified_sale)
    Sale.objects.update(published=False)

    assert http.get(path(verified_sale), params={"token": token}).status_code == 404
    assert http.get("/shopper/enter/nothing/", params={"token": token}).status_code == 404


def test_the_page_takes_no_other_method(http: httpx.Client, verified_sale: Sale):
    response = http.put(path(verified_sale))

    assert (response.status_code, response.headers["allow"]) == (405, "GET, HEAD, POST")


@pytest.mark.parametrize("javascript", [True, False])
def test_a_partners_user_buys_in_a_browser(open_page: OpenPage, verified_sale: Sale, javascript: bool):
    page = open_page(f"{path(verified_sale)}?token={vouch(verified_sale)}", java_script_enabled=javascript)
    page.get_by_role("button", name=f"Continue as {ADA}").click()

    expect(page).to_have_url(re.compile(f"/sales/{verified_sale.slug}/$"))
    if javascript:
        expect(page.get_by_text(f"You buy as {ADA}")).to_be_visible()
    page.locator("#press").click()

    expect(page.get_by_role("heading", name="You have it!")).to_be_visible()
    assert store.client().hkeys(store.key(verified_sale.id, "purchases")) == [ADA.encode()]


@pytest.mark.long
def test_the_page_is_for_everyone(open_page: OpenPage, make_sale: MakeSale, look: dict):  # noqa: F811
    sale = make_sale(name="Donaudampfschifffahrtsgesellschaftskapitänsmütze", identity="verified")
    page = open_page(f"{path(sale)}?token=x", **look)
    found = {"no name": violations(page)}

    for user_id in (ADA, "x" * 242 + "@example.com"):
        page.goto(f"{path(sale)}?token={vouch(sale, user_id)}")
        for width in (320, 390):
            resize(page, width)
            found[f"{user_id} at {width}"] = violations(page)
            assert page.evaluate("document.documentElement.scrollWidth") == width

    assert {where: wrong for where, wrong in found.items() if wrong} == {}
