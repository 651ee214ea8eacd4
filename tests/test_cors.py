"""Scripts of other sites: those of the allowed origins may use the JSON API, without cookies; nobody else may."""

import http.server
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser

from sales import store
from sales.models import Sale
from tests.conftest import MakeSale
from tests.servers import ICON, PATIENT, WebServer, free_port

PARTNER, OTHER_PARTNER = "https://partner.example", "http://localhost:3000"
ALLOWED = "Authorization, Content-Type, Idempotency-Key, If-None-Match, Traceparent, X-Request-Id"
EXPOSED = "ETag, Idempotent-Replayed, RateLimit, RateLimit-Policy, Retry-After, WWW-Authenticate, X-Request-Id"
JSON = {"Content-Type": "application/json"}
BUY = "/api/sale/purchase"

Served = Callable[..., httpx.Response]


@pytest.fixture(scope="module")
def shared_server(server: WebServer, partners: list[str]) -> Iterator[WebServer]:
    """A web server that allows two sites by name, and the first of those that there really are."""
    origins = ", ".join([PARTNER, OTHER_PARTNER, partners[0]])
    environment = {"CORS_ORIGINS": origins, "WEB_CONCURRENCY": "1", "EVENT_LISTENERS": "2"}
    with WebServer({"PORT": str(free_port()), **environment}, PATIENT) as found:
        yield found


@pytest.fixture
def limited_server(server: WebServer) -> Iterator[WebServer]:
    environment = {"CORS_ORIGINS": PARTNER, "WEB_CONCURRENCY": "1", "ADDRESS_RATE": "20/10h"}
    with WebServer({"PORT": str(free_port()), **environment}, PATIENT) as found:
        yield found


@pytest.fixture
def shared(shared_server: WebServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=shared_server.url) as client:
        yield client


@pytest.fixture(autouse=True)
def _seen(request: pytest.FixtureRequest, seen: Callable[[], None]) -> None:
    if "open_sale" in request.fixturenames:
        request.getfixturevalue("open_sale")
        seen()


def told(response: httpx.Response) -> dict[str, str]:
    """Return what an answer says of origins."""
    return {name: value for name, value in response.headers.items() if name == "vary" or name.startswith("access-")}


def to(origin: str) -> dict[str, str]:
    return {"vary": "Origin", "access-control-allow-origin": origin, "access-control-expose-headers": EXPOSED}


TO_NOBODY = {"vary": "Origin"}

# Method, path, headers, body, and the answer's status.
ANSWERS: list[tuple[str, str, dict[str, str], bytes, int]] = [
    ("GET", "/api/sale/status", {}, b"", 200),
    ("HEAD", "/api/sale/status", {}, b"", 200),
    ("GET", "/api/sale/user/ada", {}, b"", 200),
    ("POST", BUY, JSON, b'{"userId":"ada"}', 200),
    ("POST", BUY, JSON, b"{}", 400),
    ("GET", "/api/sale/status", {"Host": "evil.example"}, b"", 400),
    ("GET", "/api/sales/nothing/status", {}, b"", 404),
    ("PUT", "/api/sale/status", {}, b"", 405),
    ("POST", BUY, JSON, b"x" * 9000, 413),
    ("POST", BUY, {}, b"", 415),
    ("POST", "/api/sale/nothing", {}, b"x" * 9000, 413),
]


def test_every_answer_tells_an_allowed_origin_that_it_may_read(shared: httpx.Client, open_sale: Sale):
    for method, path, headers, body, status in ANSWERS:
        to_partner = shared.request(method, path, headers={**headers, "Origin": PARTNER}, content=body)
        to_script = shared.request(method, path, headers=headers, content=body)

        assert (method, path, to_partner.status_code) == (method, path, status)
        assert told(to_partner) == to(PARTNER)
        assert told(to_script) == TO_NOBODY


