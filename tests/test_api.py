"""Every row of the JSON API's contract, through a real server with two workers."""

import asyncio
import json
import re
import time
from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import httpx
import pytest
from django.utils import timezone

from sales import health, publishing, purchases, store
from sales.models import Sale
from sales.outcomes import CODE, HTTP_STATUS
from tests import openapi
from tests.conftest import MakeSale
from tests.servers import ICON, WebServer, of_both_workers

ISO = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?Z$")


@pytest.fixture(autouse=True)
def _fresh(request: pytest.FixtureRequest, seen: Callable[[], None]) -> None:
    """Have every worker see the sale that the test has; who makes others waits for them."""
    if made := {"open_sale", "sold_out_sale"} & set(request.fixturenames):
        for name in made:
            request.getfixturevalue(name)
        seen()


@pytest.fixture
def http(http: httpx.Client) -> httpx.Client:
    """A client that holds each answer of the API to its document."""

    def check(response: httpx.Response) -> None:
        if response.request.url.path.startswith(("/api/", "/health")):
            response.read()
            openapi.check(response)

    http.event_hooks["response"] = [check]
    return http


@pytest.fixture
def sold_out_sale(make_sale: MakeSale) -> Sale:
    sale = make_sale(stock=1)
    assert asyncio.run(purchases.buy(sale.id, "first@example.com")).outcome == "purchased"
    return sale


def buy(http: httpx.Client, user_id: object = "ada@example.com", key: str = "", path: str = "/api/sale/purchase"):
    headers = {"Idempotency-Key": key} if key else {}
    return http.post(path, json={"userId": user_id}, headers=headers)


def assert_refused(response: httpx.Response, status: int, code: str, remaining: int | None = None) -> None:
    assert response.status_code == status
    body = response.json()
    assert body["success"] is False
    assert body["code"] == code
    assert body["message"]
    assert body["remainingStock"] == remaining


# Status


def test_status_of_the_current_sale(http: httpx.Client, open_sale: Sale):
    response = http.get("/api/sale/status")

    body = response.json()
    assert response.status_code == 200
    assert response.headers["cache-control"] == "public, max-age=1"
    assert body["status"] == "active"
    assert (body["totalStock"], body["remainingStock"]) == (10, 10)
    assert (body["productName"], body["slug"]) == (open_sale.name, open_sale.slug)
    assert body["pollAfterMs"] >= 1000
    assert all(ISO.match(body[name]) for name in ("startTime", "endTime", "serverTime"))
    assert body["startTime"] < body["serverTime"] < body["endTime"]


def test_a_fresh_status_is_never_cached(http: httpx.Client, open_sale: Sale):
    known = http.get("/api/sale/status").headers["etag"]

    response = http.get("/api/sale/status", params={"fresh": "1"}, headers={"If-None-Match": known})

    assert response.status_code == 200
    assert response.headers["cache-control"] == "no-store"
    assert response.json()["status"] == "active"


def test_status_tells_when_the_last_unit_went(http: httpx.Client, sold_out_sale: Sale, seen: Callable[[], None]):
    bought_at = http.get("/api/sale/user/first@example.com").json()["purchaseTime"]
    sold_out = http.get("/api/sale/status").json()

    Sale.objects.filter(pk=sold_out_sale.pk).update(total_stock=2)
    publishing.publish(sold_out_sale)
    seen()
    selling_again = http.get("/api/sale/status").json()

    assert (sold_out["status"], sold_out["soldOutTime"]) == ("sold_out", bought_at)
    assert (selling_again["status"], selling_again["soldOutTime"]) == ("active", None)


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({}, "active"),
        ({"starts_in": 60}, "upcoming"),
        ({"paused": True}, "paused"),
        ({"starts_in": -120, "lasts": 60}, "ended"),
    ],
)
def test_the_words_of_status(
    http: httpx.Client, make_sale: MakeSale, seen: Callable[[], None], fields: dict, status: str
):
    sale = make_sale(**fields)
    seen()

    assert http.get("/api/sale/status").json()["status"] == status
    assert http.get(f"/api/sales/{sale.slug}/status").json()["status"] == status


