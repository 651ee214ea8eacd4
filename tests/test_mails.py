"""Mails: who asks waits for the mail server to be reached, and hears nothing of what it says of the mailbox."""

import logging
import threading
import time
from collections.abc import Callable

import httpx
import pytest
from django.core import mail
from pytest_django import Settings

from flashsale.redaction import named
from sales import email_codes, mails, store
from sales.store import CODES
from tests.mail_servers import MailServer
from tests.redis_servers import wait_until
from tests.servers import PATIENT, WebServer, free_port
from tests.test_shopper_pages import codes_of

ADA = "ada@example.com"
REFUSALS = {
    "a mailbox that it does not know": "550 5.1.1 <ada@example.com>: no such user",
    "an address that it does not relay to": "554 5.7.1 <ADA@example.com>: Relay access denied",
    "whom it asks to come later": "450 4.2.0 Greylisted, try again in 5 minutes",
}


def warned(caplog: pytest.LogCaptureFixture) -> str:
    assert mails.finish(30)
    [record] = caplog.records
    assert (record.levelno, record.name) == (logging.WARNING, "sales.mails")
    return record.getMessage()


@pytest.mark.parametrize("answer", REFUSALS.values(), ids=REFUSALS)
def test_a_refused_mail_is_logged_with_advice(mail_server: MailServer, caplog: pytest.LogCaptureFixture, answer: str):
    mail_server.on_recipient = lambda address: answer

    email_codes.send(ADA)

    line = warned(caplog)
    assert named(ADA) in line
    assert answer[:9] in line
    assert "check EMAIL_URL" in line
    assert ADA not in line


def test_the_log_hides_codes_that_the_mail_server_quotes(mail_server: MailServer, caplog: pytest.LogCaptureFixture):
    quoted: list[str] = []

    def refuse(address: str) -> str:
        codes = codes_of(address)
        quoted.extend((f"{codes.typed[:4]} {codes.typed[4:]}", *codes))
        return f"550 5.7.0 {address}: {quoted[0]} looks like {quoted[1]} and {quoted[2]}"

    mail_server.on_mail = refuse

    email_codes.send(ADA)

    line = warned(caplog)
    assert "550 5.7.0 …: … looks like … and …" in line
    assert not any(secret in line for secret in quoted)


def test_a_mail_server_that_goes_away_is_in_the_log(mail_server: MailServer, caplog: pytest.LogCaptureFixture):
    mail_server.on_mail = lambda address: "421 4.3.2 shutting down"

    email_codes.send(ADA)

    assert "421" in warned(caplog)


