"""Which other sites' scripts may use the JSON API (CORS, in the Fetch Standard): those of `settings.CORS_ORIGINS`.

Never with cookies: ours count for our own pages alone. What an origin is told is added to the head of an answer on its
way out, because answers are made once for many.
"""

from django.conf import settings
from django.http import HttpRequest

from sales.headers import header_lines

# Under it an answer differs with who asks, but for where an address is confirmed: that is for our own pages.
SHARED, OURS_ALONE = "/api/", "/api/shopper/"
# What a script may send, and read, beyond what the Fetch Standard allows anyway.
_REQUEST_HEADERS = "Authorization, Content-Type, Idempotency-Key, If-None-Match, Traceparent, X-Request-Id"
_RESPONSE_HEADERS = (
    "ETag, Idempotent-Replayed, RateLimit, RateLimit-Policy, Retry-After, WWW-Authenticate, X-Request-Id"
)
# So long a browser need not ask again; Chromium takes no more.
_PREFLIGHT_SECONDS = 7200

# Without it a cache would give what one origin was told to another, or to nobody's script.
_VARY = {"Vary": "Origin"}
_TO_OTHERS = header_lines(_VARY)
_TO_ALLOWED = {
    origin: header_lines(
        {**_VARY, "Access-Control-Allow-Origin": origin, "Access-Control-Expose-Headers": _RESPONSE_HEADERS}
    )
    for origin in settings.CORS_ORIGINS
}


def lines(request: HttpRequest) -> bytes:
    """Return the header lines that an answer gets, whatever it is, where some origin is allowed."""
    if not (_TO_ALLOWED and _is_shared(request)):
        return b""
    return _TO_ALLOWED.get(request.META.get("HTTP_ORIGIN", ""), _TO_OTHERS)


def _is_shared(request: HttpRequest) -> bool:
    return request.path.startswith(SHARED) and not request.path.startswith(OURS_ALONE)


def is_allowed(request: HttpRequest) -> bool:
    """Return whether a script of an allowed origin sent this request."""
    return request.META.get("HTTP_ORIGIN") in settings.CORS_ORIGINS


def preflight(request: HttpRequest, methods: tuple[str, ...]) -> dict[str, str] | None:
    """Return the headers that let an allowed origin's script send more than a form could; None for other requests."""
    if request.method != "OPTIONS" or "HTTP_ACCESS_CONTROL_REQUEST_METHOD" not in request.META:
        return None
    if not (_is_shared(request) and is_allowed(request)):
        return None
    return {
        "Access-Control-Allow-Methods": ", ".join(methods),
        "Access-Control-Allow-Headers": _REQUEST_HEADERS,
        "Access-Control-Max-Age": str(_PREFLIGHT_SECONDS),
    }
