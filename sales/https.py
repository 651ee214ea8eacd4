"""Where the site is served over HTTPS (`settings.HTTPS`), nothing that matters travels over anything else.

It is what Django's SecurityMiddleware does, which the lane does not pass. Whether a request came over HTTPS is what the
proxy says in X-Forwarded-Proto, as `settings.SECURE_PROXY_SSL_HEADER` has it.
"""

import re
from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext_noop as _

from sales.addresses import is_proxy
from sales.headers import OF_DATA, header_lines

NOT_OVER_HTTP = _("Send this over https: it could be read on its way here. Nothing was done with it.")

_MAY_BE_PLAIN = [re.compile(pattern) for pattern in settings.SECURE_REDIRECT_EXEMPT]


def refused(request: HttpRequest, refuse: Callable[..., HttpResponse]) -> HttpResponse | None:
    """Return the answer to a request over http that must come over https; None for all others.

    What is read is redirected. What is sent is refused: a redirect would make a GET of it, or send it unread once more.
    """
    if _is_secure(request) or any(pattern.search(request.path.lstrip("/")) for pattern in _MAY_BE_PLAIN):
        return None
    if request.method not in ("GET", "HEAD"):
        return refuse(request, "forbidden", NOT_OVER_HTTP)
    location = f"https://{request.get_host()}{request.get_full_path()}"
    return HttpResponse(status=301, headers={**OF_DATA, "Location": location})


def lines(request: HttpRequest) -> bytes:
    """Return the header line that binds browsers to HTTPS; over http it is not sent (RFC 6797, section 7.2)."""
    return _STRICT if _is_secure(request) else b""


def _is_secure(request: HttpRequest) -> bool:
    """Return whether the request came over HTTPS; where proxies are named, only theirs did."""
    return request.is_secure() and (not settings.TRUSTED_PROXIES or is_proxy(request.META["REMOTE_ADDR"]))


def _policy() -> str:
    """Return what Django's SecurityMiddleware sends."""
    subdomains = "; includeSubDomains" if settings.SECURE_HSTS_INCLUDE_SUBDOMAINS else ""
    preload = "; preload" if settings.SECURE_HSTS_PRELOAD else ""
    return f"max-age={settings.SECURE_HSTS_SECONDS}{subdomains}{preload}"


_STRICT = header_lines({"Strict-Transport-Security": _policy()}) if settings.SECURE_HSTS_SECONDS else b""
