"""Texts that PostgreSQL takes in no column, and sessions that are none: no error, and nothing asked of SQL."""

import logging

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from sales.models import Sale
from sales.sessions import SessionStore

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("static_files")]

NO_KEYS = [
    *('"\\000aaaaaaaaaaaa"', "a" * 31, "a" * 33, "A" * 32, "ä" * 32, "a" * 31 + "_", "a" * 5_000),
    *('"' + "a" * 31 + '\\000"', '"' + "a" * 31 + '\\012"', '"' + "a" * 32 + '\\012"', "a' OR '1'='1"),
]


@pytest.mark.pure
@pytest.mark.parametrize("cookie", NO_KEYS)
def test_malformed_session_cookies_count_as_no_session(cookie: str, caplog: pytest.LogCaptureFixture):
    client = Client(headers={"Cookie": f"{settings.SESSION_COOKIE_NAME}={cookie}"})

    with CaptureQueriesContext(connection) as asked:
        answer = client.get("/admin/")

    assert (answer.status_code, answer["Location"]) == (302, "/admin/login/?next=/admin/")
    assert not [query for query in asked if "django_session" in query["sql"]]
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.pure
def test_the_key_of_a_session_is_one():
    session = SessionStore()
    session["seen"] = "it"
    session.create()

    assert SessionStore(session.session_key)["seen"] == "it"


@pytest.mark.parametrize(
    "address",
    [
        *("/orders/find/?sale=%00", "/shopper/?sale=a%00", "/shopper/confirm/?email=%00", "/receipts/a%00/"),
        *("/admin/login/?next=%00", "/shopper/enter/widget/?token=%00", "/no%00where/", "/?%00=1"),
    ],
)
def test_no_address_with_nul_is_an_error(address: str, caplog: pytest.LogCaptureFixture):
    answer = Client().get(address)

    assert answer.status_code < 500
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize(
    ("address", "form"),
    [
        ("/orders/find/", {"sale": "\0", "user_id": "ada"}),
        ("/orders/find/", {"sale": "limited-edition-widget", "user_id": "ada\0"}),
        ("/admin/login/", {"username": "\0", "password": "x"}),
        ("/admin/login/", {"username": "x", "password": "\0"}),
        ("/shopper/", {"email": "a\0@example.com"}),
        ("/shopper/confirm/", {"email": "a@example.com", "code": "1\0"}),
    ],
)
def test_a_form_with_nul_is_refused(
    open_sale: Sale, address: str, form: dict[str, str], caplog: pytest.LogCaptureFixture
):
    answer = Client().post(address, form, headers={"Sec-Fetch-Site": "same-origin"})

    assert answer.status_code == 400
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize("list_", ["sales/order", "sales/sale", "sales/quarantine", "auth/user", "auth/group"])
@pytest.mark.parametrize("query", ["q=%00", "q=" + "a+" * 3_000, "e=%00", "p=%00", "id__exact=%00"])
def test_no_search_of_the_admin_fails(list_: str, query: str):
    client = Client()
    client.force_login(User.objects.create_superuser("olga"))

    answer = client.get(f"/admin/{list_}/?{query}")

    assert answer.status_code in (200, 302, 400)
