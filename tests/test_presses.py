"""A form that is sent twice does once what it says, and both get the first answer."""

import re
import threading
from base64 import urlsafe_b64decode
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.template import engines
from django.test import Client
from pytest_django import Settings

from flashsale.rates import Rate
from sales import email_codes, identities, invitations, mails, press_guard, presses, sealing, store, tokens
from sales.models import Sale
from tests.conftest import MakeSale
from tests.forms import Form, posted, posted_to
from tests.servers import WebServer
from tests.test_desk import together
from tests.test_desk_browser import PATHS, numbers
from tests.test_shopper_pages import ADA, OWN, codes_of

__all__ = ["numbers"]

pytestmark = pytest.mark.usefixtures("static_files")

PASSWORD = "correct horse battery staple"
# Everybody gets the same copy of these pages, and a purchase is idempotent by shopper.
WITHOUT_TOKEN = {"sales/sale.html", "sales/find_order.html"}


@pytest.fixture
def olga(db: None, settings: Settings) -> User:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # real ones take long
    return User.objects.create_superuser("olga", password=PASSWORD)


@pytest.fixture
def desk(olga: User) -> Client:
    return signed_in(olga)


def signed_in(user: User) -> Client:
    client = Client(enforce_csrf_checks=True)
    client.force_login(user)
    return client


def page(client: Client, path: str) -> str:
    return client.get(path, follow=True).content.decode()


def send(client: Client, path: str, form: Form, **typed: str) -> Any:
    return client.post(form.action or path, {**form.fields, **typed}, headers=OWN)


def with_cookies(client: Client) -> Client:
    """Return another client with the cookies that this one has now."""
    copy = Client(enforce_csrf_checks=True)
    copy.cookies.load({name: cookie.value for name, cookie in client.cookies.items()})
    return copy


def adding(sale: Sale, units: int = 5) -> str:
    return f"/admin/sales/sale/{sale.pk}/add-stock-sale/?units={units}"


def total(sale: Sale) -> int:
    return Sale.objects.get(pk=sale.pk).total_stock


def kept() -> list[bytes]:
    return list(store.client().keys(f"{store.PRESSES}*"))


def of(form: Form) -> dict[str, str]:
    """Return the fields that this form's stock is added with; a page without a script sends them."""
    return {**form.fields, "units": "5"}


# What is done twice.


def test_stock_that_is_added_twice_at_once_is_added_once(
    server: WebServer, transactional_db: None, make_sale: MakeSale
):
    sale, client = make_sale(100), Client()
    client.force_login(User.objects.create_superuser("olga"))
    cookies = {"sessionid": client.cookies["sessionid"].value}
    with httpx.Client(base_url=server.url, cookies=cookies) as browser:
        form = posted_to(browser.get(adding(sale)).text, "/add-stock-sale/")
        answers: list[httpx.Response] = []

        together(*[lambda: answers.append(browser.post(form.action, data=of(form), headers=OWN))] * 3)

    assert total(sale) == 105
    assert [answer.status_code for answer in answers] == [302] * 3
    assert len({answer.headers["location"] for answer in answers}) == 1
    assert len({answer.cookies["messages"] for answer in answers}) == 1, "each is told what was done"


def test_control_without_the_token_stock_is_added_twice(desk: Client, make_sale: MakeSale):
    sale = make_sale(100)
    form = posted_to(page(desk, adding(sale)), "/add-stock-sale/")
    del form.fields[presses.FIELD]

    for _ in range(2):
        send(desk, "", form, units="5")

    assert total(sale) == 110


