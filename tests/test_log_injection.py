"""What clients and operators send, through real servers and commands: it breaks no line, and no escape code gets by."""

import re
import socket
from collections.abc import Callable, Iterator
from urllib.parse import quote

import httpx
import orjson
import pytest
from django.conf import settings
from django.core.management import call_command

from flashsale.redaction import log_name
from sales.models import Order, Sale
from tests.conftest import MakeSale
from tests.redis_servers import wait_until
from tests.servers import RedisServer, WebServer, free_port

FORGED = "x\r\n2026-02-14T10:05:30.000Z ERROR sales.orders: forged"
NASTY = f"{FORGED}\x1b[2J\x1b]0;title\x07\u2028\u2029\u202e\u2066\x9b31m\x00"
BODY = NASTY.encode() + b"\xff\xfe\xed\xa0\x80"
HOST = b"HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
# What an HTTP client does not send.
RAW = [
    b"GET /\x1b[31m",
    b"GET / HTTP/1.1\r\nHost: a\x1b[31m\r\n\r\n",
    b"\x1b[2J\n\n",
    b"GET /?\xe2\x80\xae " + HOST,
    b"GET /nowhere?\xe2\x80\xae " + HOST,
    b"GET /nowhere/\xe2\x80\xae " + HOST,
    BODY,
]
A_RECORD = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]{12}Z [A-Z]+ [\w.]+( \[[\w.-]+\])?: .+")


@pytest.fixture(scope="module", params=["json", "text"])
def logging_server(
    request: pytest.FixtureRequest, static_files: None, redis_server: RedisServer, django_db_setup: None
) -> Iterator[WebServer]:
    environment = {"PORT": str(free_port()), "WEB_CONCURRENCY": "1", "LOG_FORMAT": request.param, "LOG_LEVEL": "debug"}
    with WebServer(environment, "tests.broken_views:application") as server:
        yield server


def assert_whole(log: str) -> None:
    """Every line is a record, or one of a traceback in the readable form."""
    for line in log.removesuffix("\n").split("\n"):
        assert line.isprintable(), ascii(line)
        if line.startswith("{"):
            assert orjson.loads(line).keys() >= {"time", "level", "logger", "message"}
        else:
            assert line.startswith("    ") or A_RECORD.fullmatch(line), line


def send_raw(server: WebServer, data: bytes) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass


def test_no_client_breaks_a_line(logging_server: WebServer, open_sale: Sale):
    quoted = quote(NASTY.encode(), safe="")
    with httpx.Client(base_url=logging_server.url) as client:
        failed = client.post(f"/quote/{quoted}?q={quoted}", content=BODY, headers={"X-Request-Id": "known-1"})
        client.get("/quote/x", headers={b"User-Agent": b"a\x9b31m\xe2\x80\xae"})
        client.post("/api/sale/purchase", json={"userId": NASTY})
        client.post("/api/sale/purchase", json={"userId": "ada\u2028x"})
        client.post("/", data={"userId": NASTY})
        for path in ("/api/sale/user/", "/nowhere/", "/receipts/", "/sales/", "/admin/"):
            client.get(f"{path}{quoted}/?{quoted}")
        page = client.get("/admin/login/")
        token = page.text.partition('name="csrfmiddlewaretoken" value="')[2].partition('"')[0]
        client.post("/admin/login/", data={"username": NASTY, "password": NASTY, "csrfmiddlewaretoken": token})
        client.post("/admin/login/", headers={b"Origin": b"http://evil.example\xe2\x80\xae\x9b31m"})
        client.post("/orders/find/", data={"sale": NASTY, "user_id": NASTY})
    for request in RAW:
        send_raw(logging_server, request)

    log = logging_server.log.read_text()
    assert failed.status_code == 500
    assert_whole(log)
    assert r"forged\x1b[2J" in log.replace("\\\\", "\\"), "nothing of it was logged at all"
    assert "known-1" in log


def test_a_batch_is_one_line_and_a_purchase_none(logging_server: WebServer, open_sale: Sale, seen: Callable[[], None]):
    seen()

    with httpx.Client(base_url=logging_server.url, headers={"X-Request-Id": "p-1"}) as client:
        response = client.post("/api/sale/purchase", json={"userId": "grace"})

    assert response.status_code == 200
    wait_until(lambda: "a batch of 1 was answered in" in logging_server.log.read_text(), "it is logged")
    log = logging_server.log.read_text()
    assert "grace" not in log
    assert "p-1" not in log, "a batch belongs to many requests"


def test_the_log_has_no_shopper_name_or_key(logging_server: WebServer):
    with httpx.Client(base_url=logging_server.url, headers={"Idempotency-Key": "key-of-lovelace"}) as client:
        client.get("/quote/lovelace@example.com")
        client.get("/api/sale/user/lovelace@example.com")
        client.get("/receipts/1.2-0.6ac91c8d3375224ed5639afbb5061008/")

    log = logging_server.log.read_text()
    assert "lovelace@" not in log
    assert log_name("lovelace@example.com", settings.SECRET_KEY) in log
    assert "6ac91c8d" not in log
    assert "GET /quote/<any:text> failed" in log


def test_hostile_names_break_no_line_of_a_command(make_sale: MakeSale, capsys: pytest.CaptureFixture):
    sale = make_sale(name=NASTY.replace("\x00", ""), slug="odd")
    order = Order(sale=sale, order_id="1771063530000-0", user_id="ada\u2028\x1b[2J", remaining_stock=1)
    order.purchased_at = sale.starts_at
    order.save()

    for command in ("audit_sale", "preflight"):
        with pytest.raises(SystemExit):
            call_command(command, "odd")

    told = capsys.readouterr()
    assert r"ada\u2028\x1b[2J" in told.out
    assert all(line.isprintable() for line in (told.out + told.err).split("\n"))
