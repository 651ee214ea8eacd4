"""Which hosts are served: those of ALLOWED_HOSTS, however a request names its host, on every route."""

import httpx
import pytest

from tests.servers import ICON, WebServer
from tests.test_framing import answers

ROUTES = [
    "/",
    "/sales/",
    "/api/sale/status",
    "/api/sale/events",
    "/api/sale/user/ada",
    "/health",
    "/health/live",
    ICON,
    "/robots.txt",
    "/media/products/x.webp",
    "/admin/login/",
    "/orders/find/",
    "/nowhere",
]


@pytest.mark.parametrize("path", ROUTES)
def test_a_foreign_host_is_refused_on_every_route(http: httpx.Client, path: str):
    response = http.get(path, headers={"Host": "evil.example"})

    assert response.status_code == 400
    assert "This host is not served here" in response.text


@pytest.mark.parametrize("name", ["X-Forwarded-Host", "X-Host", "X-Forwarded-Server", "Forwarded", "X_Forwarded_Host"])
@pytest.mark.parametrize("path", ["/nowhere", "/api/sale/status", "/sales"])
def test_no_other_header_names_the_host(http: httpx.Client, name: str, path: str):
    value = "host=evil.example" if name == "Forwarded" else "evil.example"

    served = http.get(path, headers={name: value})
    refused = http.get(path, headers={"Host": "evil.example", name: "localhost"})

    assert served.status_code in (301, 404)
    assert "evil" not in served.headers.get("Location", "")
    assert refused.status_code == 400


def status(server: WebServer, *lines: str, target: str = "/health/live", version: str = "1.1") -> int:
    """Return the status of the answer to a request with these header lines."""
    head = "\r\n".join([f"GET {target} HTTP/{version}", *lines, "Connection: close", "", ""])
    received = answers(server, head.encode("latin-1"))
    assert received.startswith(b"HTTP/1.1 "), received
    assert received.count(b"HTTP/1.1 ") == 1
    return int(received[9:12])


GOOD_HOSTS = ["localhost", "LOCALHOST", "localhost:1", "localhost:8000", "localhost.", "127.0.0.1", "127.0.0.1:80"]
BAD_HOSTS = [
    "",
    " ",
    "evil.example",
    "localhost.evil.example",
    "evil.localhost",
    "evil.example:80",
    "localhost:",
    "localhost:x",
    "localhost:80:80",
    "localhost:-1",
    "localhost:80@evil.example",
    "user@localhost",
    "localhost@evil.example",
    "localhost/",
    "localhost, evil.example",
    "localhost,localhost",
    "localhost evil.example",
    "localhost\tevil.example",
    "localhost#",
    "localhost?",
    "localhost%00",
    "localhost..",
    "l\xf6calhost",
    "[::1]",
    "[::1]:8000",
    "[::1",
    "::1",
    "[evil]",
    "127.0.0.01",
    "127.1",
    "2130706433",
    "http://localhost",
    "*",
    ".localhost",
]


@pytest.mark.parametrize("host", GOOD_HOSTS)
def test_our_host_is_served_with_any_port_and_case(server: WebServer, host: str):
    assert status(server, f"Host: {host}") == 200


@pytest.mark.parametrize("host", BAD_HOSTS)
@pytest.mark.parametrize("target", ["/health/live", "/nowhere"])
def test_a_host_that_is_not_ours_is_refused(server: WebServer, host: str, target: str):
    assert status(server, f"Host: {host}", target=target) == 400


@pytest.mark.parametrize(
    "lines",
    [
        ["Host: localhost", "Host: localhost"],
        ["Host: localhost", "Host: evil.example"],
        ["Host: evil.example", "Host: localhost"],
        ["Host: localhost", "hOST: evil.example"],
        ["Host: localhost", "Host:"],
        ["Host:", "Host: localhost"],
    ],
)
@pytest.mark.parametrize("target", ["/health/live", "/nowhere"])
def test_two_hosts_are_refused(server: WebServer, lines: list[str], target: str):
    assert status(server, *lines, target=target) == 400


@pytest.mark.parametrize("target", ["/health/live", "/nowhere", "http://localhost/health/live"])
def test_no_host_is_refused(server: WebServer, target: str):
    assert status(server, target=target) == 400


def test_http_1_0_needs_no_host_header(server: WebServer):
    unnamed = status(server, version="1.0")
    foreign = status(server, "Host: evil.example", version="1.0")
    empty_afterwards = status(server, "Host:")

    assert (unnamed, foreign, empty_afterwards) == (200, 400, 400)


@pytest.mark.parametrize(
    ("target", "host", "expected"),
    [
        ("http://localhost/health/live", "localhost", 200),
        ("https://localhost/health/live?x=1", "localhost", 200),
        ("http://localhost:8000/health/live", "localhost:8000", 200),
        ("http://evil.example/health/live", "localhost", 400),
        ("http://evil.example", "localhost", 400),
        ("http://evil.example?x=/", "localhost", 400),
        ("http://localhost/health/live", "evil.example", 400),
        ("http://evil.example/health/live", "evil.example", 400),
        ("http://user@localhost/health/live", "localhost", 400),
        ("http://localhost@evil.example/health/live", "localhost", 400),
        ("http://localhost:1/health/live", "localhost:2", 400),
        ("//evil.example/health/live", "localhost", 404),
        ("*", "localhost", 400),
        ("evil.example", "localhost", 400),
    ],
)
def test_a_host_in_the_target_must_match_the_header(server: WebServer, target: str, host: str, expected: int):
    assert status(server, f"Host: {host}", target=target) == expected


def test_a_foreign_target_without_a_host_header_is_refused(server: WebServer):
    assert status(server, target="http://evil.example/health/live", version="1.0") == 400
    assert status(server, target="http://localhost/health/live", version="1.0") == 200


def test_a_redirect_leads_to_no_host_from_the_target(server: WebServer):
    received = answers(server, b"GET //evil.example/sales HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")

    assert b"location: //" not in received.lower()
    assert b"location: http" not in received.lower()
