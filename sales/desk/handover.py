"""What a press hands over to the page that it leads to: sealed in a cookie of that page, for this session and a while.

So a secret is on no page that is the answer to a form, and the server stores none.
"""

import time
from base64 import urlsafe_b64decode, urlsafe_b64encode

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect

from sales import sealing

COOKIE = "shown"
SHOWN_SECONDS = 600


def lead_to(request: HttpRequest, path: str, secret: str) -> HttpResponse:
    """Lead to the page, which may show the secret for some minutes."""
    text = f"{int(time.time()) + SHOWN_SECONDS} {secret}"
    sealed = sealing.seal(text.encode(), _purpose(request, path))
    response = HttpResponseRedirect(path)
    response.set_cookie(
        COOKIE,
        urlsafe_b64encode(sealed).decode(),
        max_age=SHOWN_SECONDS,
        path=path,
        secure=settings.SESSION_COOKIE_SECURE,
        httponly=True,
        samesite="Strict",
    )
    return response


def handed_over(request: HttpRequest) -> str:
    """Return the secret that this page may show, "" without one."""
    try:
        sealed = urlsafe_b64decode(request.COOKIES.get(COOKIE, "").encode())
    except ValueError:
        return ""
    text = sealing.unseal(sealed, _purpose(request, request.path)) or b"0 "
    until, _, secret = text.decode().partition(" ")
    return secret if time.time() < int(until) else ""


def _purpose(request: HttpRequest, path: str) -> str:
    return f"handover {path} {request.session.session_key}"
