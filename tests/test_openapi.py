"""The API's description of itself is valid, complete, and what the server does."""

import json
import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import jsonschema_rs
import pytest
from django.test import RequestFactory
from schemathesis.specs.openapi.definitions import OPENAPI_31_VALIDATOR

from flashsale.urls import urlpatterns
from sales import endpoints, identities, outcomes, publishing, refusals, shopper_api, tokens
from sales.models import Sale
from tests import openapi
from tests.conftest import MakeSale
from tests.openapi import DOCUMENT, RESOLVED, check, exact, operations, validator
from tests.test_shopper_pages import calm_address, codes_of

# For people.
UNDOCUMENTED = {"/api/docs"}
PURCHASE = "/api/sale/purchase"
# What some refusals say in place of their code's sentence.
SAID = {refusals.FOREIGN_HOST, refusals.TARGET_TOO_LONG, identities.NOT_YOURS, shopper_api.NOT_SENT}

Node = dict[str, Any]


@pytest.fixture
def http(http: httpx.Client) -> httpx.Client:
    """A client that holds each answer to the document."""
    http.event_hooks["response"] = [httpx.Response.read, check]
    return http


def buy(http: httpx.Client, user_id: object = "ada", key: str = "", **headers: str) -> httpx.Response:
    headers |= {"Idempotency-Key": key} if key else {}
    return http.post(PURCHASE, json={"userId": user_id}, headers=headers)


# The document


@pytest.mark.pure
def test_it_is_openapi_3_1():
    assert [str(error) for error in OPENAPI_31_VALIDATOR.iter_errors(DOCUMENT)] == []
    assert DOCUMENT["openapi"] == "3.1.0"


def test_its_schemas_are_json_schemas():
    for name, schema in DOCUMENT["components"]["schemas"].items():
        assert jsonschema_rs.meta.is_valid(schema), name
    for name in ("headers", "parameters"):
        for part in RESOLVED["components"][name].values():
            validator(part["schema"])


@pytest.mark.pure
def test_nothing_in_it_is_left_over():
    text = json.dumps(DOCUMENT)

    for kind, parts in DOCUMENT["components"].items():
        for name in parts:
            mention = f'{{"{name}": []}}' if kind == "securitySchemes" else f'"#/components/{kind}/{name}"'
            assert mention in text, f"{kind} {name}"


@pytest.mark.pure
def test_its_version_is_the_projects(project_dir: Path):
    project = tomllib.loads((project_dir / "pyproject.toml").read_text())["project"]

    assert DOCUMENT["info"]["version"] == project["version"]


@pytest.mark.pure
def test_its_operations_have_names_of_their_own():
    names = [operation["operationId"] for operation in operations().values()]

    assert len(names) == len(set(names))


def routes() -> set[str]:
    """Return the API's addresses, as the document writes them."""
    written = (re.sub(r"<\w+:(\w+)>", r"{\1}", f"/{getattr(route, 'pattern', '')}") for route in urlpatterns)
    return {path.replace("{user_id}", "{userId}") for path in written if path.startswith(("/api/", "/health"))}


@pytest.mark.pure
def test_it_has_each_route_and_no_other():
    assert set(DOCUMENT["paths"]) == routes() - UNDOCUMENTED
    assert routes() > UNDOCUMENTED


def test_it_has_each_method_of_each_route(http: httpx.Client):
    for path, item in DOCUMENT["paths"].items():
        allowed = http.options(path.replace("{slug}", "widget").replace("{userId}", "ada")).headers["allow"]

        methods = {method.upper() for method in item.keys() & openapi.METHODS}
        assert set(allowed.split(", ")) == methods | ({"HEAD"} if "GET" in methods else set()), path


# Codes


def documented_codes() -> set[tuple[int, str]]:
    """Return each code with its status: those that the operations' answers may have, and those of their examples."""
    found: dict[str, set[tuple[int, str]]] = {"allowed": set(), "shown": set()}
    for operation in operations().values():
        for status, answer in operation["responses"].items():
            content = answer.get("content", {}).get("application/json", {"schema": {}})
            found["allowed"] |= {(int(status), code) for code in allowed_codes(content["schema"])}
            for example in content.get("examples", {}).values():
                if "code" in example["value"]:
                    found["shown"].add((int(status), example["value"]["code"]))
    assert found["allowed"] == found["shown"]
    return found["allowed"]


