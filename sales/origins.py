"""Where a browser's request comes from."""

from django.http import HttpRequest


def is_foreign(request: HttpRequest) -> bool:
    """Return whether a browser says that another site sent this request. Scripts send neither header."""
    if request.META.get("HTTP_SEC_FETCH_SITE", "same-origin") not in ("same-origin", "none"):
        return True
    origin = request.META.get("HTTP_ORIGIN")
    # The scheme is not compared: behind a proxy that ends TLS we see http where the browser saw https.
    return origin is not None and origin.partition("://")[2] != request.META.get("HTTP_HOST")
