"""The pages that say why there is no other page, and what to do next: for the lane and for Django alike."""

import math
from functools import lru_cache

from django.conf import settings
from django.contrib import admin
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import translation
from django.utils.translation import gettext
from django.utils.translation import gettext_noop as _

from flashsale.tracing import request_id
from sales import endpoints, formats, languages, ratelimits, words
from sales.headers import OF_PAGES
from sales.origins import is_foreign
from sales.outcomes import HTTP_STATUS, challenge, retry_after
from sales.ratelimits import Quota

# Stands for the request's ID in the page that all share.
REQUEST_ID = b"@request-id@"

FOREIGN_HOST = _("This host is not served here. Check the address that you used.")
FORM_TOO_LARGE = _("The form is too large: send at most 10 MB. Go back, and choose a smaller picture.")
NO_ADDRESS = "There is nothing at this address of the API. /api/docs lists its addresses."
UPLOAD_TOO_LARGE = _("The file is too large: send at most 48 MB. Go back, and upload it in parts.")
TOO_MANY_UPLOADS = _("Enough files are being uploaded already. Wait a minute, and upload yours again.")
SIGN_IN_FIRST = _(
    "You aren't signed in, and without that at most 8 KB are read here. Sign in in another tab, then go back and send "
    "it again."
)
TARGET_TOO_LONG = _("This address is too long. Check it, or look at all sales.")
TOO_BUSY = _("Too many people are asking for pages right now. Try again in a few seconds.")
NO_ROOM = _("Our disk is full, so we can't send this. Try again later.")
TOO_COMPLEX = _("The request has too many parts. Send a smaller or simpler one.")


def refusal(
    request: HttpRequest,
    code: str,
    message: str = "",
    *,
    headline: str = "",
    quota: Quota | None = None,
    wait_seconds: int = 1,
    allow: str = "",
) -> HttpResponse:
    """Return a page that says why there is no other, and what to do; for an address of the API the JSON that says so.

    `message` and `headline` are the catalogue's sentences; without them `words` has the code's. For %(time)s a message
    gets how long to wait. With a `quota` it is what tells that.
    """
    if is_api(request.path):
        return endpoints.plain(
            endpoints.refusal(request, code, message, quota=quota, wait_seconds=wait_seconds, allow=allow)
        )
    language = languages.of(request)
    waiting = uncached(language, code, quota.seconds if quota else wait_seconds)
    headers = waiting | ratelimits.headers(quota) | ({"Allow": allow} if allow else {})
    waits = wait_seconds if "%(time)s" in message else 0
    page = _page(code, message, headline, language, request.path.startswith("/admin/"), math.ceil(waits / 60))
    page = page.replace(REQUEST_ID, request_id().encode())
    return HttpResponse(page, status=HTTP_STATUS[code], headers=headers)


def is_api(path: str) -> bool:
    return path.startswith("/api/")


def uncached(language: str, code: str, wait_seconds: int = 1) -> dict[str, str]:
    """Return the headers of a page that is for this asker at this moment."""
    varying = {"Content-Language": language, "Vary": "Accept-Language", "Cache-Control": "no-store"}
    return {**OF_PAGES, **varying, **challenge(code), **retry_after(code, wait_seconds)}


@lru_cache(maxsize=200)
def _page(code: str, message: str, headline: str, language: str, is_desk: bool, minutes: int) -> bytes:
    """Return the page, which a server that has to refuse many must not render for each."""
    # On a page of its own nothing was typed that could be checked.
    shown = "bad_request" if code in ("invalid_request", "target_too_long") else code
    with translation.override(language):
        context = {
            "code": code,
            "status": HTTP_STATUS[code].value,
            "is_desk": is_desk,
            "request_id": REQUEST_ID.decode(),
            "icon": words.icon(shown),
            "title": gettext(headline) if headline else words.headline(shown),
            "message": _filled(gettext(message), minutes) if message else words.sentence(shown),
        }
        return render_to_string("sales/refusal.html", context).encode()


def _filled(sentence: str, minutes: int) -> str:
    return sentence % {"time": formats.wait(minutes * 60)} if minutes else sentence


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    return refusal(request, "invalid_request")


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    return refusal(request, "forbidden", _("This page is not for you. Sign in with an account that may see it."))


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """Refuse the form. If another tab has signed this browser in or out since, redirect to where it was to lead."""
    has_token = (
        settings.CSRF_COOKIE_NAME in request.COOKIES
        and "csrfmiddlewaretoken" in request.POST
        and not is_foreign(request)
    )
    if has_token and request.path in (reverse("admin:login"), reverse("admin:logout")):
        is_signed_in = admin.site.has_permission(request)
        if is_signed_in == (request.path == reverse("admin:login")):
            return HttpResponseRedirect(reverse("admin:index" if is_signed_in else "admin:login"))
    message = _("The form was too old, or cookies are blocked. Reload the page, allow cookies here, and try again.")
    return refusal(request, "forbidden", message)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    if is_api(request.path):
        return refusal(request, "no_sale", NO_ADDRESS)
    return refusal(request, "no_sale", _("There is no page at this address. Check it, or look at all sales."))


def server_error(request: HttpRequest) -> HttpResponse:
    return refusal(request, "server_error")