def allowed_codes(schema: Node) -> set[str]:
    if "oneOf" in schema:
        return set().union(*(allowed_codes(part) for part in schema["oneOf"]))
    code = schema.get("properties", {}).get("code", {})
    return {code["const"]} if "const" in code else set(code.get("enum", []))


@pytest.mark.pure
def test_it_has_each_code_with_its_status_and_no_other():
    told = {(status.value, outcomes.CODE.get(outcome, outcome)) for outcome, status in outcomes.HTTP_STATUS.items()}

    assert documented_codes() == told | {(202, "code_sent")}
    assert set(DOCUMENT["components"]["schemas"]["Code"]["enum"]) == {code for _, code in told}


@pytest.mark.pure
def test_the_prose_lists_exactly_the_documented_codes(project_dir: Path):
    rows = re.findall(r"^\| (`[\w`, ]+`) \| (\d{3}) \|", (project_dir / "docs/api.md").read_text(), re.MULTILINE)

    told = {(int(status), code) for codes, status in rows for code in re.findall(r"`(\w+)`", codes)}
    assert told == documented_codes() - {(200, "purchased"), (202, "code_sent")}


# Examples


def contents() -> Iterator[tuple[str, Node]]:
    for name, answer in RESOLVED["components"]["responses"].items():
        for media_type, content in answer.get("content", {}).items():
            yield f"{name} {media_type}", content
    for (method, path), operation in operations().items():
        for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
            yield f"{method} {path} {media_type}", content


@pytest.mark.pure
def test_its_examples_are_what_the_schemas_say():
    for where, content in contents():
        for example in content.get("examples", {}).values():
            errors = [str(error) for error in exact(content["schema"]).iter_errors(example["value"])]
            assert errors == [], where
    for parameter in RESOLVED["components"]["parameters"].values():
        validator(parameter["schema"]).validate(parameter["example"])


@pytest.mark.pure
def test_its_examples_say_what_the_server_says():
    for where, content in contents():
        for name, example in content.get("examples", {}).items():
            code = example["value"].get("code") if isinstance(example["value"], dict) else None
            if code in outcomes.SENTENCE:
                assert name == code, where
                assert example["value"]["message"] in SAID | {outcomes.SENTENCE[code]}, where


# Answers


@pytest.fixture
def fresh(open_sale: Sale, seen: Callable[[], None]) -> Sale:
    seen()
    return open_sale


def test_a_status_is_as_documented(http: httpx.Client, fresh: Sale):
    for path in ("/api/sale/status", f"/api/sales/{fresh.slug}/status"):
        first = http.get(path)

        assert first.status_code == 200
        assert http.head(path).status_code == 200
        assert http.get(path, headers={"If-None-Match": first.headers["etag"]}).status_code == 304


def test_a_stream_begins_as_documented(http: httpx.Client, fresh: Sale):
    http.event_hooks["response"] = []
    documented = RESOLVED["paths"]["/api/sale/events"]["get"]["responses"]["200"]
    schema = documented["content"]["text/event-stream"]["schema"]

    for path in ("/api/sale/events", f"/api/sales/{fresh.slug}/events"):
        with http.stream("GET", path) as response:
            lines = response.iter_lines()
            assert next(lines).startswith("retry: ")
            assert next(lines) == ""
            event = dict(line.split(": ", 1) for line in iter(lines.__next__, ""))

        openapi.check_headers(response, documented["headers"])
        exact(schema).validate(event)
        exact(schema["properties"]["data"]["contentSchema"]["anyOf"][0]).validate(json.loads(event["data"]))


def test_answers_to_a_shopper_are_as_documented(http: httpx.Client, fresh: Sale):
    answers = [buy(http, key="k"), buy(http, key="k"), buy(http), buy(http, "bob", "k")]
    answers += [http.get("/api/sale/user/ada"), http.get(f"/api/sales/{fresh.slug}/user/bob%2F%20x")]

    assert [answer.status_code for answer in answers] == [200, 200, 409, 422, 200, 200]
    assert "idempotent-replayed" in answers[1].headers


