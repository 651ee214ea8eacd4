"""Confirming an e-mail address on the pages, and buying with it: through a real server, without and with JavaScript."""

import itertools
import math
import re
import time

import httpx
import pytest
from django_ratelimit.core import _get_window
from playwright.sync_api import Page, expect

from sales import email_codes, identities, store, tokens
from sales.models import Sale
from tests import browsers
from tests.conftest import OpenPage

ADA = "ada@example.com"
OWN = {"Sec-Fetch-Site": "same-origin"}


def calm_address() -> str:
    """Return an address whose hour, in which the mails to it are counted, does not end within the next ten minutes."""
    addresses = (f"ada{number}@example.com" for number in itertools.count())
    return next(address for address in addresses if _get_window(address, 3600) - time.time() > 600)


def codes_of(address: str) -> email_codes.Codes:
    nonce, typed = store.client().hmget(email_codes._key(address), "nonce", "typed")
    assert nonce, f"no code was sent to {address}"
    return email_codes._codes(address, nonce, typed or nonce)


def ask(http: httpx.Client, address: str = ADA, sale: str = "", **headers: str) -> httpx.Response:
    return http.post("/shopper/", data={"email": address, "sale": sale}, headers={**OWN, **headers})


def give(http: httpx.Client, code: str, address: str = ADA, sale: str = "", **headers: str) -> httpx.Response:
    form = {"email": address, "code": code, "sale": sale}
    return http.post("/shopper/confirm/", data=form, headers={**OWN, **headers})


def sold(sale: Sale) -> int:
    return store.client().hlen(store.key(sale.id, "purchases"))


def test_a_code_confirms_the_address_and_leads_back(http: httpx.Client, verified_sale: Sale):
    asked = ask(http, " ADA@Example.com", verified_sale.slug)
    confirmed = give(http, codes_of(ADA).typed, sale=verified_sale.slug)

    assert asked.status_code == 303
    told = http.get(asked.headers["location"]).text
    assert "We have sent a code to ada@example.com" in re.sub(r"\s+", " ", told)
    assert (confirmed.status_code, confirmed.headers["location"]) == (303, f"/sales/{verified_sale.slug}/")
    assert http.get("/api/sale/shopper").json()["userId"] == ADA
    assert f"<strong>{ADA}</strong> is confirmed" in http.get("/shopper/").text


def test_the_cookie_is_only_for_our_pages_and_stateless(http: httpx.Client):
    ask(http)

    cookie = give(http, codes_of(ADA).typed).headers["set-cookie"]

    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(cookie.split("; "))
    token = cookie.partition("=")[2].partition(";")[0]
    assert tokens.read(token).user_id == ADA
    assert not store.client().keys("codes:*")


def test_a_confirmed_shopper_buys_under_that_address(http: httpx.Client, verified_sale: Sale):
    http.cookies.set(identities.COOKIE, tokens.issue(ADA))

    bought = http.post(f"/sales/{verified_sale.slug}/", data={}, headers=OWN)

    assert bought.status_code == 303
    assert bought.headers["location"].startswith("/receipts/")
    assert store.client().hkeys(store.key(verified_sale.id, "purchases")) == [ADA.encode()]


@pytest.mark.parametrize("headers", [{}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}])
def test_a_press_that_may_come_from_another_site_buys_nothing(
    http: httpx.Client, verified_sale: Sale, headers: dict[str, str]
):
    http.cookies.set(identities.COOKIE, tokens.issue(ADA))

    form = http.post(f"/sales/{verified_sale.slug}/", data={}, headers=headers)
    script = http.post(f"/api/sales/{verified_sale.slug}/purchase", json={}, headers=headers)

    assert (form.status_code, script.status_code, script.json()["code"]) == (403, 403, "forbidden")
    assert sold(verified_sale) == 0


def test_an_unconfirmed_shopper_learns_how_to_confirm(http: httpx.Client, verified_sale: Sale):
    refused = http.post(f"/sales/{verified_sale.slug}/", data={"userId": ADA}, headers=OWN)

    assert refused.status_code == 401
    assert "Confirm your e-mail address first" in refused.text
    assert f'href="/shopper/?sale={verified_sale.slug}"' in refused.text
    assert sold(verified_sale) == 0


