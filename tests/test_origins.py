"""Whether a browser says that another site sent a request."""

import httpx
import pytest
from django.test import RequestFactory
from pytest_django import Settings

from sales import origins, store
from sales.models import Sale

HOST = "shop.example.com"


def foreign_and_own(headers: dict[str, str], host: str = HOST) -> tuple[bool, bool]:
    request = RequestFactory().post("/", headers=headers)
    request.META["HTTP_HOST"] = host
    return origins.is_foreign(request), origins.is_own(request)


OWN = [
    ({"Origin": "https://shop.example.com"}, HOST),
    ({"Origin": "https://shop.example.com", "Sec-Fetch-Site": "same-origin"}, HOST),
    ({"Sec-Fetch-Site": "same-origin"}, HOST),
    ({"Origin": "https://SHOP.example.com"}, "Shop.Example.Com"),
    ({"Origin": "https://shop.example.com:8443"}, "shop.example.com:8443"),
    ({"Origin": "https://shop.example.com"}, "shop.example.com:443"),
    ({"Origin": "https://[::1]:8000"}, "[::1]:8000"),
]
FOREIGN = [
    {"Origin": "null"},
    {"Origin": ""},
    {"Origin": "https://"},
    {"Origin": "shop.example.com"},
    {"Origin": "//shop.example.com"},
    {"Origin": "https://evil.example"},
    {"Origin": "https://www.shop.example.com"},
    {"Origin": "https://example.com"},
    {"Origin": "https://shop.example.com.evil.example"},
    {"Origin": "https://shop.example.com:8443"},
    {"Origin": "https://shop.example.com/"},
    {"Origin": "https://shop.example.com@evil.example"},
    {"Origin": "https://shop.example.com,https://evil.example"},
    {"Origin": "https://shop.example.com,https://shop.example.com"},
    {"Origin": "ftp://shop.example.com"},
    {"Origin": "chrome-extension://shop.example.com"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "Same-Origin"},
    {"Sec-Fetch-Site": ""},
    {"Sec-Fetch-Site": "same-origin,cross-site"},
    {"Origin": "https://shop.example.com", "Sec-Fetch-Site": "cross-site"},
    {"Origin": "https://shop.example.com", "Sec-Fetch-Site": "same-site"},
    {"Origin": "https://evil.example", "Sec-Fetch-Site": "same-origin"},
    {"Origin": "https://evil.example", "Sec-Fetch-Site": "none"},
]


@pytest.mark.pure
@pytest.mark.parametrize("https", [True, False])
@pytest.mark.parametrize(("headers", "host"), OWN)
def test_our_own_page_sent_it(settings: Settings, headers: dict[str, str], host: str, https: bool):
    settings.HTTPS = https

    assert foreign_and_own(headers, host) == (False, True)


@pytest.mark.pure
@pytest.mark.parametrize("https", [True, False])
@pytest.mark.parametrize("headers", FOREIGN)
def test_another_site_sent_it(settings: Settings, headers: dict[str, str], https: bool):
    settings.HTTPS = https

    assert foreign_and_own(headers) == (True, False)


@pytest.mark.pure
@pytest.mark.parametrize("headers", [{}, {"Sec-Fetch-Site": "none"}, {"Referer": "https://shop.example.com/"}])
def test_without_origin_headers_the_sender_is_unknown(headers: dict[str, str]):
    assert foreign_and_own(headers) == (False, False)


@pytest.mark.pure
def test_over_https_a_page_over_http_is_another_site(settings: Settings):
    headers = {"Origin": "http://shop.example.com"}

    settings.HTTPS = False
    behind_an_unknown_proxy = foreign_and_own(headers)
    settings.HTTPS = True
    behind_a_proxy_that_ends_tls = foreign_and_own(headers)

    assert behind_an_unknown_proxy == (False, True)
    assert behind_a_proxy_that_ends_tls == (True, False)


@pytest.mark.parametrize("path", ["/", "/orders/find/"])
@pytest.mark.parametrize(
    "headers",
    [
        [("Origin", "null")],
        [("Origin", "https://evil.example")],
        [("Origin", "http://localhost:1")],
        [("Sec-Fetch-Site", "same-site")],
        [("Sec-Fetch-Site", "cross-site")],
        [("Origin", "http://localhost"), ("Origin", "https://evil.example")],
    ],
)
def test_the_forms_of_pages_are_refused_to_other_sites(
    http: httpx.Client, open_sale: Sale, path: str, headers: list[tuple[str, str]]
):
    form = {"userId": "ada@example.com", "user_id": "ada@example.com", "sale": open_sale.slug}

    response = http.post(path, data=form, headers=[("Host", "localhost"), *headers])

    assert response.status_code == 403
    assert store.client().hlen(store.key(open_sale.id, "purchases")) == 0
