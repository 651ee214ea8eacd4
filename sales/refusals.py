"""The pages that say why there is no other page, and what to do next: for the lane and for Django alike."""

from functools import lru_cache

from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.utils import translation
from django.utils.translation import gettext
from django.utils.translation import gettext_noop as _

from sales import languages, words
from sales.outcomes import HTTP_STATUS, retry_after
from sales.rendering import HEADERS

FOREIGN_HOST = _("This host is not served here. Check the address that you used.")
FORM_TOO_LARGE = _("The form is too large: send at most 10 MB. Go back, and choose a smaller picture.")
TOO_COMPLEX = _("The request has too many parts. Send a smaller or simpler one.")


def refusal(
    request: HttpRequest, code: str, message: str = "", *, headline: str = "", wait_seconds: int = 1, allow: str = ""
) -> HttpResponse:
    """Return a page that says why there is no other, and what to do.

    `message` and `headline` are the catalogue's sentences; without them `words` has the code's.
    """
    language = languages.of(request)
    headers = uncached(language, code, wait_seconds) | ({"Allow": allow} if allow else {})
    page = _page(code, message, headline, language, request.path.startswith("/admin/"))
    return HttpResponse(page, status=HTTP_STATUS[code], headers=headers)


def uncached(language: str, code: str, wait_seconds: int = 1) -> dict[str, str]:
    """Return the headers of a page that is for this asker at this moment."""
    varying = {"Content-Language": language, "Vary": "Accept-Language", "Cache-Control": "no-store"}
    return {**HEADERS, **varying, **retry_after(code, wait_seconds)}


@lru_cache(maxsize=200)
def _page(code: str, message: str, headline: str, language: str, is_desk: bool) -> bytes:
    """Return the page, which a server that has to refuse many must not render for each."""
    # On a page of its own nothing was typed that could be checked.
    shown = "bad_request" if code == "invalid_request" else code
    with translation.override(language):
        context = {
            "code": code,
            "status": HTTP_STATUS[code].value,
            "is_desk": is_desk,
            "icon": words.icon(shown),
            "title": gettext(headline) if headline else words.headline(shown),
            "message": gettext(message) if message else words.sentence(shown),
        }
        return render_to_string("sales/refusal.html", context).encode()


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    return refusal(request, "invalid_request")


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    return refusal(request, "forbidden", _("This page is not for you. Sign in with an account that may see it."))


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    message = _("The form was too old, or cookies are blocked. Reload the page, allow cookies here, and try again.")
    return refusal(request, "forbidden", message)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    return refusal(request, "no_sale", _("There is no page at this address. Check it, or look at all sales."))


def server_error(request: HttpRequest) -> HttpResponse:
    return refusal(request, "server_error")
