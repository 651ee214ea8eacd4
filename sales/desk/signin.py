"""The admin's log-in, limited: by account and address, and wider by each alone.

Many addresses cannot share the guessing of one account without end. Nor can they, by using up its tries, keep an
operator out: a browser in which the account has signed in before is known by a cookie, and has tries of its own (OWASP,
"Slow Down Online Guessing Attacks with Device Cookies").
"""

import secrets
import unicodedata

from django.conf import settings
from django.contrib import admin
from django.contrib.auth.models import User
from django.core import signing
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext_noop as _

from sales import formlimits, store
from sales.addresses import address_of
from sales.refusals import refusal

LIMITS: formlimits.Limits = {
    "account and address": formlimits.by_address(
        "5/15m", lambda group, request: f"{address_of(request)} {_account(request)}"
    ),
    "address": formlimits.by_address("20/15m"),
    "account": ("100/15m", lambda group, request: _account(request)),
}
OF_KNOWN_BROWSERS: formlimits.Limits = {"browser": ("5/15m", lambda group, request: _known_browser(request))}
LONGEST_USERNAME = User._meta.get_field("username").max_length or 0
COOKIE = "known_browser"
KNOWN_SECONDS = 180 * 24 * 3600


def login(request: HttpRequest) -> HttpResponse:
    """Django's own log-in view. POSTs over the limit get 429; without Redis to count in, 503: it fails closed."""
    if request.method == "POST":
        try:
            limits = OF_KNOWN_BROWSERS if _known_browser(request) else LIMITS
            wait_seconds = formlimits.wait_seconds(request, "login", limits)
        except store.RedisError:
            return refusal(
                request, "unavailable", _("Nobody can sign in while Redis cannot be reached. Try again in a moment.")
            )
        if wait_seconds:
            message = _("Too many attempts to sign in. Wait a quarter of an hour, then try again.")
            return refusal(request, "rate_limited", message, wait_seconds=wait_seconds)
    response = admin.site.login(request)
    if request.method == "POST" and response.status_code == 302:  # only who has just signed in is led on
        _know(request, response)
    return response


def _know(request: HttpRequest, response: HttpResponse) -> None:
    value = _signer(request).sign(secrets.token_urlsafe(16))
    response.set_cookie(
        COOKIE,
        value,
        max_age=KNOWN_SECONDS,
        path="/admin/login/",
        secure=settings.SESSION_COOKIE_SECURE,
        httponly=True,
        samesite="Strict",
    )


def _known_browser(request: HttpRequest) -> str:
    """Return what names the browser if the account that is given has signed in there, else ""."""
    try:
        return _signer(request).unsign(request.COOKIES.get(COOKIE, ""), max_age=KNOWN_SECONDS)
    except signing.BadSignature:
        return ""


def _signer(request: HttpRequest) -> signing.TimestampSigner:
    """Return what signs for one account: the cookie of another is worth nothing, and tells no name."""
    return signing.TimestampSigner(salt=f"sales.desk.signin {_account(request)}")


def _account(request: HttpRequest) -> str:
    """Return the user name in one spelling; Django's log-in strips and NFKC-normalises it, too. "" where it is longer
    than any: to normalise it might be dear, and nobody is signed in."""
    username = request.POST.get("username", "").strip()
    return unicodedata.normalize("NFKC", username).casefold() if len(username) <= LONGEST_USERNAME else ""