def test_an_answer_that_has_not_changed_says_so_too(shared: httpx.Client, open_sale: Sale):
    headers = {"If-None-Match": shared.get("/api/sale/status").headers["ETag"]}

    to_partner = shared.get("/api/sale/status", headers={**headers, "Origin": PARTNER})
    to_script = shared.get("/api/sale/status", headers=headers)

    assert (to_partner.status_code, told(to_partner)) == (304, to(PARTNER))
    assert (to_script.status_code, told(to_script)) == (304, TO_NOBODY)


def test_an_allowed_origin_may_read_the_rate_limit_refusal(shared: httpx.Client, open_sale: Sale):
    for _ in range(200):  # one more a second is allowed
        refused = shared.post(BUY, json={"userId": "ada"}, headers={"Origin": PARTNER})
        if refused.status_code == 429:
            break

    assert refused.status_code == 429
    assert told(refused) == to(PARTNER)


def test_an_event_stream_and_its_refusal_may_be_read(shared: httpx.Client, open_sale: Sale):
    path, headers = "/api/sale/events", {"Origin": PARTNER}

    with ExitStack() as stack:
        # An earlier listener may still have its place: of two places at least one is free.
        streams = [stack.enter_context(shared.stream("GET", path, headers=headers)) for _ in range(3)]

        assert (streams[0].status_code, streams[-1].status_code) == (200, 503)
        assert [told(stream) for stream in streams] == [to(PARTNER)] * 3


def answer_to_a_part(server: WebServer, path: str) -> bytes:
    """Return the head of the answer to a body of which one byte arrives."""
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nOrigin: {PARTNER}\r\nContent-Length: 20\r\n\r\n{{"
    url, received = httpx.URL(server.url), b""
    with socket.create_connection((url.host, url.port or 80), timeout=60) as connection:
        connection.sendall(head.encode())
        while b"\r\n\r\n" not in received and (part := connection.recv(65536)):
            received += part
    return received


def test_a_body_that_does_not_arrive_is_answered_readably(shared_server: WebServer):
    """And a code that does not, to nobody from elsewhere."""
    with ThreadPoolExecutor(2) as threads:
        bought, given = threads.map(lambda path: answer_to_a_part(shared_server, path), (BUY, "/api/shopper/code"))

    assert bought.startswith(b"HTTP/1.1 408 ")
    assert f"access-control-allow-origin: {PARTNER}\r\n".encode() in bought
    assert given.startswith(b"HTTP/1.1 408 ")
    assert b"access-control" not in given
    assert b"vary: origin" not in given


def test_a_shared_answer_keeps_nothing_of_its_first_asker(shared: httpx.Client, make_sale: MakeSale, seen):
    make_sale(stock=1)
    seen()
    shared.post(BUY, json={"userId": "first"})
    askers: list[dict[str, str]] = [{"Origin": PARTNER}, {}, {"Origin": OTHER_PARTNER}, {"Origin": PARTNER}, {}]

    heard = [shared.post(BUY, json={"userId": f"{n}"}, headers=headers) for n, headers in enumerate(askers)]

    assert {response.json()["code"] for response in heard} == {"sold_out"}
    assert [told(response) for response in heard] == [
        to(headers["Origin"]) if headers else TO_NOBODY for headers in askers
    ]


STRANGERS = [
    "https://evil.example",
    "https://partner.example.evil.example",
    "https://evil-partner.example",
    "https://partner.example:8443",
    "https://partner.example:443",
    "https://partner.example/",
    "http://partner.example",
    "HTTPS://PARTNER.EXAMPLE",
    "https://partner.example, https://evil.example",
    "https://sub.partner.example",
    "http://localhost",
    "null",
    "*",
    "",
]


def test_a_stranger_may_read_nothing_and_buy_nothing(shared: httpx.Client, open_sale: Sale):
    for origin in STRANGERS:
        read = shared.get("/api/sale/status", headers={"Origin": origin})
        bought = shared.post(BUY, json={"userId": "ada"}, headers={"Origin": origin})
        asked = shared.options(BUY, headers={"Origin": origin, "Access-Control-Request-Method": "POST"})

        assert (origin, read.status_code, bought.status_code, asked.status_code) == (origin, 200, 403, 405)
        assert [told(response) for response in (read, bought, asked)] == [TO_NOBODY] * 3
    assert store.client().hlen(store.key(open_sale.id, "purchases")) == 0


@pytest.mark.parametrize("second", [PARTNER, "https://evil.example"])
def test_a_request_with_two_origins_is_foreign(shared: httpx.Client, open_sale: Sale, second: str):
    headers = [("Origin", PARTNER), ("Origin", second)]

    bought = shared.post(BUY, json={"userId": "ada"}, headers=headers)

    assert (bought.status_code, told(bought)) == (403, TO_NOBODY)


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        (BUY, "POST"),
        ("/api/sales/widget/purchase", "POST"),
        ("/api/sale/status", "GET, HEAD"),
        ("/api/sale/events", "GET, HEAD"),
        ("/api/sale/user/ada/b", "GET, HEAD"),
    ],
)
def test_a_preflight_lists_the_methods_and_headers_allowed(shared: httpx.Client, path: str, methods: str):
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}

    response = shared.options(path, headers={"Origin": PARTNER, **asked})

    assert (response.status_code, response.content) == (204, b"")
    assert "content-length" not in response.headers, "RFC 9110, section 8.6"
    assert told(response) == to(PARTNER) | {
        "access-control-allow-methods": methods,
        "access-control-allow-headers": ALLOWED,
        "access-control-max-age": "7200",
    }


