"""How often Django's forms may be sent: by account, mailbox and name, and by client address where the app knows it."""

import math
from collections.abc import Callable

import pytest
from django.contrib.auth.models import User
from django.test import Client
from pytest_django import Settings

from flashsale.rates import Rate
from sales import store
from sales.desk import signin
from sales.models import Sale
from tests.test_shopper_pages import codes_of

Send = Callable[[Client, int], int]
JSON = "application/json"


def ask_for_a_code(client: Client, number: int) -> int:
    return client.post("/api/shopper/code", {"email": f"ada{number}@example.com"}, JSON).status_code


def give_a_code(client: Client, number: int) -> int:
    body = {"email": f"ada{number}@example.com", "code": "12345678"}
    return client.post("/api/shopper/token", body, JSON).status_code


def find_an_order(client: Client, number: int) -> int:
    form = {"sale": "limited-edition-widget", "user_id": f"ada-{number}", "order_code": "0000-0000"}
    return client.post("/orders/find/", form).status_code


def sign_in(client: Client, number: int) -> int:
    return client.post("/admin/login/", {"username": f"operator-{number}", "password": "wrong"}).status_code


FORMS = [(ask_for_a_code, 202, 10), (give_a_code, 401, 30), (find_an_order, 404, 20), (sign_in, 200, 20)]


@pytest.fixture(autouse=True)
def _quick_passwords(settings: Settings, static_files: None) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.mark.parametrize(("send", "status", "most"), FORMS)
def test_each_form_has_a_limit_per_address(
    client: Client, open_sale: Sale, settings: Settings, send: Send, status: int, most: int
):
    settings.ADDRESS_RATE = Rate(100, 1)

    statuses = [send(client, number) for number in range(most + 2)]

    assert statuses == [status] * most + [429] * 2


@pytest.mark.parametrize(("send", "status", "most"), FORMS)
def test_where_addresses_are_proxies_nobody_waits_for_others(
    client: Client, open_sale: Sale, settings: Settings, send: Send, status: int, most: int
):
    settings.ADDRESS_RATE = None

    assert [send(client, number) for number in range(most + 2)] == [status] * (most + 2)


@pytest.mark.parametrize("rate", [None, Rate(100, 1)], ids=["off", "on"])
def test_one_mailbox_is_limited_everywhere(client: Client, open_sale: Sale, settings: Settings, rate: Rate | None):
    settings.ADDRESS_RATE = rate

    assert [ask_for_a_code(client, 1) for _ in range(6)] == [202] * 5 + [429]


@pytest.fixture
def few_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    """An account's tries are fewer here, so that a test need not use up so many."""
    tries, account = signin.LIMITS["account"]
    assert tries == "100/15m"
    monkeypatch.setattr(signin, "LIMITS", {**signin.LIMITS, "account": ("10/15m", account)})


@pytest.mark.usefixtures("few_tries")
def test_guessing_one_accounts_password_is_limited_everywhere(client: Client, db: None, settings: Settings):
    settings.ADDRESS_RATE = None

    assert [sign_in(client, 1) for _ in range(12)] == [200] * 10 + [429] * 2


def test_guessing_one_mailboxs_code_is_limited_everywhere(client: Client, db: None, settings: Settings):
    """Five tries at a code; the right one is worth nothing then, and the next mail brings another."""
    settings.ADDRESS_RATE = None
    address = "ada1@example.com"
    ask_for_a_code(client, 1)
    code = codes_of(address).typed
    wrong = f"{(int(code) + 1) % 10**8:08}"

    guesses = [client.post("/api/shopper/token", {"email": address, "code": wrong}, JSON).status_code for _ in "12345"]
    ask_for_a_code(client, 1)
    right = client.post("/api/shopper/token", {"email": address, "code": code}, JSON).status_code

    assert (guesses, right) == ([401] * 5, 401)
    assert codes_of(address).typed != code


@pytest.mark.usefixtures("few_tries")
def test_refused_requests_use_up_nothing_of_others(client: Client, db: None, settings: Settings):
    """A stranger who goes on and on neither locks an operator out, nor keeps a mailbox from its codes."""
    settings.ADDRESS_RATE = Rate(100, 1)
    for _ in range(25):
        sign_in(client, 1)
    for number in range(20):
        ask_for_a_code(client, min(number, 10))

    guess, wish = {"username": "operator-1", "password": "wrong"}, {"email": "ada10@example.com"}
    operator = client.post("/admin/login/", guess, REMOTE_ADDR="192.0.2.7")
    shopper = client.post("/api/shopper/code", wish, JSON, REMOTE_ADDR="192.0.2.7")

    assert (operator.status_code, shopper.status_code) == (200, 202)


