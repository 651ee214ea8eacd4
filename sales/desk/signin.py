"""The admin's log-in, limited: by account and address, and wider by each alone.

Strangers who fail on an operator's account from elsewhere do not lock the operator out before they are very many, nor
can many addresses share the guessing of one account without end.
"""

import unicodedata

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext_noop as _

from sales import formlimits, store
from sales.addresses import address_of
from sales.refusals import refusal

LIMITS: formlimits.Limits = {
    "account and address": ("5/15m", lambda group, request: f"{address_of(request)} {_account(request)}"),
    "address": ("20/15m", lambda group, request: address_of(request)),
    "account": ("100/15m", lambda group, request: _account(request)),
}


def login(request: HttpRequest) -> HttpResponse:
    """Django's own log-in view. POSTs over the limit get 429; without Redis to count in, 503: it fails closed."""
    if request.method == "POST":
        try:
            wait_seconds = formlimits.wait_seconds(request, "login", LIMITS)
        except store.RedisError:
            return refusal(
                request, "unavailable", _("Nobody can sign in while Redis cannot be reached. Try again in a moment.")
            )
        if wait_seconds:
            message = _("Too many attempts to sign in. Wait a quarter of an hour, then try again.")
            return refusal(request, "rate_limited", message, wait_seconds=wait_seconds)
    return admin.site.login(request)


def _account(request: HttpRequest) -> str:
    """Return the user name in one spelling; Django's log-in strips and NFKC-normalises it, too."""
    return unicodedata.normalize("NFKC", request.POST.get("username", "")).strip().casefold()
