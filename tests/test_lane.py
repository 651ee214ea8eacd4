"""The express lane: genuine requests, limits in front, and no dropped connection."""

import select
import socket
import threading
import time
from collections.abc import Callable

import httpx
import pytest
from django.core.exceptions import DisallowedHost
from django.http import HttpRequest
from django.urls import path

from flashsale.lane import Lane
from flashsale.lane_request import LaneRequest
from sales import store
from sales.models import Sale
from tests.redis_servers import wait_until
from tests.servers import ICON, WebServer, free_port


def scope(**changes: object) -> dict:
    return {
        "type": "http",
        "method": "GET",
        "path": "/api/sale/status",
        "query_string": b"a=1&b=2",
        "headers": [(b"host", b"localhost:8000"), (b"x-one", b"1"), (b"x-one", b"2"), (b"content-type", b"text/plain")],
        "client": ("192.0.2.1", 4711),
        "server": ("127.0.0.1", 8000),
        "scheme": "http",
        **changes,
    }


@pytest.mark.pure
def test_a_lane_request_is_djangos_request():
    request = LaneRequest(scope())

    assert isinstance(request, HttpRequest)
    assert request.get_host() == "localhost:8000"
    assert request.build_absolute_uri() == "http://localhost:8000/api/sale/status?a=1&b=2"
    assert request.headers["X-One"] == "1,2"
    assert request.META["CONTENT_TYPE"] == "text/plain"
    assert request.META["REMOTE_ADDR"] == "192.0.2.1"
    assert (request.body, request.is_secure()) == (b"", False)


@pytest.mark.pure
@pytest.mark.parametrize("name", ["GET", "POST", "COOKIES"])
def test_a_lane_request_has_no_parsed_fields(name: str):
    assert not hasattr(LaneRequest(scope()), name), "a stranger sends thousands of them"


@pytest.mark.pure
def test_a_lane_request_knows_a_foreign_host():
    with pytest.raises(DisallowedHost):
        LaneRequest(scope(headers=[(b"host", b"evil.example")])).get_host()


def test_an_exception_is_a_logged_500_with_a_json_body(broken_server: WebServer):
    with httpx.Client(base_url=broken_server.url) as client:
        response = client.get("/crash")
        after = client.get("/health/live")

    assert response.status_code == 500
    assert response.json()["code"] == "server_error"
    assert after.status_code == 200
    assert "GET /crash failed" in broken_server.log.read_text()
    assert "ZeroDivisionError" in broken_server.log.read_text()


def test_a_body_that_does_not_arrive_is_a_408(server: WebServer):
    request = (
        b"POST /api/sale/purchase HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: 20\r\n\r\n{"
    )
    with raw(server, request) as connection:
        answer = connection.recv(4096)

    assert answer.startswith(b"HTTP/1.1 408 ")


def test_a_failing_page_or_refusal_is_a_500(broken_server: WebServer):
    page = httpx.get(f"{broken_server.url}/broken-page")
    refusal = httpx.get(f"{broken_server.url}/broken-refusal")

    assert (page.status_code, "Something went wrong" in page.text) == (500, True)
    assert (refusal.status_code, refusal.json()["code"]) == (500, "server_error")


def raw(server: WebServer, request: bytes) -> socket.socket:
    host, port = server.url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)), timeout=60)
    connection.sendall(request)
    return connection


@pytest.mark.parametrize(
    ("path", "media_type", "body"),
    [
        ("/api/sale/purchase", b"application/json", b'{"userId":"cut"}'),
        ("/", b"application/x-www-form-urlencoded", b"userId=cut@example.co"),
    ],
)
def test_a_request_that_breaks_off_buys_nothing(
    server: WebServer, open_sale: Sale, seen: Callable[[], None], path: str, media_type: bytes, body: bytes
):
    """Who buys afterwards is the only buyer."""
    seen()
    head = b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n"

    with raw(server, head % (path.encode(), media_type, len(body) + 1) + body):
        time.sleep(0.2)
    httpx.post(f"{server.url}/api/sale/purchase", json={"userId": "later"}).raise_for_status()

    assert store.client().hkeys(store.key(open_sale.id, "purchases")) == [b"later"]


def test_requests_that_do_not_end_hold_up_nobody_else(server: WebServer):
    """Others are answered while those are still waited for; a slow machine gives them up after 5 s, and tries again."""
    head = b"POST /admin/login/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nx=1"

    def is_answered_meanwhile() -> bool:
        held = [raw(server, head) for _ in range(40)]
        try:
            responses = [httpx.get(f"{server.url}{ICON}") for _ in range(4)]
            assert {response.status_code for response in responses} == {200}
            answered, _, _ = select.select(held, [], [], 0)
            return not answered
        finally:
            for connection in held:
                connection.close()

    assert any(is_answered_meanwhile() for _ in range(10))


def test_a_body_for_django_arrives_whole(server: WebServer):
    response = httpx.post(f"{server.url}/admin/login/", data={"username": "x" * 8_000, "password": "y"})

    assert response.status_code == 403  # no CSRF token: Django has read it and refused it


@pytest.mark.pure
def test_a_header_that_looks_like_another_is_dropped():
    request = LaneRequest(scope(headers=[(b"x-forwarded-for", b"192.0.2.7"), (b"x_forwarded_for", b"203.0.113.1")]))

    assert request.META["HTTP_X_FORWARDED_FOR"] == "192.0.2.7"


@pytest.mark.pure
def test_a_view_not_made_by_endpoint_stops_the_start():
    with pytest.raises(TypeError, match="is made by"):
        Lane([path("x", lambda request: None)], None)  # type: ignore[arg-type,return-value]


def test_requests_of_one_address_are_limited(broken_server: WebServer):
    """A hundred at once, and then one in each 36 s. Nobody else comes from this address."""
    own = httpx.HTTPTransport(local_address="127.0.0.77")
    with httpx.Client(base_url=broken_server.url, transport=own) as client:
        began = time.monotonic()
        responses = [client.get("/health/live") for _ in range(120)]
        seconds = time.monotonic() - began
        page = client.get("/")

    limited = [response for response in responses if response.status_code == 429]
    assert 100 <= 120 - len(limited) <= 101 + seconds / 36
    assert limited[0].json()["code"] == "rate_limited"
    assert 1 <= int(limited[0].headers["retry-after"]) <= 36
    assert page.status_code == 429
    assert page.headers["content-type"].startswith("text/html")


def test_sigterm_lets_what_is_in_flight_finish(static_files: None, redis_server: object, django_db_setup: None):
    server = WebServer({"PORT": str(free_port()), "WEB_CONCURRENCY": "1"}, "tests.broken_views:application")
    server.start()
    answers: list[httpx.Response] = []
    thread = threading.Thread(target=lambda: answers.append(httpx.get(f"{server.url}/slow", timeout=60)))

    thread.start()
    wait_until(lambda: "asked for what is slow" in server.log.read_text(), "it is in flight", within_seconds=60)
    server.stop()
    thread.join()

    assert answers[0].json() == {"status": "done"}
    assert server.popen
    assert server.popen.returncode == 0


def test_other_addresses_are_served_by_django(server: WebServer, db: None):
    response = httpx.get(f"{server.url}/nowhere")

    assert response.status_code == 404
    assert response.headers["x-frame-options"] == "DENY"


def test_busy_threads_give_way_to_the_lane_early(broken_server: WebServer):
    set_in_worker = httpx.get(f"{broken_server.url}/interpreter", timeout=30).json()

    assert set_in_worker["switchSeconds"] < 0.001
    assert set_in_worker["collectAfter"] == 50_000
