"""Other sites can make a browser send a form with our cookies: no address acts on it."""

import re
from collections.abc import Iterator

import httpx
import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver
from pytest_django import Settings

from flashsale.urls import LANE
from sales import store
from sales.models import Sale
from tests.servers import WebServer

EVIL = "https://evil.example"
# One value for each kind of variable part in an address; the check comes before anything is looked up.
VALUES = {
    "slug": "widget",
    "int": "1",
    "str": "x",
    "any": "x",
    "path": "1",
    "picture": "x.webp",
}
OF_EXPRESSIONS = {
    r"^(?P<app_label>sales|auth)/$": "sales/",
    r"(?P<url>.*)$": "nowhere",  # the admin's last, which takes what no other does
}
# These look at the origin themselves, and take no cookie, or one alone of who says that a page of ours sent the form.
WITHOUT_COOKIE = {"orders/find/", "api/shopper/code", "api/shopper/token"}
WITHOUT_TOKEN = WITHOUT_COOKIE | {"shopper/", "shopper/confirm/", "shopper/leave/", "shopper/enter/widget/"}
# What the lane takes by POST. No middleware of Django's is there: each must look at the origin.
SENT_TO_LANE = ("", "sales/<slug:slug>/", "api/sale/purchase", "api/sales/<slug:slug>/purchase")


def addresses(resolver: URLResolver, before: str = "") -> Iterator[tuple[str, URLPattern]]:
    """Yield an address for each pattern."""
    for pattern in resolver.url_patterns:
        address = before + example(pattern)
        if isinstance(pattern, URLResolver):
            yield from addresses(pattern, address)
        else:
            yield address, pattern


def example(pattern: URLPattern | URLResolver) -> str:
    route = str(pattern.pattern)
    for name, converter in pattern.pattern.converters.items():
        kind = (
            type(converter)
            .__name__.removesuffix("Converter")
            .lower()
            .replace("anytext", "any")
            .replace("picturename", "picture")
            .replace("string", "str")
        )
        route = route.replace(f"<{kind}:{name}>", VALUES[kind])
    return OF_EXPRESSIONS.get(route, route).replace("<id>", "1")


DJANGOS = {address: pattern for address, pattern in addresses(get_resolver()) if pattern not in LANE}


@pytest.fixture
def signed_in(db: None, static_files: None) -> Client:
    """The browser of somebody who may do everything."""
    client = Client(enforce_csrf_checks=True)
    client.force_login(User.objects.create_superuser("olga"))
    client.get("/admin/login/")  # the browser has a CSRF cookie, too
    return client


@pytest.mark.pure
def test_the_walk_sees_every_kind_of_address():
    assert len(DJANGOS) > 40
    assert {"orders/find/", "receipts/x/", "admin/login/", "admin/logout/"} <= set(DJANGOS)
    assert not [address for address in DJANGOS if set(address) & set("<>()\\^$")]


@pytest.mark.pure
@pytest.mark.parametrize("address", sorted(set(DJANGOS) - WITHOUT_TOKEN))
def test_a_form_without_our_token_is_refused(signed_in: Client, address: str):
    pattern = DJANGOS[address]

    from_elsewhere = signed_in.post(f"/{address}", {"post": "yes"}, headers={"Origin": EVIL})
    from_nowhere = signed_in.post(f"/{address}", {"post": "yes"})

    assert not getattr(pattern.callback, "csrf_exempt", False)
    assert (from_elsewhere.status_code, from_nowhere.status_code) == (403, 403)
    assert "The form was too old, or cookies are blocked" in from_nowhere.content.decode()