def test_answers_to_a_verified_shopper_are_as_documented(
    http: httpx.Client, make_sale: MakeSale, seen: Callable[[], None]
):
    make_sale(identity="verified")
    seen()
    token = {"Authorization": f"Bearer {tokens.issue('ada@example.com')}"}

    assert buy(http).json()["code"] == "unauthorized"
    assert buy(http, Authorization="Bearer x").json()["code"] == "unauthorized"
    assert buy(http, "bob", **token).json()["code"] == "forbidden"
    assert http.post(PURCHASE, json={}, headers=token).json()["code"] == "purchased"
    assert http.get("/api/sale/user/ada@example.com").json()["code"] == "unauthorized"
    assert http.get("/api/sale/user/bob", headers=token).json()["code"] == "forbidden"
    assert http.get("/api/sale/user/ada@example.com", headers=token).json()["hasPurchased"] is True
    assert http.get("/api/sale/shopper", headers=token).json()["userId"] == "ada@example.com"
    assert http.get("/api/sale/shopper").json() == {"userId": None, "expiresTime": None}


@pytest.mark.django_db(transaction=True)
def test_how_an_address_is_confirmed_is_as_documented(http: httpx.Client):
    address = calm_address()
    asked = http.post("/api/shopper/code", json={"email": address})
    proof = {"email": address, "code": codes_of(address).typed}
    given = [http.post("/api/shopper/token", json=proof) for _ in range(2)]
    wrong = [http.post(f"/api/shopper/{name}", json={}) for name in ("code", "token")]
    large = [http.post(f"/api/shopper/{name}", content="x" * 9000) for name in ("code", "token")]
    typed = [http.post(f"/api/shopper/{name}", content="x") for name in ("code", "token")]
    often = [http.post("/api/shopper/code", json={"email": address}) for _ in range(6)]

    assert [answer.status_code for answer in (asked, *given)] == [202, 200, 401]
    assert [answer.status_code for answer in (*wrong, *large, *typed)] == [400, 400, 413, 413, 415, 415]
    assert often[-1].json()["code"] == "rate_limited"


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"stock": 1}, "sold_out"),
        ({"starts_in": 3600}, "not_started"),
        ({"starts_in": -120, "lasts": 60}, "ended"),
        ({"paused": True}, "paused"),
    ],
)
def test_refusals_of_a_sale_are_as_documented(
    http: httpx.Client, make_sale: MakeSale, seen: Callable[[], None], fields: Node, code: str
):
    sale = make_sale(**fields)
    seen()
    buy(http, "first")

    assert buy(http).json()["code"] == code
    seen()
    assert http.get(f"/api/sales/{sale.slug}/status").status_code == 200


def test_malformed_attempts_are_refused_as_documented(http: httpx.Client, fresh: Sale):
    json_type = {"Content-Type": "application/json"}

    assert buy(http, 7).json()["code"] == "invalid_request"
    assert buy(http, Host="evil.example").json()["code"] == "invalid_request"
    assert buy(http, Origin="https://evil.example").json()["code"] == "forbidden"
    assert http.post(PURCHASE, content="userId=ada").json()["code"] == "unsupported_media_type"
    assert http.post(PURCHASE, content="x" * 9000, headers=json_type).json()["code"] == "payload_too_large"
    assert http.get(PURCHASE).json()["code"] == "method_not_allowed"
    assert http.get("/api/sale/user/%00").json()["code"] == "invalid_request"


def test_malformed_http_is_refused_as_documented(http: httpx.Client):
    upgrade = http.post(PURCHASE, json={"userId": "ada"}, headers={"Upgrade": "h2c", "Connection": "Upgrade"})
    large = http.get("/api/sale/status", headers={f"X-{number}": "x" for number in range(120)})

    assert (upgrade.status_code, upgrade.headers["content-type"]) == (400, "text/plain; charset=utf-8")
    assert (large.status_code, large.headers["content-type"]) == (431, "text/plain; charset=utf-8")