def test_a_code_that_is_given_twice_at_once_confirms(http: httpx.Client, verified_sale: Sale):
    form = posted_to(http.get("/shopper/").text, "/shopper/")
    asked = http.post(form.action, data={**form.fields, "email": ADA, "sale": verified_sale.slug}, headers=OWN)
    giving = posted_to(http.get(asked.headers["location"]).text, "/shopper/confirm/")
    typed = {**giving.fields, "code": codes_of(ADA).typed}
    answers: list[httpx.Response] = []

    together(*[lambda: answers.append(http.post(giving.action, data=typed, headers=OWN))] * 3)

    assert [answer.status_code for answer in answers] == [303] * 3
    given = {answer.cookies[identities.COOKIE] for answer in answers}
    assert len(given) == 1
    assert tokens.read(given.pop()).user_id == ADA


def test_a_wrong_code_that_is_given_twice_is_one_try(http: httpx.Client):
    form = posted_to(http.get("/shopper/confirm/", params={"email": ADA}).text, "/shopper/confirm/")
    http.post("/shopper/", data={"email": ADA}, headers=OWN)

    answers = [http.post(form.action, data={**form.fields, "code": "1"}, headers=OWN) for _ in range(10)]

    assert {(answer.status_code, answer.text) for answer in answers} == {(401, answers[0].text)}
    again = {"email": ADA, "code": codes_of(ADA).typed}
    assert http.post("/shopper/confirm/", data=again, headers=OWN).status_code == 303


def test_a_code_that_is_asked_for_twice_is_sent_once(client: Client, monkeypatch: pytest.MonkeyPatch):
    sent: list[str] = []
    monkeypatch.setattr(email_codes, "send", lambda address, slug: sent.append(address))
    form = posted_to(page(client, "/shopper/"), "/shopper/")

    answers = [send(client, "", form, email=ADA) for _ in range(2)]

    assert sent == [ADA]
    assert [answer["Location"] for answer in answers] == ["/shopper/confirm/?email=ada%40example.com"] * 2


def test_a_sale_that_is_saved_twice_is_one_sale(desk: Client):
    path = "/admin/sales/sale/add/"
    form = next(form for form in posted(page(desk, path)) if "total_stock" in form.fields)
    ends = {"ends_at": "2031-05-01T10:00", "ends_at_0": "2031-05-01", "ends_at_1": "10:00"}
    typed = {"name": "Widget", "total_stock": "10", "identity": "open", **ends}

    answers = [send(desk, path, form, **typed) for _ in range(2)]

    assert Sale.objects.filter(name="Widget").count() == 1
    assert answers[0]["Location"] == answers[1]["Location"]


# Who gets the first answer.


def test_a_repeated_sign_in_works_with_both_cookies(olga: User):
    browser = Client(enforce_csrf_checks=True)
    form = posted_to(page(browser, "/admin/"), "/admin/login/")
    before = with_cookies(browser)

    first, after, late = (
        send(client, "", form, username="olga", password=PASSWORD) for client in (browser, browser, before)
    )

    assert [answer.status_code for answer in (first, after, late)] == [302] * 3
    assert {answer.cookies["sessionid"].value for answer in (first, after, late)} == {
        browser.cookies["sessionid"].value
    }
    assert "The operator&#x27;s desk" in page(before, "/admin/")


def test_no_other_session_may_use_a_token(desk: Client, make_sale: MakeSale):
    sale, other = make_sale(100), signed_in(User.objects.create_superuser("pia"))
    form, own = (posted_to(page(client, adding(sale)), "/add-stock-sale/") for client in (desk, other))
    foreign = Form("post", form.action, {**own.fields, presses.FIELD: form.fields[presses.FIELD]})

    before = send(other, "", foreign, units="5")
    done = send(desk, "", form, units="5")
    after = send(other, "", foreign, units="5")

    assert (before.status_code, done.status_code, after.status_code) == (403, 302, 403)
    assert total(sale) == 105


def test_no_other_browser_may_use_a_strangers_token(client: Client):
    form = posted_to(page(client, "/shopper/"), "/shopper/")

    other = send(Client(), "", form, email=ADA)

    assert other.status_code == 403
    assert "The form was too old, or cookies are blocked" in other.content.decode()


