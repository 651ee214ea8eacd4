"""The headers that tell a browser what an answer must not be used for: the same from the lane and from Django.

Django's middleware sends what `settings` say; the lane, which it does not reach, sends the constants that are made here
of the same settings.
"""

from collections.abc import Callable, Mapping
from functools import cached_property

from csp.constants import NONE
from csp.utils import build_policy
from django.conf import settings
from django.http import HttpRequest, HttpResponse


class Headers(dict[str, str]):
    """Headers that many answers share, and nobody changes."""

    @cached_property
    def lines(self) -> bytes:
        """The headers as they go on the wire."""
        return header_lines(self)


def header_lines(headers: Mapping[str, str]) -> bytes:
    return "".join(f"{name.lower()}: {value}\r\n" for name, value in headers.items()).encode("latin-1")


# Shoppers' pages make no markup of strings, and nobody else shall in them. The desk cannot be held to it: the jQuery of
# Django's admin does.
WITHOUT_MARKUP_FROM_SCRIPTS = {"require-trusted-types-for": ["'script'"], "trusted-types": [NONE]}

# What Django has no setting for. `payment` and the like would be asked for by no page of ours.
BEYOND_DJANGO = {
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
}
_OF_ALL = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": settings.SECURE_REFERRER_POLICY}
OF_PAGES = {
    **_OF_ALL,
    **BEYOND_DJANGO,
    "Content-Security-Policy": build_policy(update=WITHOUT_MARKUP_FROM_SCRIPTS),
    "Cross-Origin-Opener-Policy": settings.SECURE_CROSS_ORIGIN_OPENER_POLICY,
    "X-Frame-Options": settings.X_FRAME_OPTIONS,
}
# Of what is no page: opened as one, it may do nothing. A crowd gets it with each answer, so it is short.
OF_DATA = {**_OF_ALL, "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'"}


def complete(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """Make a middleware that adds to Django's answers what Django's own and django-csp do not."""

    def respond(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        for name, value in BEYOND_DJANGO.items():
            response.headers.setdefault(name, value)
        if not request.path.startswith("/admin/"):
            response._csp_update = WITHOUT_MARKUP_FROM_SCRIPTS  # type: ignore[attr-defined]
        return response

    return respond
