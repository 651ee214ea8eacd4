"""The client's address, as far as the proxies in front of us can be trusted."""

import ipaddress
from collections.abc import Iterable, Mapping
from functools import lru_cache

from django.conf import settings
from django.http import HttpRequest

# Longer lists are not kept: ten thousand of them would take too much memory.
LONGEST_KEPT = 200
# One behind the other, and nobody has so many: whoever writes a longer list of them does so to keep us busy.
MOST_PROXIES = 20
# Of an IPv6 address with an IPv4 one in it are 45, and the name of a link is short.
LONGEST_ADDRESS = 100

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def client_address(meta: Mapping[str, str]) -> str:
    """Return the address that a client is limited by: its IPv4 address, or its IPv6 network of 64 bits.

    X-Forwarded-For is read only when the peer is one of TRUSTED_PROXIES, from the right, up to the first address
    that is not: what stands left of that one was written by the client.
    """
    peer, forwarded = meta.get("REMOTE_ADDR", ""), meta.get("HTTP_X_FORWARDED_FOR", "")
    if forwarded and not settings.TRUSTED_PROXIES:
        forwarded = ""
    return _first_untrusted(peer, forwarded) if len(forwarded) <= LONGEST_KEPT else _find(peer, forwarded)


def address_of(request: HttpRequest) -> str:
    """Return `client_address` of a Django request."""
    return client_address(request.META)


def is_from(networks: Iterable[Network], meta: Mapping[str, str]) -> bool:
    """Return whether the client is in one of the networks. Who comes through a proxy that TRUSTED_PROXIES does not name
    may be anybody, and is in none."""
    peer, forwarded = meta.get("REMOTE_ADDR", ""), meta.get("HTTP_X_FORWARDED_FOR", "")
    if forwarded and not is_proxy(peer):
        return False
    address = _nearest(peer, forwarded)
    return address is not None and any(address in network for network in networks)


def is_proxy(peer: str) -> bool:
    """Return whether a peer is one of TRUSTED_PROXIES."""
    address = _parsed(peer)
    return address is not None and _is_trusted(address)


def _find(peer: str, forwarded: str) -> str:
    address = _nearest(peer, forwarded)
    return _limited_as(address) if address else peer


def _nearest(peer: str, forwarded: str) -> Address | None:
    """Return the first address, from the peer on, that is none of TRUSTED_PROXIES; None for a peer without one."""
    hops = [peer]
    if forwarded:
        hops += [hop.strip() for hop in reversed(forwarded.rsplit(",", MOST_PROXIES))]
    nearest = None
    for hop in hops[: MOST_PROXIES + 1]:
        address = _parsed(hop)
        if address is None:
            break
        nearest = address
        if not _is_trusted(address):
            break
    return nearest


_first_untrusted = lru_cache(maxsize=10_000)(_find)


def _parsed(text: str) -> Address | None:
    """Return an address; the IPv4 one where a socket for both families shows it as ::ffff:192.0.2.1."""
    if len(text) > LONGEST_ADDRESS:
        return None
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _is_trusted(address: Address) -> bool:
    return any(address in network for network in settings.TRUSTED_PROXIES)


def _limited_as(address: Address) -> str:
    if address.version == 6:
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)
