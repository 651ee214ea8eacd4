"""The client's address, as far as the proxies in front of us can be trusted."""

import ipaddress
from collections.abc import Mapping
from functools import lru_cache

from django.conf import settings
from django.http import HttpRequest

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def client_address(meta: Mapping[str, str]) -> str:
    """Return the address that a client is limited by: its IPv4 address, or its IPv6 network of 64 bits.

    X-Forwarded-For is read only when the peer is one of TRUSTED_PROXIES, from the right, up to the first address
    that is not: what stands left of that one was written by the client.
    """
    peer = meta.get("REMOTE_ADDR", "")
    forwarded = meta.get("HTTP_X_FORWARDED_FOR", "") if settings.TRUSTED_PROXIES else ""
    return _first_untrusted(peer, forwarded)


def address_of(request: HttpRequest) -> str:
    """Return `client_address` of a Django request."""
    return client_address(request.META)


@lru_cache(maxsize=10_000)
def _first_untrusted(peer: str, forwarded: str) -> str:
    hops = [peer]
    if forwarded:
        hops += [hop.strip() for hop in reversed(forwarded.split(","))]
    nearest = peer
    for hop in hops:
        try:
            address = _plain(ipaddress.ip_address(hop))
        except ValueError:
            break
        nearest = _limited_as(address)
        if not any(address in network for network in settings.TRUSTED_PROXIES):
            break
    return nearest


def _plain(address: Address) -> Address:
    """Return the IPv4 address that a socket for both families shows as ::ffff:192.0.2.1."""
    return getattr(address, "ipv4_mapped", None) or address


def _limited_as(address: Address) -> str:
    if address.version == 6:
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)