PASSWORD = "a long word for tests"


def give_password(client: Client, username: str = "olga", password: str = "wrong") -> int:
    return client.post("/admin/login/", {"username": username, "password": password}).status_code


@pytest.fixture
def known(db: None, settings: Settings, few_tries: None) -> Client:
    """The browser in which Olga has signed in, a while ago, after which a stranger has used up her account's tries,
    which are fewer here."""
    settings.ADDRESS_RATE = None
    User.objects.create_superuser("olga", password=PASSWORD)
    client = Client()
    assert give_password(client, password=PASSWORD) == 302
    client.cookies.pop(settings.SESSION_COOKIE_NAME)
    assert [give_password(Client()) for _ in range(11)][-1] == 429
    return client


def test_a_stranger_cannot_lock_an_operator_out_of_known_browsers(known: Client):
    assert give_password(Client(), password=PASSWORD) == 429
    assert give_password(known, " OLGA", password=PASSWORD) == 200, "counted as hers, though no account is spelt so"
    assert give_password(known, password=PASSWORD) == 302


def test_guessing_in_a_known_browser_is_limited_too(known: Client):
    assert [give_password(known) for _ in range(7)] == [200] * 5 + [429] * 2


def test_a_browser_is_known_for_only_one_account(known: Client):
    User.objects.create_superuser("oscar", password=PASSWORD)
    assert [give_password(Client(), "oscar") for _ in range(11)][-1] == 429

    assert give_password(known, "oscar", PASSWORD) == 429


def test_a_cookie_that_is_not_ours_makes_no_browser_known(known: Client):
    cookie = known.cookies[signin.COOKIE]
    for value in ("", "x", cookie.value[:-1], f"x{cookie.value}", "x:1:y"):
        known.cookies[signin.COOKIE] = value
        assert give_password(known, password=PASSWORD) == 429


def test_only_a_signed_in_browser_is_known(db: None, settings: Settings):
    User.objects.create_superuser("olga", password=PASSWORD)
    client = Client()
    give_password(client)
    stranger = dict(client.cookies)
    give_password(client, password=PASSWORD)
    mine = client.cookies[signin.COOKIE].value
    give_password(client, "oscar")

    assert signin.COOKIE not in stranger
    assert client.cookies[signin.COOKIE].value == mine, "also not of another account while signed in"


def test_the_cookie_goes_only_to_the_log_in(known: Client):
    cookie = known.cookies[signin.COOKIE]

    assert (cookie["path"], cookie["httponly"], cookie["samesite"]) == ("/admin/login/", True, "Strict")
    assert "olga" not in cookie.value


def test_too_many_codes_show_the_minutes_to_wait(client: Client, settings: Settings):
    settings.ADDRESS_RATE = Rate(100, 1)
    while give_a_code(client, 1) != 429:
        pass
    given = {"email": "ada1@example.com", "code": "1"}

    script = client.post("/api/shopper/token", given, JSON, HTTP_ACCEPT_LANGUAGE="de")
    page = client.post("/shopper/confirm/", given, HTTP_SEC_FETCH_SITE="same-origin", HTTP_ACCEPT_LANGUAGE="de")

    in_english, in_german = (math.ceil(int(answer.headers["Retry-After"]) / 60) for answer in (script, page))
    minutes, minuten = "minute" if in_english == 1 else "minutes", "Minute" if in_german == 1 else "Minuten"
    assert script.json()["message"].endswith(f"Try again in {in_english} {minutes}.")  # messages stay English
    assert page.status_code == 429
    assert f"Versuchen Sie es in {in_german} {minuten} noch einmal." in page.content.decode()


def pass_a_quarter_of_an_hour() -> None:
    """Let Redis forget what it keeps as long as codes are valid."""
    for prefix in (store.CODES, store.CODE_MAILS):
        for key in store.client().keys(f"{prefix}*"):
            store.client().delete(key)