def test_too_many_attempts_are_refused_as_documented(http: httpx.Client, fresh: Sale):
    codes = (buy(http).json()["code"] for _ in range(300))

    assert "rate_limited" in codes


def test_no_sale_is_as_documented(http: httpx.Client, fresh: Sale, seen: Callable[[], None]):
    fresh.published = False
    fresh.save()
    publishing.publish(fresh)
    seen()

    for prefix in ("/api/sale", "/api/sales/none"):
        answers = [http.get(f"{prefix}/{name}") for name in ("status", "events", "user/ada")]
        answers.append(http.post(f"{prefix}/purchase", json={"userId": "ada"}))
        assert [answer.json()["code"] for answer in answers] == ["no_sale"] * 4


@pytest.mark.django_db(transaction=True)  # the server, another process, looks at SQL
def test_the_service_is_as_documented(http: httpx.Client, fresh: Sale):
    assert http.get("/health").status_code == 200
    assert http.get("/health/live").status_code == 200
    document = http.get("/api/openapi.json")
    assert document.json() == DOCUMENT
    assert http.get("/api/openapi.json", headers={"If-None-Match": document.headers["etag"]}).status_code == 304
    assert http.get("/api/openapi.json", headers={"Accept-Encoding": "identity"}).json() == DOCUMENT


@pytest.mark.pure
@pytest.mark.parametrize(
    ("code", "method", "path"),
    [
        ("not_invited", "POST", PURCHASE),
        ("unavailable", "POST", "/api/shopper/code"),
        ("server_error", "POST", "/api/shopper/token"),
        ("request_timeout", "POST", PURCHASE),
        ("unknown", "POST", PURCHASE),
        ("unavailable", "POST", PURCHASE),
        ("unavailable", "GET", "/api/sale/status"),
        ("unavailable", "GET", "/api/sale/user/ada"),
        ("unavailable", "GET", "/api/sale/events"),
        ("too_many_listeners", "GET", "/api/sale/events"),
        ("server_error", "GET", "/health"),
        ("rate_limited", "GET", "/health/live"),
    ],
)
def test_refusals_in_trouble_are_as_documented(code: str, method: str, path: str):
    made = endpoints.refusal(RequestFactory().get(path), code)
    request = httpx.Request(method, f"http://localhost{path}")

    check(httpx.Response(made.status_code, headers=made.headers, content=made.content, request=request))


def test_another_address_of_the_api_is_refused_in_json(http: httpx.Client):
    http.event_hooks["response"] = []

    for method, path in (
        ("GET", "/api/nothing"),
        ("POST", "/api/sale/purchase/"),
        ("PUT", "/api/sales/%E2%82%AC/user/x"),
    ):
        answer = http.request(method, path)
        assert (answer.status_code, answer.json()["code"]) == (404, "no_sale")


# The checks themselves


@pytest.mark.pure
@pytest.mark.parametrize(
    "changes",
    [
        {"status_code": 410},
        {"headers": {"Content-Type": "text/html", "Cache-Control": "no-store"}},
        {"headers": {"Content-Type": "application/json"}},
        {"headers": {"Content-Type": "application/json", "Cache-Control": "no-store", "X-More": "1"}},
        {"json": {"hasPurchased": True, "purchaseTime": None, "more": 1}},
        {"json": {"hasPurchased": True}},
        {"json": {"hasPurchased": True, "purchaseTime": "yesterday"}},
    ],
)
def test_an_answer_that_is_not_documented_is_noticed(changes: Node):
    request = httpx.Request("GET", "http://localhost/api/sale/user/ada")
    right: Node = {
        "status_code": 200,
        "headers": {"Content-Type": "application/json", "Cache-Control": "no-store"},
        "json": {"hasPurchased": True, "purchaseTime": "2026-02-14T10:05:30Z"},
    }

    check(httpx.Response(**right, request=request))
    with pytest.raises((AssertionError, jsonschema_rs.ValidationError)):
        check(httpx.Response(**{**right, **changes}, request=request))