def test_a_forged_token_is_refused(desk: Client, open_sale: Sale):
    form = posted_to(page(desk, adding(open_sale)), "/add-stock-sale/")
    token = form.fields[presses.FIELD]
    form.fields[presses.FIELD] = ("B" if token[0] == "A" else "A") + token[1:]

    assert send(desk, "", form, units="5").status_code == 403
    assert total(open_sale) == 10


def test_the_token_takes_no_csrf_tokens_place(desk: Client, open_sale: Sale):
    form = posted_to(page(desk, adding(open_sale)), "/add-stock-sale/")
    form.fields["csrfmiddlewaretoken"] = "x" * 64

    assert send(desk, "", form, units="5").status_code == 403
    assert kept() == []


def test_an_expired_session_leads_to_sign_in(desk: Client, open_sale: Sale):
    form = posted_to(page(desk, adding(open_sale)), "/add-stock-sale/")
    desk.session.flush()
    del desk.cookies["sessionid"]

    answer = send(desk, "", form, units="5")

    assert answer["Location"].startswith("/admin/login/")


# What is another press.


def test_a_corrected_form_is_saved_with_the_same_token(desk: Client, make_sale: MakeSale):
    sale = make_sale(100)
    form = posted_to(page(desk, adding(sale)), "/add-stock-sale/")

    refused = send(desk, "", form, units="")
    corrected = send(desk, "", form, units="5")
    changed = send(desk, "", form, units="7")

    assert (refused.status_code, corrected.status_code, changed.status_code) == (200, 302, 302)
    assert total(sale) == 112


def test_another_file_in_the_same_form_is_another_press(desk: Client, make_sale: MakeSale, tmp_path: Path):
    sale = make_sale(identity="invited")
    path = f"/admin/sales/sale/{sale.pk}/invitations/"
    form = next(form for form in posted(page(desk, path)) if form.fields.get("mode"))
    file = tmp_path / "list.csv"

    def upload(text: str) -> None:
        file.write_text(text)
        with file.open("rb") as opened:
            desk.post(path, {**form.fields, "step": "upload", "file": opened})

    for text in ("ada@example.com", "ada@example.com", "bob@example.com"):
        upload(text)

    assert set(sale.invited().values_list("user_id", flat=True)) == {"ada@example.com", "bob@example.com"}
    assert len(invitations.found(sale, "ada@example.com")) == 1


def test_a_retryable_refusal_can_be_sent_again(client: Client, monkeypatch: pytest.MonkeyPatch):
    def fail(address: str, slug: str) -> None:
        raise mails.NotSent("the mail server is away")

    form = posted_to(page(client, "/shopper/"), "/shopper/")
    monkeypatch.setattr(email_codes, "send", fail)
    refused = send(client, "", form, email=ADA)
    monkeypatch.setattr(email_codes, "send", lambda address, slug: None)

    assert refused.status_code == 503
    assert send(client, "", form, email=ADA).status_code == 303


# While the first is under way, and where it broke off.


@pytest.fixture
def adding_form(desk: Client, make_sale: MakeSale) -> tuple[Sale, Form]:
    sale = make_sale(100)
    return sale, posted_to(page(desk, adding(sale)), "/add-stock-sale/")


def broken_off(desk: Client, form: Form, monkeypatch: pytest.MonkeyPatch) -> None:
    """Send the form to a process that is killed when it has done what the form says."""

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("sales.desk.confirmations._back", die)
        with pytest.raises(KeyboardInterrupt):
            send(desk, "", form, units="5")


def test_a_press_that_broke_off_is_never_done_again(
    desk: Client, adding_form: tuple[Sale, Form], monkeypatch: pytest.MonkeyPatch
):
    sale, form = adding_form
    broken_off(desk, form, monkeypatch)
    monkeypatch.setattr(press_guard, "WAIT_SECONDS", 0.1)

    repeat = send(desk, "", form, units="5")

    assert repeat.status_code == 503
    assert "won&#x27;t do it twice" in repeat.content.decode()
    assert total(sale) == 105