def test_a_defect_is_logged_and_blocks_no_other_mail(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    with monkeypatch.context() as broken:
        broken.setattr("django.core.mail.EmailMessage.send", lambda mail: 1 / 0)
        for _ in range(mails.MOST_AT_ONCE + 1):
            email_codes.send(ADA)
            assert mails.finish(30)

    email_codes.send(ADA)

    assert mails.finish(30)
    assert [message.to for message in mail.outbox] == [[ADA]]
    assert {record.levelno for record in caplog.records} == {logging.ERROR}


def test_without_a_mail_server_no_code_is_made(settings: Settings):
    settings.EMAIL_BACKEND = "django.core.mail.backends.dummy.EmailBackend"

    with pytest.raises(mails.NotSent, match="EMAIL_URL is not set"):
        email_codes.send(ADA)

    assert not store.client().keys(f"{CODES}*")


def test_an_unreachable_mail_server_is_reported_every_time(settings: Settings, mail_server: MailServer):
    settings.EMAIL_PORT = free_port()

    for _ in range(mails.MOST_AT_ONCE + 1):
        with pytest.raises(mails.NotSent, match="Connection refused"):
            email_codes.send(ADA)

    assert not store.client().keys(f"{CODES}*")


def test_failures_before_the_handover_take_no_room(monkeypatch: pytest.MonkeyPatch):
    with monkeypatch.context() as broken:
        broken.setattr("sales.email_codes._renewed", lambda address: 1 / 0)
        for _ in range(mails.MOST_AT_ONCE + 1):
            with pytest.raises(ZeroDivisionError):
                email_codes.send(ADA)

    email_codes.send(ADA)
    assert mails.finish(30)


def test_mails_beyond_the_room_are_refused(mail_server: MailServer):
    release = threading.Event()

    def wait(address: str) -> str:
        release.wait(30)
        return ""

    mail_server.on_recipient = wait
    try:
        for number in range(mails.MOST_AT_ONCE):
            email_codes.send(f"{number}@example.com")
        with pytest.raises(mails.NotSent, match="more mails"):
            email_codes.send(ADA)
    finally:
        release.set()
    assert mails.finish(30)

    email_codes.send(ADA)
    assert mails.finish(30)
    assert len(mail_server.mails) == mails.MOST_AT_ONCE + 1


def test_nobody_waits_for_the_mail_servers_answer(mail_server: MailServer):
    release, were_released = threading.Event(), list[bool]()

    def wait(address: str) -> str:
        were_released.append(release.wait(5))
        return ""

    mail_server.on_recipient = wait
    email_codes.send(ADA)
    release.set()

    assert mails.finish(30)
    assert were_released == [True]


@pytest.fixture
def web_server(mail_server: MailServer, db: None, redis_server: object, static_files: None) -> WebServer:
    """One worker, which sends eight mails at once."""
    environment = {"EMAIL_URL": mail_server.url, "WEB_CONCURRENCY": "1", "DJANGO_THREADS": "16"}
    return WebServer({"PORT": str(free_port()), **environment}, PATIENT)


def test_mails_may_be_printed_in_place_of_sent(server: WebServer):
    """As the tests' own servers do."""
    asked = httpx.post(f"{server.url}/api/shopper/code", json={"email": ADA})

    assert asked.status_code == 202
    wait_until(lambda: codes_of(ADA).linked in server.log.read_text(), "it is printed", within_seconds=60)


SLOW_SECONDS = 0.5
ASK: dict[str, Callable[[str, str], httpx.Response]] = {
    "script": lambda url, address: httpx.post(f"{url}/api/shopper/code", json={"email": address}),
    "page": lambda url, address: httpx.post(
        f"{url}/shopper/", data={"email": address}, headers={"Sec-Fetch-Site": "same-origin"}
    ),
}


def test_answer_and_time_do_not_reveal_a_mailbox(mail_server: MailServer, web_server: WebServer):
    """The mail server says nothing of the mailboxes before all who asked are answered. Then it refuses some."""
    is_answered, asked = threading.Event(), threading.Semaphore(0)
    said_early: list[str] = []

    def on_recipient(address: str) -> str:
        asked.release()
        if not is_answered.wait(60):
            said_early.append(address)
        return "550 5.1.1 no such user" if address.startswith("nobody") else ""

    mail_server.on_recipient = on_recipient
    mail_server.on_mail = lambda address: "550 5.7.1 not wanted" if address.startswith("blocked") else ""
    answers: dict[str, dict[str, httpx.Response]] = {}
    with web_server:
        for way, ask in ASK.items():
            is_answered.clear()
            names = [f"{kind}-{way}" for kind in ("ada", "nobody", "blocked")]
            answers[way] = {name: ask(web_server.url, f"{name}@example.com") for name in names}
            assert all(asked.acquire(timeout=60) for _ in names)
            is_answered.set()

    assert said_early == []
    for given in answers.values():
        assert len({answer.status_code for answer in given.values()}) == 1
        assert len({answer.text.replace(name, "…") for name, answer in given.items()}) == 1


def test_a_stopping_worker_sends_its_pending_mails(mail_server: MailServer, web_server: WebServer):
    entered = threading.Event()

    def on_recipient(address: str) -> str:
        entered.set()
        time.sleep(SLOW_SECONDS)
        return ""

    mail_server.on_recipient = on_recipient
    with web_server:
        asked = httpx.post(f"{web_server.url}/api/shopper/code", json={"email": ADA})
        assert entered.wait(30)

    assert asked.status_code == 202
    assert [f"To: {ADA}" in text for text in mail_server.mails] == [True]
    assert "cut off" not in web_server.log.read_text()