def test_status_when_the_last_unit_is_gone(http: httpx.Client, sold_out_sale: Sale):
    body = http.get("/api/sale/status").json()

    assert (body["status"], body["remainingStock"]) == ("sold_out", 0)


def test_status_is_not_sent_again_while_nothing_changes(http: httpx.Client, open_sale: Sale, seen: Callable[[], None]):
    etag = http.get("/api/sale/status").headers["etag"]

    same = http.get("/api/sale/status", headers={"If-None-Match": etag})
    buy(http)
    seen()
    changed = http.get("/api/sale/status", headers={"If-None-Match": etag})

    assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", etag)
    assert changed.status_code == 200


def test_a_sale_opens_at_its_exact_start_time(http: httpx.Client, make_sale: MakeSale, seen: Callable[[], None]):
    sale = make_sale(starts_in=600)
    seen()
    seen_states: list[tuple[str, str, str]] = []

    while "active" not in [state for state, _, _ in seen_states]:
        body = http.get("/api/sale/status").json()
        seen_states.append((body["status"], body["serverTime"], body["startTime"]))
        if len(seen_states) == 1:
            sale.starts_at = timezone.now() + timedelta(seconds=0.7)
            sale.save()
            publishing.publish(sale)

    assert seen_states[0][0] == "upcoming"
    for state, server_time, start_time in seen_states:
        assert (state == "active") == (_padded(server_time) >= _padded(start_time))


def _padded(time: str) -> str:
    return time if "." in time else time.replace("Z", ".000Z")


@pytest.mark.parametrize(
    ("windows", "expected"),
    [
        ({"past": (-200, 100), "now": (-60, 3600), "next": (60, 3600)}, "now"),
        ({"past": (-200, 100), "later": (900, 60), "next": (60, 3600)}, "next"),
        ({"past": (-200, 100), "older": (-900, 100)}, "past"),
        ({"long": (-900, 9000), "newest": (-60, 3600)}, "newest"),
    ],
)
def test_which_sale_is_the_current_one(
    http: httpx.Client, make_sale: MakeSale, seen: Callable[[], None], windows: dict, expected: str
):
    for name, (starts_in, lasts) in windows.items():
        make_sale(name=name, starts_in=starts_in, lasts=lasts)
    seen()

    assert http.get("/api/sale/status").json()["slug"] == expected


def test_no_sale_is_published(http: httpx.Client, open_sale: Sale, seen: Callable[[], None]):
    store.client().delete(store.DIRECTORY)
    seen()

    for response in (
        http.get("/api/sale/status"),
        http.get("/api/sale/user/ada"),
        buy(http),
        http.get(f"/api/sales/{open_sale.slug}/status"),
        buy(http, path="/api/sales/none/purchase"),
    ):
        assert_refused(response, 404, "no_sale")


# Purchase


def test_a_purchase(http: httpx.Client, open_sale: Sale):
    response = buy(http)

    body = response.json()
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    of_order = {"orderId", "purchaseTime", "orderCode", "receiptUrl"}
    assert set(body) == {"success", "message", "remainingStock", "code"} | of_order
    assert (body["success"], body["message"], body["code"]) == (True, "Purchase successful!", "purchased")
    assert body["remainingStock"] == 9
    assert re.fullmatch(r"\d{13}-\d+", body["orderId"])
    assert ISO.match(body["purchaseTime"])
    assert "idempotent-replayed" not in response.headers


def test_a_purchase_in_a_sale_by_its_slug(http: httpx.Client, make_sale: MakeSale, seen: Callable[[], None]):
    first, second = make_sale(name="first"), make_sale(name="second")
    seen()

    assert buy(http, path="/api/sales/first/purchase").json()["code"] == "purchased"

    assert store.client().hlen(store.key(first.id, "purchases")) == 1
    assert store.client().hlen(store.key(second.id, "purchases")) == 0


