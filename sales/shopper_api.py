"""Confirming an e-mail address from a script: a code by mail, and a token for it. Django views, because they wait."""

import logging
from collections.abc import Callable
from functools import wraps
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.utils import translation
from django.views.decorators.csrf import csrf_exempt

from sales import email_codes, formats, mails, shoppers, store, tokens
from sales.clock import iso
from sales.endpoints import JSON, Refused, answer, plain, read_json, refusal
from sales.formlimits import code_wait_seconds, redeem_wait_seconds
from sales.origins import is_foreign

NO_EMAIL = 'Send a JSON object like {"email": "ada@example.com"}.'
NO_CODE = 'Send a JSON object like {"email": "ada@example.com", "code": "12345678"}.'
SENT = "If that is a mailbox, a code is on its way to it."
NOT_SENT = "No mail can be sent right now. Try again in a few minutes."
TOO_MANY_CODES = "Too many codes were asked for lately, for this mailbox or from your network. Ask again in %(time)s."
TOO_MANY_TRIES = "Too many codes were given lately from your network. Try again in %(time)s."

log = logging.getLogger(__name__)
View = Callable[[HttpRequest], HttpResponse]


def _posted(view: View) -> View:
    """Make a view that answers in JSON of a function that may raise Refused, NotSent or RedisError."""

    @csrf_exempt  # it looks at no cookie
    @wraps(view)
    def checked(request: HttpRequest) -> HttpResponse:
        if request.method != "POST":
            return plain(refusal(request, "method_not_allowed", allow="POST"))
        try:
            return plain(view(request))
        except Refused as error:
            return plain(refusal(request, error.code, error.message))
        except (mails.NotSent, store.RedisError) as error:
            log.error("%s: %s", request.path, error)
            return plain(refusal(request, "unavailable", NOT_SENT))

    return checked


@_posted
def code(request: HttpRequest) -> HttpResponse:
    """Send a code to an address. The answer does not tell whether anybody has that mailbox."""
    address = _address(_body(request, NO_EMAIL), NO_EMAIL)
    if wait_seconds := code_wait_seconds(request, address):
        return _too_many(request, TOO_MANY_CODES, wait_seconds)
    email_codes.send(address)
    body = {"success": True, "code": "code_sent", "message": SENT, "validSeconds": email_codes.VALID_SECONDS}
    return answer(202, body)


@_posted
def token(request: HttpRequest) -> HttpResponse:
    """Give a token for the code that was sent to an address."""
    body = _body(request, NO_CODE)
    address, given = _address(body, NO_CODE), body.get("code")
    if not isinstance(given, str):
        raise Refused("invalid_request", NO_CODE)
    if wait_seconds := redeem_wait_seconds(request):
        return _too_many(request, TOO_MANY_TRIES, wait_seconds)
    if not email_codes.redeem(address, given):
        raise Refused("wrong_code")
    issued = tokens.issue(address)
    until = iso(tokens.read(issued).expires_at * 1000)
    return answer(200, {"success": True, "token": issued, "userId": address, "expiresTime": until})


def _too_many(request: HttpRequest, message: str, wait_seconds: int) -> HttpResponse:
    with translation.override("en"):
        time = formats.wait(wait_seconds)
    return refusal(request, "rate_limited", message % {"time": time}, wait_seconds=wait_seconds)


def _body(request: HttpRequest, wanted: str) -> dict[str, Any]:
    if (request.content_type or "").lower() != JSON:
        raise Refused("unsupported_media_type")
    if is_foreign(request):
        raise Refused("forbidden")
    if (body := read_json(request.body)) is None:
        raise Refused("invalid_request", wanted)
    return body


def _address(body: dict[str, Any], wanted: str) -> str:
    if "email" not in body:
        raise Refused("invalid_request", wanted)
    try:
        return email_codes.read_address(body["email"])
    except shoppers.InvalidShopper as error:
        raise Refused("invalid_request", str(error)) from None