def test_a_press_lost_long_ago_is_not_waited_for(
    desk: Client, adding_form: tuple[Sale, Form], monkeypatch: pytest.MonkeyPatch
):
    sale, form = adding_form
    broken_off(desk, form, monkeypatch)
    monkeypatch.setattr(presses, "LOST_AFTER_SECONDS", 0)
    monkeypatch.setattr(press_guard, "_waited_for", lambda *_: pytest.fail("it waited"))

    assert send(desk, "", form, units="5").status_code == 503
    assert total(sale) == 105


def test_repeats_that_wait_leave_threads_to_others(
    desk: Client, adding_form: tuple[Sale, Form], monkeypatch: pytest.MonkeyPatch
):
    _, form = adding_form
    broken_off(desk, form, monkeypatch)
    monkeypatch.setattr(press_guard, "_room", threading.BoundedSemaphore(1))
    press_guard._room.acquire()
    monkeypatch.setattr(press_guard, "_waited_for", lambda *_: pytest.fail("it waited"))

    assert send(desk, "", form, units="5").status_code == 503
    assert press_guard.MOST_WAITING * 2 <= settings.DJANGO_THREADS


def test_a_failed_press_is_neither_repeated_nor_called_done(
    desk: Client, adding_form: tuple[Sale, Form], monkeypatch: pytest.MonkeyPatch
):
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    sale, form = adding_form
    desk.raise_request_exception = False
    with monkeypatch.context() as patched:
        patched.setattr("sales.desk.confirmations._back", fail)
        first = send(desk, "", form, units="5")
    repeat = send(desk, "", form, units="5")

    assert (first.status_code, repeat.status_code) == (500, 503)
    assert "won&#x27;t do it twice" in repeat.content.decode()
    assert total(sale) == 105


def test_a_repeat_after_ten_minutes_hears_it_was_done(desk: Client, adding_form: tuple[Sale, Form]):
    sale, form = adding_form
    send(desk, "", form, units="5")
    lives = sorted(store.client().ttl(key) for key in kept())
    store.client().delete(*store.client().keys("*:answer"))

    repeat = send(desk, "", form, units="5")

    assert repeat.status_code == 400
    assert "You already sent this" in repeat.content.decode()
    assert total(sale) == 105
    assert 500 < lives[0] <= 600 < lives[1] <= settings.SESSION_COOKIE_AGE


def test_a_form_that_was_open_for_hours_is_done(desk: Client, adding_form: tuple[Sale, Form]):
    sale, form = adding_form
    store.client().flushall()

    send(desk, "", form, units="5")

    assert total(sale) == 105


def test_without_redis_an_operator_can_act(
    desk: Client, adding_form: tuple[Sale, Form], monkeypatch: pytest.MonkeyPatch
):
    def away(press: presses.Press, seconds: int) -> str:
        raise store.RedisError("away")

    sale, form = adding_form
    monkeypatch.setattr(presses.Press, "claim", away)

    assert send(desk, "", form, units="5").status_code == 302
    assert total(sale) == 105


# What is stored.


def test_nothing_is_stored_until_a_form_is_sent(desk: Client, client: Client, open_sale: Sale):
    for path in ("/shopper/", "/admin/login/"):
        client.get(path)
    desk.get(adding(open_sale))

    assert kept() == []


def test_stored_answers_are_sealed(desk: Client, adding_form: tuple[Sale, Form]):
    _, form = adding_form
    answer = send(desk, "", form, units="5")
    (key,) = store.client().keys(f"{store.PRESSES}*:answer")

    sealed = store.client().get(key)

    assert answer["Location"].encode() not in sealed
    assert b"sessionid" not in sealed
    token = form.fields[presses.FIELD]
    assert token.encode() not in b"".join(kept())
    assert sealing.unseal(sealed, "another purpose") is None
    assert sealing.unseal(sealed[:-1], "") is None


