"""A request's ID and trace: taken from who asks, and given back."""

import re
from collections.abc import Callable

import httpx
import pytest
from django.test import RequestFactory

from flashsale import tracing
from sales.models import Sale
from tests.servers import ICON, WebServer

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
RANDOM_ID = re.compile(r"[0-9a-f]{16}")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/sale/status", 200),
        ("GET", "/", 200),
        ("GET", "/health/live", 200),
        ("POST", "/api/sale/purchase", 415),
        ("GET", "/api/sales/nothing/status", 404),
        ("GET", "/orders/find/", 200),
        ("GET", "/nowhere", 404),
        ("GET", ICON, 200),
    ],
)
def test_a_sent_id_and_trace_are_returned(
    http: httpx.Client, open_sale: Sale, seen: Callable[[], None], method: str, path: str, status: int
):
    seen()

    response = http.request(method, path, headers={"X-Request-Id": "Ab.c_d-1", "traceparent": TRACEPARENT})

    assert response.status_code == status
    assert response.headers.get_list("X-Request-Id") == ["Ab.c_d-1"]
    assert response.headers.get_list("traceparent") == [TRACEPARENT]


def test_purchase_and_its_refusal_carry_the_id_that_was_sent(
    http: httpx.Client, open_sale: Sale, seen: Callable[[], None]
):
    seen()
    headers = {"X-Request-Id": "mine"}

    won, again = (http.post("/api/sale/purchase", json={"userId": "ada"}, headers=headers) for _ in range(2))

    assert (won.status_code, again.status_code) == (200, 409)
    assert won.headers["X-Request-Id"] == again.headers["X-Request-Id"] == "mine"
    assert "requestId" not in won.json() | again.json()


def test_an_answer_that_all_share_carries_nobodys_id(http: httpx.Client, make_sale: Callable, seen: Callable):
    make_sale(stock=1)
    seen()
    http.post("/api/sale/purchase", json={"userId": "ada"})

    mine = http.post("/api/sale/purchase", json={"userId": "eve"}, headers={"X-Request-Id": "mine"})
    others = [http.post("/api/sale/purchase", json={"userId": f"eve{number}"}) for number in range(4)]

    assert (mine.json()["code"], mine.headers["X-Request-Id"]) == ("sold_out", "mine")
    assert {other.json()["code"] for other in others} == {"sold_out"}
    assert not any("X-Request-Id" in other.headers for other in others)


def test_a_refusal_names_its_request_in_head_and_body(http: httpx.Client):
    first, second = (http.get("/api/sale/status") for _ in range(2))

    assert first.status_code == 404
    assert RANDOM_ID.fullmatch(first.json()["requestId"])
    assert first.headers["X-Request-Id"] == first.json()["requestId"]
    assert first.json()["requestId"] != second.json()["requestId"]


def test_a_refusal_page_names_its_request(http: httpx.Client):
    pages = [http.get("/"), http.get("/nowhere"), http.get("/receipts/1.2-0.no/")]

    assert [page.status_code for page in pages] == [404, 404, 404]
    assert all(RANDOM_ID.fullmatch(page.headers["X-Request-Id"]) for page in pages)
    assert all(f"name request {page.headers['X-Request-Id']}." in page.text for page in pages)


def test_a_page_of_our_fault_shows_the_id(broken_server: WebServer):
    page = httpx.get(f"{broken_server.url}/broken-page", headers={"X-Request-Id": "a-1"})
    again = httpx.get(f"{broken_server.url}/broken-page", headers={"X-Request-Id": "a-2"})

    assert (page.status_code, page.headers["X-Request-Id"]) == (500, "a-1")
    assert "name request a-1." in page.text
    assert "name request a-2." in again.text


@pytest.mark.parametrize("sent", ["x" * 65, "a b", "é", "a,b", "<script>", "a\tb", ""])
def test_an_id_that_is_not_sane_is_replaced(http: httpx.Client, sent: str):
    response = http.get("/health/live", headers={b"X-Request-Id": sent.encode()})

    assert RANDOM_ID.fullmatch(response.headers["X-Request-Id"])


def test_two_ids_are_none(http: httpx.Client):
    response = http.get("/health/live", headers=[("X-Request-Id", "a"), ("X-Request-Id", "b")])

    assert RANDOM_ID.fullmatch(response.headers["X-Request-Id"])


def test_without_an_id_none_is_returned(http: httpx.Client):
    response = http.get("/health/live")

    assert "X-Request-Id" not in response.headers
    assert "traceparent" not in response.headers


@pytest.mark.pure
@pytest.mark.parametrize(
    ("traceparent", "is_valid"),
    [
        (TRACEPARENT, True),
        (TRACEPARENT.replace("00-4", "cc-4") + "-what-comes", True),
        (TRACEPARENT + "-more", False),
        (TRACEPARENT.replace("00-4", "cc-4") + ".more", False),
        (TRACEPARENT.replace("00-4", "ff-4"), False),
        (TRACEPARENT.upper(), False),
        (f"00-{'0' * 32}-00f067aa0ba902b7-01", False),
        (f"00-4bf92f3577b34da6a3ce929d0e0e4736-{'0' * 16}-01", False),
        (TRACEPARENT[:-1], False),
        (f"{TRACEPARENT},{TRACEPARENT}", False),
        ("", False),
    ],
)
def test_a_trace_is_taken_as_trace_context_has_it(traceparent: str, is_valid: bool):
    found = tracing.trace_of(RequestFactory().get("/", headers={"traceparent": traceparent}))

    assert (found is not None) == is_valid
