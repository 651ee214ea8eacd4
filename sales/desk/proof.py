"""The cookie by which a web worker sees that a session is one of somebody who has signed in, before it asks SQL.

A stranger cannot make it, so that none makes SQL look for sessions, nor a large body be kept. Whether the session still
is signed in, SQL says.
"""

import re
from collections.abc import Callable
from hmac import compare_digest

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.utils.crypto import salted_hmac

from sales import cookies

COOKIE = "signed_in"
PATH = "/admin/"
# As Django makes them.
_SESSION_KEY = re.compile(r"[a-z0-9]{32}")


def session_of(header: str) -> str:
    """Return the key of the session that a Cookie header names and proves, or ""."""
    key = cookies.named(header, settings.SESSION_COOKIE_NAME)
    given = cookies.named(header, COOKIE)
    if not (_SESSION_KEY.fullmatch(key) and given.isascii()):
        return ""
    secrets = settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS
    return key if any(compare_digest(given, _made(key, secret)) for secret in secrets) else ""


def keep(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """Make a middleware that has the browsers of those who have signed in keep the proof, and others forget it."""

    def respond(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        if not request.path.startswith(PATH):
            return response
        if request.user.is_authenticated:
            _set(response, _made(request.session.session_key or "", settings.SECRET_KEY), request.COOKIES.get(COOKIE))
        elif COOKIE in request.COOKIES:
            response.delete_cookie(COOKIE, path=PATH, samesite="Strict")
        return response

    return respond


def _set(response: HttpResponse, proof: str, known: str | None) -> None:
    if proof != known:
        secure = settings.SESSION_COOKIE_SECURE
        response.set_cookie(COOKIE, proof, path=PATH, secure=secure, httponly=True, samesite="Strict")


def _made(session_key: str, secret: str) -> str:
    return salted_hmac("sales.desk.proof", session_key, secret=secret, algorithm="sha256").hexdigest()
