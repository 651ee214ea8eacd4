"""The dearest requests to the pages that Django answers: none costs a thread much more than a plain one does."""

import time
from collections.abc import Callable
from math import inf
from typing import Any
from urllib.parse import quote

import pytest
from django.test import Client
from django.urls import URLPattern
from pytest_django import Settings

from flashsale import urls
from sales.models import Sale
from tests.fuzz.addresses import ADDRESSES, SLUG, Address
from tests.fuzz.dear import BODY_BYTES

ROUNDS = 3
MOST_ROUNDS = 60
# A plain one takes a few milliseconds; 20 more are what a stranger may cost.
MOST_PLAIN_REQUESTS = 8
LONGEST_PATH, LONGEST_QUERY = 3_900, 14_000

DEAR = {
    "marks": "a" + "\u0301" * 1_900 + "\u0316" * 1_900,
    "letters in one": "\ufdfa" * 2_300,
    "an address of signs": "@" * 7_000,
    "an address of dots": "a." * 3_500,
    "an address in another": "a@b." * 1_700,
    "quotation marks": '"' * 7_000,
    "a name and brackets": "<" * 7_000,
    "digits": "1" * 7_000,
    "letters that fold": "\u0130" * 3_400,
    "letters for DNS": "a@" + "\u3b21" * 2_300,
    "percent signs": "%" * 7_000,
    "fields": "a=b&" * 1_750,
}

DJANGO = [address for address in ADDRESSES if address.kind == "django"]
Ask = Callable[[], Any]


def asked(client: Client, address: Address, hidden: dict[str, str], part: str, text: str) -> Ask:
    """Return what sends the request, with the text in that part of it: a field, the path or the query."""
    path = address.path.replace("{}", quote(text if part == "path" else "ada", safe="")[:LONGEST_PATH])
    if part == "query":
        path += f"?x={quote(text, safe='&=')}"[:LONGEST_QUERY]
    if address.method == "GET":
        return lambda: client.get(path)
    fields = {name: (text if name == part else "ada@example.com") for name in address.fields}
    if address.is_json:
        return lambda: client.post(path, fields, content_type="application/json")
    return lambda: client.post(path, {**hidden, **fields})


def seconds(ask: Ask) -> float:
    began = time.thread_time()
    answer = ask()
    spent = time.thread_time() - began
    assert answer.status_code < 500
    return spent


@pytest.mark.django_db
@pytest.mark.usefixtures("static_files")
@pytest.mark.parametrize("address", DJANGO, ids=lambda address: f"{address.method} {address.path}")
def test_no_page_of_djangos_is_dear(client: Client, address: Address, open_sale: Sale, settings: Settings):
    """All are asked in turn; what seems dear is asked more often, because a busy machine makes a round slow."""
    settings.RATELIMIT_ENABLE = False
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # it would hide what else is dear
    _, hidden = address.form(lambda path: ({}, client.get(path).content.decode()))
    parts = [*address.fields, "query", *(["path"] if "{}" in address.path else [])]
    asks = {(part, kind): asked(client, address, hidden, part, text) for part in parts for kind, text in DEAR.items()}
    plain, best, of_plain = asked(client, address, hidden, "", ""), dict.fromkeys(asks, inf), inf

    for turn in range(MOST_ROUNDS):
        of_plain = min(of_plain, seconds(plain))
        for name, ask in asks.items():
            if turn < ROUNDS or best[name] >= MOST_PLAIN_REQUESTS * of_plain:
                best[name] = min(best[name], seconds(ask))

    dearest = max(best, key=best.__getitem__)
    assert best[dearest] < MOST_PLAIN_REQUESTS * of_plain, (dearest, best[dearest] / of_plain)
    assert max(map(len, DEAR.values())) < BODY_BYTES


@pytest.mark.pure
def test_every_address_of_strangers_is_searched_for_dear_requests():
    """All but streams, whose answers do not end, and what is behind the desk's sign-in."""
    paths = [address.path.replace("{}", "ada").removeprefix("/") for address in ADDRESSES]
    patterns = [pattern for pattern in urls.urlpatterns if isinstance(pattern, URLPattern)]

    missing = [str(pattern.pattern) for pattern in patterns if not any(map(pattern.pattern.match, paths))]

    assert [pattern for pattern in missing if not pattern.endswith("/events")] == []
    assert SLUG in "".join(paths)
