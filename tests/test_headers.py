"""The headers that bind browsers, on every kind of answer: of the lane, of Django, and of what is not even HTTP."""

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from django.conf import settings

from sales.headers import OF_DATA, OF_PAGES
from sales.models import Sale
from tests.servers import ICON, WebServer
from tests.test_framing import answers

OVER_HTTPS = {"X-Forwarded-Proto": "https"}
STRICT = "max-age=31536000; includeSubDomains; preload"
FOREIGN = {"Host": "evil.example"}

# Method, path, headers, body, and the answer's status.
Request = tuple[str, str, dict[str, str], bytes, int]
PAGES: list[Request] = [
    ("GET", "/", {}, b"", 200),
    ("GET", "/sales/", {"Accept-Encoding": "identity"}, b"", 200),
    ("GET", "/sales/nothing/", {}, b"", 404),
    ("GET", "/", FOREIGN, b"", 400),
    ("PUT", "/", {}, b"", 405),
    ("POST", "/", {"Origin": "https://evil.example"}, b"userId=ada", 403),
    ("POST", "/", {}, b"x" * 9000, 413),
    ("GET", "/orders/find/", {}, b"", 200),
    ("GET", "/receipts/x/", {}, b"", 404),
    ("GET", "/nowhere", {}, b"", 404),
    ("GET", "/nowhere", FOREIGN, b"", 400),
    ("GET", "/sales", {}, b"", 301),
    ("GET", "/admin/", {}, b"", 302),
    ("GET", "/admin/login/", {}, b"", 200),
    ("POST", "/admin/login/", {}, b"", 403),
    ("GET", "/robots.txt", {}, b"", 200),
    ("GET", ICON, {}, b"", 200),
    ("GET", ICON, {"Range": "bytes=0-9"}, b"", 200),
    ("GET", "/static/nothing.css", {}, b"", 404),
    ("GET", "/media/products/test-headers.webp", {}, b"", 200),
    ("GET", "/media/products/test-headers.webp", {"If-None-Match": '"test-headers"'}, b"", 304),
]
DATA: list[Request] = [
    ("GET", "/api/sale/status", {}, b"", 200),
    ("GET", "/api/sale/user/ada", {}, b"", 200),
    ("GET", "/api/sales/nothing/status", {}, b"", 404),
    ("POST", "/api/sale/purchase", {"Content-Type": "application/json"}, b'{"userId":"headers"}', 200),
    ("POST", "/api/sale/purchase", {"Content-Type": "application/json"}, b"", 400),
    ("POST", "/api/sale/purchase", {"Content-Type": "application/json"}, b"x" * 9000, 413),
    ("POST", "/api/sale/purchase", {}, b"", 415),
    ("PUT", "/api/sale/purchase", {}, b"", 405),
    ("GET", "/api/sale/status", FOREIGN, b"", 400),
    ("GET", "/health", {}, b"", 200),
    ("GET", "/health/live", {}, b"", 200),
    ("GET", "/metrics", {}, b"", 200),
]


def asked(server: WebServer, request: Request) -> httpx.Response:
    method, path, headers, body, _ = request
    return httpx.request(method, f"{server.url}{path}", headers={**OVER_HTTPS, **headers}, content=body)


def as_sets(policy: str) -> set[str]:
    return set(policy.split("; "))


@pytest.fixture
def shown_sale(open_sale: Sale, seen: Callable[[], None]) -> Sale:
    """A sale that every worker knows of."""
    seen()
    return open_sale


@pytest.fixture
def response(request: pytest.FixtureRequest, request_: Request) -> httpx.Response:
    """The answer to one of the requests. Each process sends all of them once."""
    if not _responses:
        request.getfixturevalue("all_asked")
    return _responses[str(request_)]


_responses: dict[str, httpx.Response] = {}


@pytest.fixture
def all_asked(https_server: WebServer, shown_sale: Sale) -> None:
    Path(settings.MEDIA_ROOT, "products").mkdir(parents=True, exist_ok=True)
    Path(settings.MEDIA_ROOT, "products", "test-headers.webp").write_bytes(b"picture")
    _responses.update({str(request): asked(https_server, request) for request in (*PAGES, *DATA)})


