"""The express lane: genuine requests, limits in front, and no dropped connection."""

import socket
import threading
import time
from collections.abc import Iterator

import httpx
import pytest
from django.core.exceptions import DisallowedHost
from django.http import HttpRequest

from flashsale.lane import LaneRequest
from tests.servers import WebServer, free_port


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


def test_a_lane_request_is_djangos_request():
    request = LaneRequest(scope())

    assert isinstance(request, HttpRequest)
    assert request.get_host() == "localhost:8000"
    assert request.build_absolute_uri() == "http://localhost:8000/api/sale/status?a=1&b=2"
    assert request.headers["X-One"] == "1,2"
    assert request.META["CONTENT_TYPE"] == "text/plain"
    assert request.META["REMOTE_ADDR"] == "192.0.2.1"
    assert request.GET["b"] == "2"
    assert (request.body, request.COOKIES, request.is_secure()) == (b"", {}, False)


def test_a_lane_request_knows_a_foreign_host():
    with pytest.raises(DisallowedHost):
        LaneRequest(scope(headers=[(b"host", b"evil.example")])).get_host()


@pytest.fixture(scope="module")
def broken_server(static_files: None, redis_server: object, django_db_setup: None) -> Iterator[WebServer]:
    server = WebServer(
        {"PORT": str(free_port()), "WEB_CONCURRENCY": "1", "ADDRESS_RATE": "50/2s"}, "tests.broken_views:application"
    )
    server.start()
    yield server
    server.stop()


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
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(
            b"POST /api/sale/purchase HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: 20\r\n\r\n{"
        )
        answer = connection.recv(4096)

    assert answer.startswith(b"HTTP/1.1 408 ")


def test_requests_of_one_address_are_limited(broken_server: WebServer):
    time.sleep(2)
    with httpx.Client(base_url=broken_server.url) as client:
        responses = [client.get("/health/live") for _ in range(60)]
        page = client.get("/")

    limited = [response for response in responses if response.status_code == 429]
    assert len(limited) == 10
    assert limited[0].json()["code"] == "rate_limited"
    assert 1 <= int(limited[0].headers["retry-after"]) <= 2
    assert page.status_code == 429
    assert page.headers["content-type"].startswith("text/html")


def test_sigterm_lets_what_is_in_flight_finish(static_files: None, redis_server: object, django_db_setup: None):
    server = WebServer({"PORT": str(free_port()), "WEB_CONCURRENCY": "1"}, "tests.broken_views:application")
    server.start()
    answers: list[httpx.Response] = []
    thread = threading.Thread(target=lambda: answers.append(httpx.get(f"{server.url}/slow", timeout=5)))

    thread.start()
    time.sleep(0.3)
    server.stop()
    thread.join()

    assert answers[0].json() == {"status": "done"}
    assert server.popen
    assert server.popen.returncode == 0


def test_what_is_not_on_the_lane_is_djangos(server: WebServer, db: None):
    response = httpx.get(f"{server.url}/nowhere")

    assert response.status_code == 404
    assert response.headers["x-frame-options"] == "DENY"