def test_options_without_a_preflight_is_method_not_allowed(shared: httpx.Client):
    response = shared.options(BUY, headers={"Origin": PARTNER})

    assert (response.status_code, response.headers["Allow"]) == (405, "POST")
    assert told(response) == to(PARTNER)


@pytest.mark.parametrize("path", ["/api/sale/nothing", "/api/sales/x/y", "/api/nothing"])
def test_an_address_that_is_none_says_so_readably(shared: httpx.Client, path: str):
    to_partner = shared.get(path, headers={"Origin": PARTNER})

    assert (to_partner.status_code, to_partner.json()["code"]) == (404, "no_sale")
    assert to_partner.headers["access-control-allow-origin"] == PARTNER
    assert "Origin" in to_partner.headers["vary"].split(", ")


@pytest.mark.parametrize("path", ["/api/shopper/code", "/api/shopper/token", "/api/shopper/nothing"])
@pytest.mark.parametrize(
    ("method", "headers", "body"),
    [
        ("GET", {}, b""),
        ("POST", JSON, b"{}"),
        ("POST", JSON, b"x" * 9000),
        ("POST", {"Host": "evil.example"}, b"x"),
        ("OPTIONS", {"Access-Control-Request-Method": "POST"}, b""),
    ],
    ids=["read", "sent", "too large", "foreign host", "asked"],
)
def test_allowed_origins_cannot_read_the_shopper_api(
    shared: httpx.Client, path: str, method: str, headers: dict[str, str], body: bytes
):
    response = shared.request(method, path, headers={**headers, "Origin": PARTNER}, content=body)

    assert not [name for name in response.headers if name.startswith("access-")]
    assert "Origin" not in response.headers.get("vary", "")


def test_other_origins_cannot_read_refusals_of_slow_or_frequent_codes(limited_server: WebServer):
    """Too slowly: see test_a_body_that_does_not_arrive_is_answered_readably."""
    with httpx.Client(base_url=limited_server.url, headers={"Origin": PARTNER}) as client:
        often = [client.post("/api/shopper/code", headers=JSON) for _ in range(21)][-1]

    assert (often.status_code, told(often)) == (429, {})


@pytest.mark.parametrize("path", ["/", "/sales/", "/health", "/health/live", "/orders/find/", "/admin/login/"])
def test_nothing_but_the_api_is_shared(shared: httpx.Client, path: str):
    asked = shared.options(path, headers={"Origin": PARTNER, "Access-Control-Request-Method": "POST"})
    read = shared.get(path, headers={"Origin": PARTNER})

    for response in (asked, read):
        assert not [name for name in told(response) if name.startswith("access-")]
        assert "Origin" not in response.headers.get("Vary", "")


