"""Origins of the Web, as browsers write them in the header Origin (RFC 6454, section 6.2): ``https://shop.example.com``."""

import re
from urllib.parse import urlsplit

_DEFAULT_PORTS = {"http": 80, "https": 443}


def parse_origins(text: str) -> frozenset[str]:
    """Return the origins of a list with commas. Raises ValueError for what no browser would send, and for ``*``."""
    origins = [word.strip() for word in text.split(",") if word.strip()]
    for origin in origins:
        _check(origin)
    return frozenset(origins)


def _check(origin: str) -> None:
    if "*" in origin:
        raise ValueError(f"{origin!r} takes in whoever comes; name each origin, like https://shop.example.com")
    written_so = re.fullmatch(r"https?://([a-z0-9-]+(\.[a-z0-9-]+)*|\[[0-9a-f:.]+\])(:[1-9]\d{0,4})?", origin)
    if not written_so or not _has_port_of_its_own(origin):
        raise ValueError(
            f"{origin!r} is not an origin as browsers write it, like https://shop.example.com or "
            "http://localhost:3000: no path, no capital letter, no default port"
        )


def _has_port_of_its_own(origin: str) -> bool:
    """Return whether the port, if there is one, exists and is not the one that goes without saying."""
    parts = urlsplit(origin)
    return parts.port != _DEFAULT_PORTS[parts.scheme]  # a port above 65535 is a ValueError