def wish(client: Client, email: str) -> int:
    return client.post("/api/shopper/code", {"email": email}, JSON).status_code


def test_strangers_cannot_keep_a_mailbox_owner_from_a_code(client: Client, db: None, settings: Settings):
    settings.ADDRESS_RATE = None
    by_strangers = [ask_for_a_code(client, 1) for _ in range(6)]
    pass_a_quarter_of_an_hour()

    by_the_owner = [ask_for_a_code(client, 1) for _ in range(3)]

    assert by_strangers == [202] * 5 + [429]
    assert by_the_owner == [202, 429, 429]


def test_used_up_tries_make_no_code_invalid(client: Client, db: None, settings: Settings):
    settings.ADDRESS_RATE = None
    for _ in range(5):
        ask_for_a_code(client, 1)
        for _ in range(5):
            give_a_code(client, 1)

    assert ask_for_a_code(client, 1) == 429
    assert store.client().keys(f"{store.CODES}*"), "the link is still valid"


def test_a_code_that_was_given_leaves_its_owner_another_mail(client: Client, db: None, settings: Settings):
    settings.ADDRESS_RATE = None
    while ask_for_a_code(client, 1) == 202:
        pass
    body = {"email": "ada1@example.com", "code": codes_of("ada1@example.com").typed}
    given = client.post("/api/shopper/token", body, JSON).status_code

    assert (given, [ask_for_a_code(client, 1) for _ in range(2)]) == (200, [202, 429])


def test_other_spellings_do_not_use_up_the_owners_mail(client: Client, db: None, settings: Settings):
    settings.ADDRESS_RATE = None
    for _ in range(6):
        wish(client, "ada@example.com")
    pass_a_quarter_of_an_hour()

    others = [wish(client, f"ada+{number}@example.com") for number in range(3)]
    owner = [wish(client, "ada@example.com") for _ in range(2)]

    assert (others, owner) == ([202, 429, 429], [202, 429])


def test_the_address_limit_holds_while_no_code_is_valid(client: Client, db: None, settings: Settings):
    settings.ADDRESS_RATE = Rate(100, 1)
    for _ in range(11):
        ask_for_a_code(client, 1)
    pass_a_quarter_of_an_hour()

    assert ask_for_a_code(client, 1) == 429


def test_a_mail_that_did_not_go_out_is_none(client: Client, db: None, settings: Settings):
    settings.ADDRESS_RATE = None
    for _ in range(6):
        ask_for_a_code(client, 1)
    pass_a_quarter_of_an_hour()
    backend, settings.EMAIL_BACKEND = settings.EMAIL_BACKEND, "django.core.mail.backends.dummy.EmailBackend"

    unsent = ask_for_a_code(client, 1)
    settings.EMAIL_BACKEND = backend

    assert (unsent, ask_for_a_code(client, 1)) == (503, 202)


def test_a_redis_clock_set_back_does_not_block_codes(client: Client, db: None, settings: Settings):
    settings.ADDRESS_RATE = None
    for _ in range(6):
        ask_for_a_code(client, 1)
    [key] = store.client().keys(f"{store.CODE_MAILS}*")
    store.client().expire(key, 3600 + 900)

    assert [ask_for_a_code(client, 1) for _ in range(2)] == [202, 429]


def test_how_long_to_wait_is_until_the_code_is_invalid(client: Client, db: None, settings: Settings):
    settings.ADDRESS_RATE = None
    for _ in range(5):
        ask_for_a_code(client, 1)

    refused = client.post("/api/shopper/code", {"email": "ada1@example.com"}, JSON)

    assert 0 < int(refused["Retry-After"]) <= 900


@pytest.mark.parametrize("name", ["a" + "\u0301\u0316" * 1_200, "\ufdfa" * 2_000, "x" * 7_000])
def test_a_user_name_is_measured_before_it_is_normalised(
    client: Client, db: None, settings: Settings, monkeypatch: pytest.MonkeyPatch, name: str
):
    settings.ADDRESS_RATE = None
    normalised: list[int] = []

    def normalize(form: str, text: str) -> str:
        normalised.append(len(text))
        return text

    monkeypatch.setattr(signin.unicodedata, "normalize", normalize)
    answers = [give_password(client, username) for username in (name, "x" * 150)]

    assert answers == [200, 200]
    assert normalised
    assert max(normalised) == 150
