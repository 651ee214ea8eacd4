"""Who asks, and as whom a sale lets them buy: the name in the request, or the one that a token proves."""

import logging
from typing import NamedTuple

from django.conf import settings
from django.db import DatabaseError
from django.http import HttpRequest, HttpResponse

from sales import cookies, shoppers, tokens
from sales.endpoints import Refused
from sales.models import Identity, Sale
from sales.origins import is_foreign, is_own
from sales.snapshots import Snapshot

# A browser takes a cookie of the first name from this host alone, and over HTTPS alone (RFC 6265bis, section 4.1.3.2).
COOKIE = "__Host-shopper" if settings.HTTPS else "shopper"

log = logging.getLogger(__name__)

# As SQL has it, or as a worker knows it.
AnySale = Sale | Snapshot

NOT_PROVEN = "This sale is for confirmed shoppers: send a token, as Authorization: Bearer TOKEN."
ANOTHER = "The token names another shopper. Leave userId out, or send that shopper's own token."
EMPTY = "The Authorization header names no token. Send it as: Bearer TOKEN."
NOT_YOURS = "A token answers for its own shopper alone. Ask with the token of the one whom you ask about."
# Scripts send no cookie; a browser says with each form and each fetch from where it comes.
COOKIE_FROM_ELSEWHERE = "This request comes from another site, or does not say from where. Buy on the sale's own page."


class Remembered(NamedTuple):
    """Whom a browser's cookie names, until when (seconds since 1970), and in which sale alone (None: in all)."""

    user_id: str
    expires_at: int
    sale: Sale | None


def shopper(request: HttpRequest, sale: AnySale, claimed: str) -> str:
    """Return the user_id as whom the asker attempts to buy; `claimed` is the one in the request, "" for none.

    A token's shopper wins; in an open sale the claim is believed without one. Raises Refused.
    """
    named = named_in(sale, request)
    if named is None:
        if sale.identity != Identity.OPEN:
            raise Refused("unauthorized", NOT_PROVEN)
        if not claimed:
            raise Refused("invalid_request", shoppers.NO_NAME)
        return person(sale, claimed)
    if claimed and person(sale, claimed) != named.user_id:
        raise Refused("forbidden", ANOTHER)
    return named.user_id


def check_may_ask(request: HttpRequest, sale: AnySale, user_id: str) -> None:
    """Refuse who asks about a shopper's purchase without being that shopper, unless the sale is open."""
    if sale.identity == Identity.OPEN:
        return
    named = named_in(sale, request)
    if named is None:
        raise Refused("unauthorized", NOT_PROVEN)
    if named.user_id != person(sale, user_id):
        raise Refused("forbidden", NOT_YOURS)


def is_proven_to_buy(request: HttpRequest, sale: AnySale) -> bool:
    """Return whether the request proves the name that `shopper` has returned: in an open sale only a token does."""
    return sale.identity != Identity.OPEN or bool(bearer(request))


def is_proven(request: HttpRequest, sale: AnySale, user_id: str) -> bool:
    """Return whether a token or cookie of the request proves that the asker is that shopper."""
    try:
        named = named_in(sale, request)
    except Refused:
        return False
    return named is not None and named.user_id == person(sale, user_id)


def person(sale: AnySale, user_id: str) -> str:
    """Return the name under which a shopper buys in a sale: some sales take all spellings of a mailbox for one."""
    return shoppers.mailbox(user_id) if sale.one_mailbox else user_id


def bearer(request: HttpRequest) -> str:
    """Return the token of the Authorization header, or "" without one: other schemes are for whoever stands in front of
    us. Raises Refused when the header has no token."""
    scheme, _, token = request.META.get("HTTP_AUTHORIZATION", "").partition(" ")
    if scheme.lower() != "bearer":
        return ""
    if not token.strip():
        raise Refused("unauthorized", EMPTY)
    return token.strip()


def cookie(request: HttpRequest) -> str:
    """Return the token of the shoppers' cookie, or "". Raises Refused when another site may have made the browser send
    it."""
    token = cookies.named(request.META.get("HTTP_COOKIE", ""), COOKIE)
    if token and (is_foreign(request) if request.method in ("GET", "HEAD") else not is_own(request)):
        raise Refused("forbidden", COOKIE_FROM_ELSEWHERE)
    return token


def remember(response: HttpResponse, token: str, seconds: int) -> None:
    """Have the browser keep a token of ours. No other site's request carries it, and no script reads it."""
    response.set_cookie(
        COOKIE, token, max_age=seconds, secure=settings.HTTPS, httponly=True, samesite="Strict", path="/"
    )


def forget(response: HttpResponse) -> None:
    response.delete_cookie(COOKIE, path="/", samesite="Strict")


def remembered(request: HttpRequest) -> Remembered | None:
    """Return whom the browser's cookie names, None when it is good in no sale (any more), or SQL does not tell."""
    token = request.COOKIES.get(COOKIE, "")
    try:
        named = tokens.read(token)
        if named.sale_id is None:
            return Remembered(named.user_id, named.expires_at, None)
        sale = Sale.objects.get(pk=named.sale_id, published=True)
        tokens.read_for(token, sale.id, sale.key_number)
    except (tokens.InvalidToken, Sale.DoesNotExist):
        return None
    except DatabaseError as error:
        log.warning("the sale that a cookie is for cannot be looked up: %s", error)
        return None
    return Remembered(named.user_id, named.expires_at, sale)


def named_in(sale: AnySale, request: HttpRequest) -> tokens.Named | None:
    """Return whom the request's token names in the sale, None without a token. An open sale looks at no cookie.

    Raises Refused when the token is not good there.
    """
    token = bearer(request) or (cookie(request) if sale.identity != Identity.OPEN else "")
    if not token:
        return None
    try:
        named = tokens.read_for(token, sale.id, sale.key_number)
    except tokens.InvalidToken as error:
        raise Refused("unauthorized", str(error)) from None
    return named._replace(user_id=person(sale, named.user_id))