@pytest.mark.parametrize("request_", PAGES, ids=lambda request: f"{request[0]} {request[1]} {request[4]}")
def test_pages_and_files_are_bound(response: httpx.Response, request_: Request):
    assert response.status_code == request_[4]
    for name, value in OF_PAGES.items():
        assert len(response.headers.get_list(name)) == 1, name
        if name == "Content-Security-Policy":
            continue
        if name == "Referrer-Policy" and request_[1].startswith("/receipts/"):
            value = "no-referrer"
        if name == "Cross-Origin-Resource-Policy" and request_[1].startswith("/media/"):
            value = "cross-origin"
        assert response.headers[name] == value
    policy = as_sets(response.headers["Content-Security-Policy"])
    assert {"default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'"} <= policy
    assert "upgrade-insecure-requests" in policy
    assert "unsafe" not in response.headers["Content-Security-Policy"]
    assert response.headers.get_list("Strict-Transport-Security") == [STRICT]
    assert "Access-Control-Allow-Origin" not in response.headers


@pytest.mark.parametrize("request_", DATA, ids=lambda request: f"{request[0]} {request[1]} {request[4]}")
def test_data_is_bound(response: httpx.Response, request_: Request):
    assert response.status_code == request_[4]
    assert_data(response)


def assert_data(response: httpx.Response) -> None:
    assert {name: response.headers.get_list(name) for name in OF_DATA} == {k: [v] for k, v in OF_DATA.items()}
    assert response.headers.get_list("Strict-Transport-Security") == [STRICT]


@pytest.mark.parametrize("path", ["/", "/sales/", "/api/sale/status"])
def test_a_304_says_what_the_whole_answer_says(https_server: WebServer, shown_sale: Sale, path: str):
    for _ in range(10):  # a page may be another one by the second time
        whole = httpx.get(f"{https_server.url}{path}", headers=OVER_HTTPS)
        headers = {**OVER_HTTPS, "If-None-Match": whole.headers["ETag"]}
        response = httpx.get(f"{https_server.url}{path}", headers=headers)
        if response.status_code == 304:
            break

    assert response.status_code == 304
    for name in (*(OF_PAGES if path != "/api/sale/status" else OF_DATA), "Strict-Transport-Security", "Cache-Control"):
        assert response.headers.get_list(name) == whole.headers.get_list(name), name
    assert not {"Content-Type", "Content-Length"} & {name.title() for name in response.headers}


def test_a_redirect_to_a_receipt_is_bound(https_server: WebServer, shown_sale: Sale):
    response = httpx.post(f"{https_server.url}/", data={"userId": "ada@example.com"}, headers=OVER_HTTPS)

    assert response.status_code == 303
    assert {name: response.headers[name] for name in OF_PAGES} == OF_PAGES | {
        "Content-Security-Policy": response.headers["Content-Security-Policy"]
    }
    assert response.headers["Strict-Transport-Security"] == STRICT


def test_an_event_stream_is_bound(https_server: WebServer, shown_sale: Sale):
    with httpx.stream("GET", f"{https_server.url}/api/sale/events", headers=OVER_HTTPS) as response:
        assert response.headers["Content-Type"] == "text/event-stream"
        assert_data(response)


def test_lane_and_django_say_the_same(http: httpx.Client, shown_sale: Sale):
    lane, django = http.get("/sales/"), http.get("/orders/find/")

    for name in OF_PAGES:
        assert as_sets(lane.headers[name]) == as_sets(django.headers[name]), name
    assert "upgrade-insecure-requests" not in lane.headers["Content-Security-Policy"], "it is served over http"


def test_only_shopper_pages_forbid_markup_from_scripts(http: httpx.Client):
    shoppers, desk = http.get("/orders/find/"), http.get("/admin/login/")

    added = {"require-trusted-types-for 'script'", "trusted-types 'none'"}
    difference = as_sets(shoppers.headers["Content-Security-Policy"]) ^ as_sets(desk.headers["Content-Security-Policy"])
    assert difference == added


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 1\r\n\r\nx",
    ],
)
def test_malformed_http_gets_the_security_headers(server: WebServer, request_bytes: bytes):
    head, _, body = answers(server, request_bytes).partition(b"\r\n\r\n")

    status, *lines = head.decode().split("\r\n")
    found = dict(line.split(": ", 1) for line in lines)
    assert status == "HTTP/1.1 400 Bad Request"
    assert {name: found[name.lower()] for name in OF_DATA} == OF_DATA
    assert int(found["content-length"]) == len(body)
    assert (found["connection"], "date" in found) == ("close", True)


@pytest.mark.parametrize("path", ["/crash", "/broken-refusal", "/broken-page", "/broken-application"])
def test_failures_get_the_security_headers(broken_server: WebServer, path: str):
    response = httpx.get(f"{broken_server.url}{path}")

    expected = OF_PAGES if path == "/broken-page" else OF_DATA
    assert response.status_code == 500
    assert {name: as_sets(response.headers[name]) for name in expected} == {k: as_sets(v) for k, v in expected.items()}