def test_a_form_outlives_the_key_that_signed_it(adding_form: tuple[Sale, Form], desk: Client, settings: Settings):
    _, form = adding_form
    settings.SECRET_KEY_FALLBACKS, settings.SECRET_KEY = [settings.SECRET_KEY], "a new one"
    raw = urlsafe_b64decode(form.fields[presses.FIELD])
    press = presses.Press(raw[: presses.NONCE_BYTES], raw[presses.NONCE_BYTES :], "")

    assert press.is_of(f"session {desk.cookies['sessionid'].value}")
    assert not press.is_of("session another")


def test_storage_for_a_strangers_presses_is_bounded(client: Client, settings: Settings):
    settings.ADDRESS_RATE = Rate(100, 1)
    form = posted_to(page(client, "/shopper/"), "/shopper/")

    statuses = {send(client, "", form, email="x" * 3000 + str(number)).status_code for number in range(70)}

    assert statuses == {400}
    assert len(kept()) == 2 * 60
    assert sum(store.client().memory_usage(key) for key in kept()) < 60 * 8 * 1024


def test_an_answer_that_is_too_large_is_not_kept(
    desk: Client, adding_form: tuple[Sale, Form], monkeypatch: pytest.MonkeyPatch
):
    sale, form = adding_form
    monkeypatch.setattr(presses, "LARGEST_ANSWER_BYTES", 10)

    first, repeat = (send(desk, "", form, units="5") for _ in range(2))

    assert (first.status_code, repeat.status_code) == (302, 400)
    assert total(sale) == 105


# Every form.


def forms_in(template: str) -> list[str]:
    return re.findall(r'<form[^>]*method="post".*?</form>', template, re.DOTALL | re.IGNORECASE)


@pytest.mark.pure
def test_every_template_with_a_form_gives_it_a_token():
    roots = [root for root in map(Path, engines["django"].template_dirs) if "django_otp" not in root.parts]
    templates = {str(path.relative_to(root)): path.read_text() for root in roots for path in root.rglob("*.html")}
    found = {name: forms for name, text in templates.items() if (forms := forms_in(text))}

    without = {
        name for name, forms in found.items() for form in forms if not re.search(r"{% (csrf|press)_token %}", form)
    }

    assert len(found) > 15
    assert without == WITHOUT_TOKEN


def test_every_admin_form_has_its_own_token(desk: Client, numbers: dict[str, int], client: Client):
    pages = {path: page(desk, path.format(**numbers)) for path in [*PATHS.values(), "/admin/second-factor/"]}
    pages |= {path.format(**numbers): page(desk, path.format(**numbers)) for path in OF_A_SALE}
    pages["/admin/login/"] = page(client, "/admin/login/")
    del pages["/admin/nothing/"]
    tokens_found = [form.fields.get(presses.FIELD) for text in pages.values() for form in posted(text)]

    assert len(tokens_found) > len(pages) + 15
    assert None not in tokens_found
    assert len(set(tokens_found)) == len(tokens_found)
    assert [path for path, text in pages.items() if "sales/press." not in text] == []


OF_A_SALE = ("/admin/sales/sale/{sale}/invitations/", "/admin/sales/sale/{sale}/partner/")


def test_every_form_of_a_shopper_has_a_token_but_two(client: Client, verified_sale: Sale, http: httpx.Client):
    token = tokens.vouch(ADA, verified_sale.id, 1, seconds=600)
    client.cookies[identities.COOKIE] = tokens.issue(ADA)
    with_token = ("/shopper/", "/shopper/confirm/", f"/shopper/enter/{verified_sale.slug}/?token={token}")

    found = [presses.FIELD in form.fields for path in with_token for form in posted(page(client, path))]
    without = [*posted(page(client, "/orders/find/")), *posted(http.get(f"/sales/{verified_sale.slug}/").text)]

    assert found == [True] * 4
    assert [presses.FIELD in form.fields for form in without] == [False] * 2
