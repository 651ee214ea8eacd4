"""Mails on their way: the mail server is reached while who asked waits, and takes the mail afterwards.

So the answer tells by neither its words nor its time whether the server knows the mailbox.
"""

import asyncio
import logging
import smtplib
from collections.abc import AsyncIterator, Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, asynccontextmanager, suppress
from threading import BoundedSemaphore
from typing import NamedTuple

from django.conf import settings
from django.core.mail import EmailMessage, get_connection
from django.core.mail.backends.base import BaseEmailBackend

from flashsale.redaction import named

# A slow mail server must not take every thread from the admin, nor make mails wait without end.
MOST_AT_ONCE = max(1, settings.DJANGO_THREADS // 2)
# When the worker stops. The server's own limit on each step is EMAIL_TIMEOUT.
FINISH_WITHIN_SECONDS = 5.0
HIDDEN = "…"
REFUSED = (
    "no mail went to %s: the mail server said: %s. Where many are refused, or relaying is denied, check EMAIL_URL and "
    "MAIL_FROM; who was asked to come later (4xx), or mistyped the address, asks for another code"
)

_room = BoundedSemaphore(MOST_AT_ONCE)
_threads = ThreadPoolExecutor(MOST_AT_ONCE, "mail")
_under_way: set[Future[None]] = set()

log = logging.getLogger(__name__)


class NotSent(Exception):
    """No mail goes out; the message says why, for the log."""


class Mail(NamedTuple):
    """A mail to one address; `secrets` are what of it stays out of the log."""

    address: str
    subject: str
    text: str
    secrets: Collection[str] = ()


def can_send() -> bool:
    """Return whether there is a mail server."""
    return not settings.EMAIL_BACKEND.endswith(".dummy.EmailBackend")


def send(compose: Callable[[], Mail | None]) -> None:
    """Reach the mail server, compose the mail, and hand both over to a thread. What the server says of it is logged.

    When `compose` returns None no mail goes out, and the asker waits as long as for one that does.
    Raises NotSent when the server cannot be reached, and what `compose` raises.
    """
    if not can_send():
        raise NotSent("EMAIL_URL is not set: no mail can be sent")
    if not _room.acquire(timeout=1):
        raise NotSent("more mails are being sent than the mail server takes")
    with ExitStack() as undone:
        undone.callback(_room.release)
        connection = get_connection()
        undone.callback(_close, connection)
        try:
            connection.open()
        except OSError as error:  # smtplib's errors are such
            raise NotSent(f"the mail server: {error}") from error
        sending = _threads.submit(_send, connection, compose())
        undone.pop_all()
    _under_way.add(sending)
    sending.add_done_callback(_under_way.discard)


def finish(seconds: float = FINISH_WITHIN_SECONDS) -> bool:
    """Wait for the mails that are under way; return whether none is any more."""
    return not wait(list(_under_way), seconds).not_done


@asynccontextmanager
async def finished() -> AsyncIterator[None]:
    """At the end, let the mails go out that are under way."""
    try:
        yield
    finally:
        if not await asyncio.to_thread(finish):
            log.warning("the mail server took too long: %s mails were cut off", len(_under_way))


def _send(connection: BaseEmailBackend, mail: Mail | None) -> None:
    try:
        if mail:
            _hand_over(connection, mail)
    finally:
        _close(connection)
        _room.release()


def _hand_over(connection: BaseEmailBackend, mail: Mail) -> None:
    try:
        EmailMessage(mail.subject, mail.text, to=[mail.address], connection=connection).send()
    except OSError as error:
        log.warning(REFUSED, named(mail.address), _said(error, (mail.address, *mail.secrets)))
    except Exception:
        log.exception("no mail went to %s", named(mail.address))


def _close(connection: BaseEmailBackend) -> None:
    with suppress(OSError):
        connection.close()


def _said(error: Exception, secrets: Collection[str]) -> str:
    """Return what the mail server said, which may quote the mail."""
    text = str(error)
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        text = ", ".join(_text(*answer) for answer in error.recipients.values())
    elif isinstance(error, smtplib.SMTPResponseException):
        text = _text(error.smtp_code, error.smtp_error)
    text = " ".join(text.split())
    for secret in secrets:
        text = text.replace(secret, HIDDEN)
    return text


def _text(code: int, text: bytes | str) -> str:
    return f"{code} {text.decode(errors='replace') if isinstance(text, bytes) else text}"