def test_a_second_purchase_carries_the_first_order(http: httpx.Client, open_sale: Sale):
    first = buy(http).json()

    second = buy(http)

    assert_refused(second, 409, "already_purchased", 9)
    assert second.json()["message"] == "You have already purchased this item"
    assert second.json()["orderId"] == first["orderId"]
    assert second.json()["purchaseTime"] == first["purchaseTime"]
    assert not {"receiptUrl", "orderCode"} & second.json().keys()


def test_the_same_key_gets_the_same_body(http: httpx.Client, open_sale: Sale):
    first = buy(http, key="k-1")
    buy(http, "bob@example.com")

    again = buy(http, key="k-1")

    assert again.status_code == 200
    assert again.content == first.content
    assert again.headers["idempotent-replayed"] == "true"


def test_the_same_key_of_another_user(http: httpx.Client, open_sale: Sale):
    buy(http, key="k-1")

    assert_refused(buy(http, "eve@example.com", key="k-1"), 422, "idempotency_key_reused", 9)


def test_sold_out(http: httpx.Client, sold_out_sale: Sale):
    assert_refused(buy(http), 409, "sold_out", 0)


@pytest.mark.parametrize(
    ("fields", "code"),
    [({"starts_in": 60}, "not_started"), ({"starts_in": -120, "lasts": 60}, "ended"), ({"paused": True}, "paused")],
)
def test_the_refusals_of_the_sale(
    http: httpx.Client, make_sale: MakeSale, seen: Callable[[], None], fields: dict, code: str
):
    make_sale(**fields)
    seen()

    assert_refused(buy(http), 409, code, 10)


NO_USER_IDS: list[object] = [
    *(None, 7, True, [], {}, "", "   ", "x" * 255),
    *("a\x00b", "a\u200bb", "a\u202eb", "a\ue000b", "a\u0378b", "ﬃ" * 85),
]


def test_a_user_id_that_is_none(http: httpx.Client, open_sale: Sale):
    for user_id in NO_USER_IDS:
        assert_refused(buy(http, user_id), 400, "invalid_request")


NO_ATTEMPTS: list[str | bytes] = [
    *("", "{", "[]", '"ada"', "null", "7", "{}"),
    *('{"userid": "ada"}', '{"userId": "\\ud800"}', b"\xff", '{"userId": NaN}'),
]


def test_a_body_that_is_not_an_attempt(http: httpx.Client, open_sale: Sale):
    for content in NO_ATTEMPTS:
        response = http.post("/api/sale/purchase", content=content, headers={"Content-Type": "application/json"})

        assert_refused(response, 400, "invalid_request")


def test_a_key_that_is_too_long(http: httpx.Client, open_sale: Sale):
    assert_refused(buy(http, key="k" * 256), 400, "invalid_request")
    assert buy(http, key="k" * 255).status_code == 200


def test_another_media_type(http: httpx.Client, open_sale: Sale):
    for media_type in ("text/plain", "application/x-www-form-urlencoded", "", "application/jsonx"):
        response = http.post("/api/sale/purchase", content='{"userId":"ada"}', headers={"Content-Type": media_type})

        assert_refused(response, 415, "unsupported_media_type")


def test_spellings_of_the_media_type(http: httpx.Client, open_sale: Sale):
    for user_id, media_type in (("ada", "application/json; charset=utf-8"), ("bob", "Application/JSON")):
        content = json.dumps({"userId": user_id})

        response = http.post("/api/sale/purchase", content=content, headers={"Content-Type": media_type})

        assert response.status_code == 200


def test_a_body_over_8_kib(http: httpx.Client, open_sale: Sale):
    def body(size: int) -> str:
        return json.dumps({"userId": "ada", "more": ""}).replace('""', f'"{"x" * (size - 29)}"')

    headers = {"Content-Type": "application/json"}
    largest, larger = body(8192), body(8193)

    assert (len(largest), len(larger)) == (8192, 8193)
    assert_refused(http.post("/api/sale/purchase", content=larger, headers=headers), 413, "payload_too_large")
    assert http.post("/api/sale/purchase", content=largest, headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/api/sale/purchase", "POST"),
        ("PUT", "/api/sale/purchase", "POST"),
        ("DELETE", "/api/sales/x/purchase", "POST"),
        ("POST", "/api/sale/status", "GET, HEAD"),
        ("PATCH", "/api/sale/user/ada", "GET, HEAD"),
        ("OPTIONS", "/api/sale/status", "GET, HEAD"),
    ],
)
def test_another_method(http: httpx.Client, method: str, path: str, allowed: str):
    response = http.request(method, path)

    assert_refused(response, 405, "method_not_allowed")
    assert response.headers["allow"] == allowed