@pytest.mark.pure
@pytest.mark.parametrize("address", sorted(WITHOUT_TOKEN))
def test_addresses_without_tokens_refuse_other_sites(signed_in: Client, address: str):
    responses = [
        signed_in.post(f"/{address}", {}, content_type="application/json", headers=headers)
        for headers in ({"Origin": EVIL}, {"Origin": "null"}, {"Sec-Fetch-Site": "same-site"})
    ]

    assert getattr(DJANGOS[address].callback, "csrf_exempt", False)
    assert [response.status_code for response in responses] == [403] * 3
    assert [len(response.cookies) for response in responses] == [0] * 3


@pytest.mark.pure
@pytest.mark.parametrize("address", sorted(WITHOUT_TOKEN))
def test_requests_of_unknown_origin_reach_only_cookieless_addresses(signed_in: Client, address: str):
    response = signed_in.post(f"/{address}", {}, content_type="application/json")

    assert response.status_code == (400 if address in WITHOUT_COOKIE else 403)
    assert len(response.cookies) == 0
    assert address not in WITHOUT_COOKIE or "Cookie" not in response.headers.get("Vary", "")


@pytest.mark.parametrize("pattern", LANE, ids=str)
def test_the_lanes_post_addresses_are_all_known_here(server: WebServer, pattern: URLPattern):
    response = httpx.put(f"{server.url}/{example(pattern)}")

    assert response.status_code == 405
    assert ("POST" in response.headers["Allow"]) == (str(pattern.pattern) in SENT_TO_LANE)


@pytest.mark.parametrize("route", SENT_TO_LANE)
def test_the_lane_takes_nothing_from_elsewhere(server: WebServer, open_sale: Sale, route: str):
    attempt = {"userId": "ada@example.com"}
    url = f"{server.url}/{route.replace('<slug:slug>', open_sale.slug)}"
    headers = {"Origin": EVIL, "Cookie": "sessionid=x; shopper=x"}

    if route.startswith("api/"):
        response = httpx.post(url, json=attempt, headers=headers)
    else:
        response = httpx.post(url, data=attempt, headers=headers)

    assert response.status_code == 403
    assert store.client().hlen(store.key(open_sale.id, "purchases")) == 0


def log_in_form(client: Client) -> dict[str, str]:
    page = client.get("/admin/login/").content.decode()
    found = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page)
    assert found, page
    return {"csrfmiddlewaretoken": found[1], "username": "olga", "password": PASSWORD}


PASSWORD = "a long word for tests"


@pytest.fixture
def tabs(db: None, static_files: None, settings: Settings) -> tuple[Client, dict[str, str]]:
    """A browser with the log-in form in two tabs, of which the first has been sent; and the second's."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    User.objects.create_superuser("olga", password=PASSWORD)
    client = Client(enforce_csrf_checks=True)
    first, second = log_in_form(client), log_in_form(client)
    assert client.post("/admin/login/", first).status_code == 302
    return client, second


def test_a_second_tabs_log_in_leads_to_the_desk(tabs: tuple[Client, dict[str, str]]):
    client, second = tabs

    answer = client.post("/admin/login/", second)

    assert (answer.status_code, answer["Location"]) == (302, "/admin/")
    assert client.get(answer["Location"]).status_code == 200


def test_a_second_tabs_log_out_leads_to_the_log_in(tabs: tuple[Client, dict[str, str]]):
    client, stale = tabs
    client.cookies.pop("sessionid")

    answer = client.post("/admin/logout/", {"csrfmiddlewaretoken": stale["csrfmiddlewaretoken"]})

    assert (answer.status_code, answer["Location"]) == (302, "/admin/login/")


def test_a_stale_form_signs_nobody_out_or_in(tabs: tuple[Client, dict[str, str]]):
    client, stale = tabs

    log_out = client.post("/admin/logout/", {"csrfmiddlewaretoken": stale["csrfmiddlewaretoken"]})
    still_in = client.get("/admin/").status_code
    client.cookies.pop("sessionid")
    log_in = client.post("/admin/login/", stale)

    assert (log_out.status_code, still_in, log_in.status_code) == (403, 200, 403)
    assert client.get("/admin/").status_code == 302