@pytest.mark.parametrize("path", ["/shopper/", "/shopper/confirm/", "/shopper/leave/"])
@pytest.mark.parametrize("headers", [{}, {"Sec-Fetch-Site": "same-site"}, {"Origin": "null"}])
def test_no_other_site_can_confirm_or_forget_an_address_here(http: httpx.Client, path: str, headers: dict[str, str]):
    refused = http.post(path, data={"email": ADA, "code": "00000000"}, headers=headers)

    assert refused.status_code == 403
    assert "set-cookie" not in refused.headers
    assert not store.client().keys("codes:*")


def test_a_wrong_code_confirms_nothing_and_can_be_typed_again(http: httpx.Client):
    ask(http)
    right = codes_of(ADA).typed

    wrong = give(http, "1")

    assert wrong.status_code == 401
    assert "This code is wrong" in wrong.text
    assert identities.COOKIE not in wrong.cookies
    assert give(http, right).status_code == 303


def test_a_new_code_works_after_too_many_wrong_tries(http: httpx.Client):
    ask(http)
    dead = codes_of(ADA).typed
    wrong = [give(http, "1").status_code for _ in range(email_codes.MOST_TRIES)]
    refused = give(http, dead)

    ask(http)

    assert wrong == [401] * email_codes.MOST_TRIES
    assert refused.status_code == 401
    assert codes_of(ADA).typed != dead
    assert give(http, codes_of(ADA).typed).status_code == 303


def test_the_mailed_link_confirms_only_by_a_press(http: httpx.Client):
    ask(http)
    linked = codes_of(ADA).linked

    opened = http.get("/shopper/confirm/", params={"email": ADA, "code": linked})

    assert opened.status_code == 200
    assert identities.COOKIE not in opened.cookies
    assert opened.headers["cache-control"] == "private, no-store"
    assert f'value="{linked}"' in opened.text
    assert give(http, linked).status_code == 303


@pytest.mark.parametrize("text", ["", "ada", "ada@example.com, bob@example.com", "ada\r\nBcc: bob@example.com"])
def test_an_invalid_address_is_refused_with_an_example(http: httpx.Client, text: str):
    refused = ask(http, text)

    assert refused.status_code == 400
    assert "This is not an e-mail address. Write it like ada@example.com." in refused.text


@pytest.mark.parametrize("typed", ["{}-{}", "{} {}.", "Your code: {} {}", "\u200b{}\u00a0{}"])
def test_a_code_is_taken_however_it_is_typed(http: httpx.Client, typed: str):
    ask(http, "Ada <ada@example.com>")
    code = codes_of(ADA).typed

    assert give(http, typed.format(code[:4], code[4:])).status_code == 303


def test_a_code_in_digits_of_another_script_is_taken(http: httpx.Client):
    ask(http)

    assert give(http, codes_of(ADA).typed.translate(str.maketrans("0123456789", "٠١٢٣٤٥٦٧٨٩"))).status_code == 303


@pytest.mark.parametrize("sale", ["../../evil", "https://evil.example/", "a b", "\x00", "ä"])
def test_no_form_leads_anywhere_but_to_a_sale(http: httpx.Client, sale: str):
    shown = http.get("/shopper/", params={"sale": sale})
    ask(http)
    given = give(http, codes_of(ADA).typed, sale=sale)

    assert shown.status_code == 200
    assert given.status_code == 400
    assert "evil" not in given.headers.get("location", "")


def test_mails_to_one_mailbox_are_limited_across_spellings(http: httpx.Client):
    address = calm_address()

    answers = [ask(http, address.replace("@", f"+{n}@")).status_code for n in range(6)]

    assert answers == [303] * 5 + [429]


@pytest.mark.parametrize(
    ("language", "sentence", "unit"), [("en", "ask again in", "minute"), ("de", "bitten Sie in", "Minute")]
)
def test_a_limited_shopper_sees_the_minutes_to_wait(http: httpx.Client, language: str, sentence: str, unit: str):
    address = calm_address()

    answers = [ask(http, address, **{"Accept-Language": language}) for _ in range(6)]

    minutes = math.ceil(int(answers[-1].headers["retry-after"]) / 60)
    assert re.search(rf"{sentence} {minutes} {unit}", re.sub(r"\s+", " ", answers[-1].text))