@pytest.mark.parametrize("path", ["/", "/orders/find/"])
def test_a_form_of_an_allowed_origin_is_foreign(shared: httpx.Client, open_sale: Sale, path: str):
    response = shared.post(path, data={"userId": "ada", "sale": open_sale.slug}, headers={"Origin": PARTNER})

    assert response.status_code == 403
    assert store.client().hlen(store.key(open_sale.id, "purchases")) == 0


def test_by_default_no_origin_may_read_anything(http: httpx.Client, open_sale: Sale):
    read = http.get("/api/sale/status", headers={"Origin": PARTNER})
    bought = http.post(BUY, json={"userId": "ada"}, headers={"Origin": PARTNER})
    asked = http.options(BUY, headers={"Origin": PARTNER, "Access-Control-Request-Method": "POST"})
    file = http.get(ICON, headers={"Origin": PARTNER})

    assert (read.status_code, bought.status_code, asked.status_code, file.status_code) == (200, 403, 405, 200)
    assert not [name for response in (read, bought, asked, file) for name in told(response) if name != "vary"]
    assert told(read) == told(bought) == {}


def test_over_https_either(https_server: WebServer, open_sale: Sale):
    read = httpx.get(f"{https_server.url}/api/sale/status", headers={"X-Forwarded-Proto": "https", "Origin": PARTNER})

    assert (read.status_code, told(read)) == (200, {})


class _Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>Partner</title>")

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture(scope="module")
def partners() -> Iterator[list[str]]:
    """The origins of two other sites."""
    servers = [http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Page) for _ in range(2)]
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    yield [f"http://127.0.0.1:{server.server_port}" for server in servers]
    for server in servers:
        server.shutdown()
        server.server_close()


READ = """async (url) => {
  try {
    const response = await fetch(`${url}/api/sale/status`);
    return [response.status, response.headers.get("etag") !== null, (await response.json()).status];
  } catch (error) { return error.name; }
}"""
PURCHASE = """async (url) => {
  try {
    const headers = { "Content-Type": "application/json", "Idempotency-Key": "k1" };
    const options = { method: "POST", headers, body: JSON.stringify({ userId: "ada" }) };
    const first = await fetch(`${url}/api/sale/purchase`, options);
    const second = await fetch(`${url}/api/sale/purchase`, { ...options, body: JSON.stringify({ userId: "bob" }) });
    return [first.status, (await first.json()).code, second.status, (await second.json()).code];
  } catch (error) { return error.name; }
}"""
LISTEN = """(url) => new Promise((resolve) => {
  const events = new EventSource(`${url}/api/sale/events`);
  const end = (found) => { events.close(); resolve(found); };
  events.addEventListener("status", (event) => end(JSON.parse(event.data).status));
  events.addEventListener("error", () => end("error"));
})"""
WITH_COOKIES = """async (url) => {
  try { return (await fetch(`${url}/api/sale/status`, { credentials: "include" })).status; }
  catch (error) { return error.name; }
}"""


@pytest.mark.django_db(transaction=True)  # the server, another process, reads SQL
def test_only_an_allowed_origins_script_can_use_the_api(
    chromium: Browser, shared_server: WebServer, partners: list[str], open_sale: Sale
):
    found = []
    for partner in partners:
        context = chromium.new_context()
        page = context.new_page()
        page.goto(partner)
        found.append([page.evaluate(script, shared_server.url) for script in (READ, PURCHASE, LISTEN, WITH_COOKIES)])
        context.close()

    purchased = [200, "purchased", 422, "idempotency_key_reused"]
    assert found == [
        [[200, True, "active"], purchased, "active", "TypeError"],
        ["TypeError", "TypeError", "error", "TypeError"],
    ]
