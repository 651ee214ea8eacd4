"""Pages that say why there is no other page, from the lane and from Django, in the same style."""

from collections.abc import Callable

import httpx
import pytest
from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.test import Client, RequestFactory

from sales import refusals
from sales.models import Sale
from tests.servers import RedisServer


def assert_page(response: httpx.Response, status: int, title: str) -> None:
    assert response.status_code == status
    assert response.headers["content-type"].startswith("text/html")
    assert f"<h1>{title}</h1>" in response.text
    assert 'href="/sales/"' in response.text
    assert "default-src 'none'" in response.headers["content-security-policy"]
    assert "set-cookie" not in response.headers


@pytest.mark.parametrize("path", ["/", "/sales/nothing/"])
def test_no_sale_here(http: httpx.Client, path: str):
    assert_page(http.get(path), 404, "Nothing here")


def test_no_page_at_the_address(http: httpx.Client):
    assert_page(http.get("/nowhere"), 404, "Nothing here")


@pytest.mark.pure
def test_the_desks_refusals_lead_back_to_it(admin_client: Client, static_files: None):
    page = admin_client.get("/admin/nowhere/")

    assert page.status_code == 404
    assert 'href="/admin/"' in page.content.decode()
    assert 'href="/admin/"' not in Client().get("/nowhere").content.decode()


def test_a_form_that_is_too_large(http: httpx.Client, open_sale: Sale):
    assert_page(http.post("/sales/limited-edition-widget/", data={"userId": "x" * 9000}), 413, "That was too much")


def test_a_form_that_is_too_large_for_django(http: httpx.Client):
    assert_page(http.post("/admin/login/", content=b"x" * 11_000_000), 413, "That was too much")


def test_a_method_that_pages_do_not_take(http: httpx.Client, open_sale: Sale):
    page = http.put("/")

    assert_page(page, 405, "That did not work")
    assert page.headers["allow"] == "GET, HEAD, POST"


def test_a_host_that_is_not_served(http: httpx.Client):
    page = http.get("/", headers={"Host": "evil.example"})

    assert_page(page, 400, "We did not understand that")
    assert "This host is not served here." in page.text


def test_a_form_of_django_without_its_token(http: httpx.Client):
    page = http.post("/admin/login/", data={"username": "x"})

    assert_page(page, 403, "That was not accepted")
    assert "Reload the page" in page.text


def test_redis_is_gone(http: httpx.Client, redis_server: RedisServer, open_sale: Sale, seen: Callable[[], None]):
    redis_server.kill()
    seen()
    try:
        page, listing = http.get("/"), http.get("/sales/")
    finally:
        redis_server.start()

    assert_page(page, 503, "We cannot sell right now")
    assert page.headers["retry-after"] == "1"
    assert "Try again" in page.text
    assert_page(listing, 503, "We cannot sell right now")


@pytest.mark.pure
@pytest.mark.usefixtures("static_files")
@pytest.mark.parametrize(
    ("handler", "arguments", "status", "title"),
    [
        (refusals.bad_request, (SuspiciousOperation(),), 400, "We did not understand that"),
        (refusals.forbidden, (PermissionDenied(),), 403, "That was not accepted"),
        (refusals.not_found, (Exception(),), 404, "Nothing here"),
        (refusals.server_error, (), 500, "Something went wrong"),
    ],
)
def test_djangos_own_failures_show_our_page(handler: Callable, arguments: tuple, status: int, title: str):
    response = handler(RequestFactory().get("/"), *arguments)

    assert response.status_code == status
    assert f"<h1>{title}</h1>" in response.content.decode()


@pytest.mark.pure
@pytest.mark.usefixtures("static_files")
def test_a_defect_in_django_is_the_same_page(monkeypatch: pytest.MonkeyPatch):
    def fail(request: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("sales.desk.signin.admin.site.login", fail)

    response = Client(raise_request_exception=False).get("/admin/login/")

    assert response.status_code == 500
    assert "<h1>Something went wrong</h1>" in response.content.decode()
