"""Where a browser's request comes from."""

from django.conf import settings
from django.http import HttpRequest

# Browsers leave it out, but a proxy may write it into Host.
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


def is_own(request: HttpRequest) -> bool:
    """Return whether a browser says that a page of ours sent this request, which no other site can make it say."""
    said = "HTTP_SEC_FETCH_SITE" in request.META or "HTTP_ORIGIN" in request.META
    return said and request.META.get("HTTP_SEC_FETCH_SITE") != "none" and not is_foreign(request)


def is_foreign(request: HttpRequest) -> bool:
    """Return whether a browser says that another site sent this request. Scripts send neither header.

    Another subdomain, port or scheme is another site, and so is `null`: a page that may not say where it is from.
    """
    if request.META.get("HTTP_SEC_FETCH_SITE", "same-origin") not in ("same-origin", "none"):
        return True
    origin = request.META.get("HTTP_ORIGIN")
    return origin is not None and not _is_host(origin.lower(), request.META.get("HTTP_HOST", "").lower())


def _is_host(origin: str, host: str) -> bool:
    scheme, _, authority = origin.partition("://")
    # A proxy that ends TLS may leave us to see http where the browser saw https: HTTPS=on tells.
    if scheme not in (("https",) if settings.HTTPS else ("http", "https")):
        return False
    return authority != "" and authority == host.removesuffix(_DEFAULT_PORTS[scheme])