def test_a_foreign_origin(http: httpx.Client, open_sale: Sale):
    origins = ("https://evil.example", "null", "http://[")
    for headers in (*({"Origin": origin} for origin in origins), {"Sec-Fetch-Site": "cross-site"}):
        response = http.post("/api/sale/purchase", json={"userId": "ada"}, headers=headers)

        assert_refused(response, 403, "forbidden")


def test_the_own_origin(http: httpx.Client, open_sale: Sale):
    own = {"Origin": str(http.base_url).rstrip("/"), "Sec-Fetch-Site": "same-origin"}

    assert http.post("/api/sale/purchase", json={"userId": "ada"}, headers=own).status_code == 200


def test_too_many_attempts_of_one_shopper_over_both_workers(server: WebServer, open_sale: Sale):
    workers = of_both_workers(server)
    responses: list[httpx.Response] = []
    started = time.monotonic()
    while not responses or responses[-1].status_code != 429:
        responses.append(buy(workers[len(responses) % 2]))
    seconds = time.monotonic() - started
    for worker in workers:
        worker.close()

    codes = [response.json()["code"] for response in responses]
    assert codes == ["purchased"] + ["already_purchased"] * (len(codes) - 2) + ["rate_limited"]
    assert 10 <= len(codes) - 1 <= 10 + seconds + 1, "ten at once, then one a second"
    assert_refused(responses[-1], 429, "rate_limited")
    assert int(responses[-1].headers["retry-after"]) == 1


def test_each_answer_to_an_attempt_tells_of_the_shoppers_limit(http: httpx.Client, open_sale: Sale):
    answers = [buy(http, key="first"), buy(http, key="first")]
    while answers[-1].status_code != 429:
        answers.append(buy(http))

    assert {answer.headers["ratelimit-policy"] for answer in answers} == {'"shopper";q=10;w=10'}
    assert answers[0].headers["ratelimit"] == '"shopper";r=9;t=1'
    left = [int(answer.headers["ratelimit"].removeprefix('"shopper";r=').removesuffix(";t=1")) for answer in answers]
    assert all(later >= earlier - 1 for earlier, later in pairwise(left))
    assert left[-2:] == [0, 0]


def test_only_decided_attempts_carry_the_rate_limit(http: httpx.Client, sold_out_sale: Sale):
    sold_out, undecided = buy(http), buy(http, "")

    assert (sold_out.status_code, sold_out.headers["ratelimit"]) == (409, '"shopper";r=9;t=1')
    assert "ratelimit" not in undecided.headers


def test_a_user_id_has_one_spelling(http: httpx.Client, open_sale: Sale):
    buy(http, "  ÅDA@Example.com ")

    assert_refused(buy(http, "a\u030ada@example.com"), 409, "already_purchased", 9)


# User


def test_a_buyers_lookup_has_the_purchase_time(http: httpx.Client, open_sale: Sale):
    purchase = buy(http).json()

    for path in (
        "/api/sale/user/ada@example.com",
        "/api/sale/user/ADA%40Example.com",
        f"/api/sales/{open_sale.slug}/user/ada@example.com",
    ):
        response = http.get(path)
        assert response.status_code == 200
        assert response.json() == {"hasPurchased": True, "purchaseTime": purchase["purchaseTime"]}


def test_a_lookup_without_a_purchase_is_negative(http: httpx.Client, open_sale: Sale):
    assert http.get("/api/sale/user/bob").json() == {"hasPurchased": False, "purchaseTime": None}


def test_a_user_with_a_slash(http: httpx.Client, open_sale: Sale):
    buy(http, "ada/lovelace")

    assert http.get("/api/sale/user/ada%2Flovelace").json()["hasPurchased"] is True