def test_forgetting_ends_it_in_this_browser(http: httpx.Client, verified_sale: Sale):
    http.cookies.set(identities.COOKIE, tokens.issue(ADA))
    known = http.get("/api/sale/shopper").json()["userId"]

    left = http.post("/shopper/leave/", headers=OWN)

    assert left.status_code == 303
    assert known == ADA
    assert 'shopper=""' in left.headers["set-cookie"]


@pytest.mark.django_db(transaction=True)  # the server reads SQL
def test_a_confirmed_name_needs_no_code(http: httpx.Client, verified_sale: Sale):
    headers = {"Authorization": f"Bearer {tokens.issue(ADA)}"}
    code = http.post("/api/sale/purchase", json={}, headers=headers).json()["orderCode"]
    form = {"sale": verified_sale.slug, "user_id": ADA}
    proofs: list[tuple[dict, int]] = [({}, 400), ({"order_code": "0000-0000"}, 404), ({"order_code": code}, 303)]

    def find(user_id: str = ADA, **typed: str) -> int:
        return http.post("/orders/find/", data={**form, "user_id": user_id, **typed}, headers=OWN).status_code

    stranger = [find(**typed) for typed, _ in proofs]
    http.cookies.set(identities.COOKIE, tokens.issue("bob@example.com"))
    another = [find(**typed) for typed, _ in proofs]
    http.cookies.set(identities.COOKIE, "broken")
    broken = [find(**typed) for typed, _ in proofs]
    http.cookies.set(identities.COOKIE, tokens.issue(ADA))

    assert stranger == another == broken == [status for _, status in proofs]
    assert (find(), find("bob@example.com")) == (303, 400)


def press(page: Page) -> None:
    page.locator("#press").click()


def test_a_browser_goes_from_sale_through_mail_to_purchase(open_page: OpenPage, verified_sale: Sale):
    page = open_page(f"/sales/{verified_sale.slug}/")
    press(page)
    expect(page.locator("#answer-headline")).to_have_text("Confirm your e-mail address first")

    page.get_by_role("link", name="Confirm yours").click()
    page.get_by_label("Your e-mail address").fill(ADA)
    page.get_by_role("button", name="Send me a code").click()
    expect(page.get_by_label("The code from the mail")).to_be_visible()
    page.get_by_label("The code from the mail").fill(codes_of(ADA).typed)
    page.get_by_role("button", name="Confirm").click()

    expect(page.locator("#who-words")).to_have_text(f"You buy as {ADA}")
    press(page)
    expect(page.locator("#answer-headline")).to_have_text("You have it!")
    assert store.client().hkeys(store.key(verified_sale.id, "purchases")) == [ADA.encode()]


@pytest.mark.django_db(transaction=True)  # the server reads SQL
def test_without_javascript_too(open_page: OpenPage, verified_sale: Sale):
    page = open_page(f"/shopper/?sale={verified_sale.slug}", java_script_enabled=False)
    page.get_by_label("Your e-mail address").fill(ADA)
    page.get_by_role("button", name="Send me a code").click()
    page.get_by_label("The code from the mail").fill(codes_of(ADA).typed)
    page.get_by_role("button", name="Confirm").click()
    press(page)

    expect(page.get_by_role("heading", name="You have it!")).to_be_visible()


def test_the_link_works_in_any_browser(visitor: browsers.Visitor, http: httpx.Client, verified_sale: Sale):
    ask(http, sale=verified_sale.slug)
    linked = codes_of(ADA).linked

    page = visitor.open(f"/shopper/confirm/?email=ada%40example.com&code={linked}&sale={verified_sale.slug}")
    page.get_by_role("button", name="Confirm").click()

    expect(page.locator("#who-words")).to_have_text(f"You buy as {ADA}")


@pytest.mark.parametrize(
    "path",
    ["/shopper/confirm/?email=a%40example.com&code=5ec2e7", "/shopper/enter/widget/?token=5ec2e7", "/x?q=5ec2e7"],
)
def test_other_requests_never_carry_a_pages_full_address(visitor: browsers.Visitor, path: str):
    """As a request's Referer it would be in the logs of whatever stands in front."""
    page = visitor.open("/health/live")
    referers: list[str | None] = []
    page.on("request", lambda request: referers.append(request.headers.get("referer")))

    page.goto(path)

    origin = page.evaluate("origin")
    assert len(referers) > 1
    assert set(referers) == {None, f"{origin}/"}
