"""Confirming an e-mail address from a script, through a real server."""

import math
import re
from collections.abc import Callable

import httpx
import pytest

from sales import identities, store, tokens
from sales.models import Sale
from tests.servers import WebServer, free_port
from tests.test_shopper_pages import calm_address, codes_of

ADA = "ada@example.com"


def ask(http: httpx.Client, email: object = ADA) -> httpx.Response:
    return http.post("/api/shopper/code", json={"email": email})


def who(http: httpx.Client, authorization: str) -> httpx.Response:
    return http.get("/api/sale/shopper", headers={"Authorization": authorization} if authorization else {})


def told_minutes(refused: httpx.Response) -> int:
    """Return for how many minutes the message says to wait."""
    found = re.search(r" again in (\d+) minutes?\.$", refused.json()["message"])
    assert found, refused.text
    return int(found[1])


def minutes_of(refused: httpx.Response) -> int:
    return math.ceil(int(refused.headers["retry-after"]) / 60)


def test_a_code_becomes_a_token(http: httpx.Client, verified_sale: Sale):
    asked = ask(http, " ADA@example.com ")
    given = http.post("/api/shopper/token", json={"email": ADA, "code": codes_of(ADA).typed})

    assert (asked.status_code, asked.json()["code"], asked.json()["validSeconds"]) == (202, "code_sent", 900)
    body = given.json()
    assert (given.status_code, body["success"], body["userId"]) == (200, True, ADA)
    assert given.headers["cache-control"] == "no-store"
    assert who(http, f"Bearer {body['token']}").json() == {"userId": ADA, "expiresTime": body["expiresTime"]}


def test_the_answer_is_the_same_whether_anybody_has_the_mailbox(http: httpx.Client):
    answers = [ask(http, address) for address in (ADA, "nobody@nowhere.example")]

    assert answers[0].content == answers[1].content


def test_a_wrong_code_is_unauthorized_and_a_used_one_too(http: httpx.Client):
    ask(http)
    code = codes_of(ADA).typed

    wrong = http.post("/api/shopper/token", json={"email": ADA, "code": "x"})
    right = http.post("/api/shopper/token", json={"email": ADA, "code": f"{code[:4]} {code[4:]}"})
    again = http.post("/api/shopper/token", json={"email": ADA, "code": code})

    assert [(answer.status_code, answer.json().get("code")) for answer in (wrong, right, again)] == [
        (401, "wrong_code"),
        (200, None),
        (401, "wrong_code"),
    ]


@pytest.mark.parametrize("path", ["/api/shopper/code", "/api/shopper/token"])
@pytest.mark.parametrize(
    ("content", "headers", "status", "code"),
    [
        (b"{}", {}, 415, "unsupported_media_type"),
        (b"no", {"Content-Type": "application/json"}, 400, "invalid_request"),
        (b"[]", {"Content-Type": "application/json"}, 400, "invalid_request"),
        (b"{}", {"Content-Type": "application/json"}, 400, "invalid_request"),
        (b'{"email": 5, "code": 5}', {"Content-Type": "application/json"}, 400, "invalid_request"),
        (b'{"email": "ada", "code": "1"}', {"Content-Type": "application/json"}, 400, "invalid_request"),
        (b"{}", {"Content-Type": "application/json", "Origin": "https://evil.example"}, 403, "forbidden"),
    ],
)
def test_wrong_requests_are_explained_and_send_nothing(
    http: httpx.Client, path: str, content: bytes, headers: dict[str, str], status: int, code: str
):
    refused = http.post(path, content=content, headers=headers)

    assert (refused.status_code, refused.json()["code"], refused.json()["success"]) == (status, code, False)
    assert refused.json()["message"]
    assert not store.client().keys("codes:*")


def test_other_methods_learn_the_allowed_one(http: httpx.Client):
    refused = http.get("/api/shopper/code")

    assert (refused.status_code, refused.headers["allow"]) == (405, "POST")
    assert refused.json()["code"] == "method_not_allowed"


def test_too_many_code_requests_have_to_wait(http: httpx.Client):
    address = calm_address()

    answers = [ask(http, address) for _ in range(6)]

    assert [answer.status_code for answer in answers] == [202] * 5 + [429]
    assert 0 < int(answers[-1].headers["retry-after"]) <= 3600
    assert answers[-1].json()["code"] == "rate_limited"
    assert told_minutes(answers[-1]) == minutes_of(answers[-1])


@pytest.mark.parametrize(("token", "status"), [("", 200), ("Bearer fs_x", 401), ("Bearer x", 401), ("Basic eDp5", 200)])
def test_the_api_names_no_shopper_without_a_valid_token(
    http: httpx.Client, verified_sale: Sale, token: str, status: int
):
    answer = who(http, token)

    assert answer.status_code == status
    if status == 200:
        assert answer.json() == {"userId": None, "expiresTime": None}
    else:
        assert answer.headers["www-authenticate"].startswith("Bearer")


def test_a_sale_names_only_shoppers_it_accepts(http: httpx.Client, verified_sale: Sale):
    of_this, of_another = (tokens.issue(ADA, sale_id=verified_sale.id + number) for number in (0, 1))
    of_partner = tokens.vouch(ADA, verified_sale.id, verified_sale.key_number, seconds=10**15)

    answers = [who(http, f"Bearer {token}") for token in (of_this, of_another, of_partner)]

    assert [answer.status_code for answer in answers] == [200, 401, 200]
    assert [answer.json().get("userId") for answer in answers] == [ADA, None, ADA]
    assert answers[2].json()["expiresTime"] == "9999-12-31T23:59:59Z"


def test_an_open_sale_looks_at_no_cookie(http: httpx.Client, open_sale: Sale, seen: Callable[[], None]):
    seen()
    http.cookies.set(identities.COOKIE, tokens.issue(ADA))

    assert who(http, "").json() == {"userId": None, "expiresTime": None}


def test_without_a_mail_server_codes_are_unavailable(db: None, redis_server: object, static_files: None):
    with WebServer({"PORT": str(free_port()), "EMAIL_URL": "", "WEB_CONCURRENCY": "1"}) as own:
        refused = httpx.post(f"{own.url}/api/shopper/code", json={"email": ADA})

    assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
    assert refused.headers["retry-after"]
    assert "EMAIL_URL is not set" in own.log.read_text()