def test_a_user_that_is_none(http: httpx.Client, open_sale: Sale):
    assert_refused(http.get(f"/api/sale/user/{'x' * 255}"), 400, "invalid_request")
    assert_refused(http.get("/api/sale/user/%00"), 400, "invalid_request")
    assert_refused(http.get("/api/sale/user/a%0Ab"), 400, "invalid_request")


# Around


@pytest.mark.parametrize("path", ["/api/sale/status", "/api/sale/user/ada", "/health", "/health/live", "/"])
def test_head_is_get_without_the_body(http: httpx.Client, open_sale: Sale, path: str):
    if path == "/health":
        time.sleep(health.KEEP_SECONDS)  # each worker tells what it has found for so long

    got, head = http.get(path), http.head(path)

    assert head.status_code == got.status_code == 200
    assert head.content == b""
    assert head.headers["content-type"] == got.headers["content-type"]


@pytest.mark.parametrize("path", ["/", "/api/sale/status", "/health", "/admin/login/", "/no", ICON])
def test_a_host_that_is_not_ours(http: httpx.Client, path: str):
    assert http.get(path, headers={"Host": "evil.example"}).status_code == 400


def test_health(http: httpx.Client, open_sale: Sale):
    time.sleep(health.KEEP_SECONDS)

    response = http.get("/health")

    assert response.status_code == 200
    assert response.json()["status"] == "ok"
    for name in ("redis", "writer", "database"):
        assert response.json()[name]["status"] == "ok"
        assert response.json()[name]["latencyMs"] > 0
        assert "reason" not in response.json()[name]
    assert http.get("/health/live").json()["status"] == "ok"


@pytest.mark.parametrize(
    ("fields", "poll_after_ms"),
    [
        ({}, (2000, 2000)),
        ({"starts_in": 36_000}, (30_000, 30_000)),
        ({"starts_in": 100}, (5_000, 10_000)),
        ({"starts_in": 5}, (2_000, 2_000)),
        ({"starts_in": -120, "lasts": 60}, (30_000, 30_000)),
    ],
)
def test_pages_ask_rarely_when_nothing_can_change(
    http: httpx.Client, make_sale: MakeSale, seen: Callable[[], None], fields: dict, poll_after_ms: tuple[int, int]
):
    make_sale(**fields)
    seen()

    assert poll_after_ms[0] <= http.get("/api/sale/status").json()["pollAfterMs"] <= poll_after_ms[1]


@pytest.mark.pure
def test_the_documented_codes_are_those_that_there_are(project_dir: Path):
    table = (project_dir / "docs" / "api.md").read_text().partition("| code |")[2].partition("\n\n")[0]
    documented = {
        (code, int(status))
        for codes, status in re.findall(r"^\| (`.*?) \| (\d+) \|", table, re.MULTILINE)
        for code in re.findall(r"`(\w+)`", codes)
    }

    told = {(CODE.get(code, code), int(status)) for code, status in HTTP_STATUS.items() if status != 200}
    assert documented == told


def test_order_ids_carry_the_time_of_the_purchase(http: httpx.Client, open_sale: Sale):
    body = buy(http).json()

    from sales.clock import iso

    assert body["purchaseTime"] == iso(purchases.purchased_ms(body["orderId"]))


def test_json_with_a_byte_order_mark_is_taken(http: httpx.Client, open_sale: Sale):
    headers = {"Content-Type": "application/json"}
    bom = b"\xef\xbb\xbf"

    bought = http.post("/api/sale/purchase", content=bom + b'{"userId": "ada"}', headers=headers)
    asked = http.post("/api/shopper/code", content=bom + b'{"email": "ada@example.com"}', headers=headers)
    twice = http.post("/api/sale/purchase", content=bom * 2 + b'{"userId": "bob"}', headers=headers)

    assert (bought.status_code, bought.json()["code"]) == (200, "purchased")
    assert (asked.status_code, asked.json()["code"]) == (202, "code_sent")
    assert_refused(twice, 400, "invalid_request")
