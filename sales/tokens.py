"""Tokens that say who a shopper is: JSON Web Tokens (RFC 7519) with HMAC-SHA256, ours or those of a sale's partner."""

import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable
from functools import lru_cache
from hmac import compare_digest, digest
from math import isfinite
from typing import Any, NamedTuple

import jwt
import orjson
from django.conf import settings
from django.utils.crypto import salted_hmac

from sales import keyed_hashes, shoppers

ALGORITHM = "HS256"
# Ours begin so, that nobody takes them for a partner's; it is no part of the JWT.
OURS = "fs_"
# A confirmed e-mail address is good for so long; who buys often confirms it once a week.
VALID_SECONDS = 7 * 24 * 3600
# Names of 254 letters of any script fit, each written as \uXXXX; a browser's cookie takes little more.
LONGEST_TOKEN = 4_000
# The last second that a date can tell: the year 9999's.
_LATEST = 253_402_300_799


class Named(NamedTuple):
    """Whom a token names, in the one spelling of `shoppers`, and until when (seconds since 1970); in which sale alone
    (None: in all), and by which key of that sale's partner (None: not on a partner's word)."""

    user_id: str
    expires_at: int
    sale_id: int | None = None
    key_number: int | None = None


class InvalidToken(ValueError):
    """Nobody is named; the message says why and what to do."""


def issue(
    user_id: str, *, sale_id: int | None = None, key_number: int | None = None, seconds: int = VALID_SECONDS
) -> str:
    """Return a token of ours for a shopper whom we know to be that one, in all sales or in one; with a `key_number`, as
    long as that is the key of the sale's partner, whose word it is."""
    claims = {"sub": user_id, "exp": int(time.time()) + seconds, "sale": sale_id, "key": key_number}
    claims = {name: value for name, value in claims.items() if value is not None}
    return OURS + jwt.encode(claims, _own_key(settings.SECRET_KEY), ALGORITHM)


def vouch(user_id: str, sale_id: int, key_number: int, *, seconds: int) -> str:
    """Return a token as a sale's partner makes it, with the key of that number."""
    claims = {"sub": user_id, "exp": int(time.time()) + seconds}
    return jwt.encode(claims, partner_key(sale_id, key_number), ALGORITHM)


def partner_key(sale_id: int, key_number: int, secret: str = "") -> str:
    """Return the key with which a partner signs for a sale. The next number is another key, and this one is void.

    It is derived from the secret key, so that no copy of SQL or Redis lets anybody sign.
    """
    return _partner_key(sale_id, key_number, secret or settings.SECRET_KEY)


def read(token: str) -> Named:
    """Return whom a token of ours names. Raises InvalidToken."""
    if not token.startswith(OURS):
        raise InvalidToken("This token is not one of this site. Ask for another at /api/shopper/code.")
    return _read(token[len(OURS) :], map(_own_key, keyed_hashes.secrets()))


def read_for(token: str, sale_id: int, key_number: int) -> Named:
    """Return whom a token names in a sale: one of ours, or of the partner with the key of that number.

    Raises InvalidToken.
    """
    if not token.startswith(OURS):
        return _read(token, (partner_key(sale_id, key_number, secret) for secret in keyed_hashes.secrets()))
    named = read(token)
    if named.sale_id not in (None, sale_id):
        raise InvalidToken("This token is for another sale. Get one for this sale.")
    if named.key_number not in (None, key_number):
        raise InvalidToken("The partner who vouched for this shopper has another key. Get another token.")
    return named


def _read(token: str, keys: Iterable[str]) -> Named:
    """Return whom the token names that one of the keys has signed.

    The steps are those of RFC 7515, section 5.2, for one algorithm. PyJWT takes four times as long (docs/decisions.md);
    the signature is looked at before anything else, so that nothing is parsed for who has no key.
    """
    if len(token) > LONGEST_TOKEN:
        raise InvalidToken(f"The token is longer than {LONGEST_TOKEN} characters. Send it as it was given.")
    if not token.isascii():
        raise InvalidToken("The token has characters that no token has. Send it as it was given.")
    signed, _, signature = token.rpartition(".")
    if not any(compare_digest(_signature(signed, key), signature.encode()) for key in keys):
        raise InvalidToken("The token's signature is not valid here. Check the key, or get another token.")
    header, _, payload = signed.partition(".")
    if not _is_plain(header):
        raise _unusable(f"its header is not that of a token signed with {ALGORITHM}")
    return _named(_decoded(payload))


def _signature(signed: str, key: str) -> bytes:
    return urlsafe_b64encode(digest(key.encode(), signed.encode(), "sha256")).rstrip(b"=")


@lru_cache(maxsize=100)
def _is_plain(header: str) -> bool:
    """Return whether a token with that header is what we take it for (RFC 8725, section 3.1). There are few of them."""
    fields = _decoded(header)
    return fields.get("alg") == ALGORITHM and not fields.keys() & {"crit", "b64"}


def _decoded(part: str) -> dict[str, Any]:
    """Return what a part of a token says."""
    try:
        fields = orjson.loads(urlsafe_b64decode(f"{part}=="))
    except ValueError:
        raise _unusable("it is not JSON in base64url") from None
    if not isinstance(fields, dict):
        raise _unusable("it is not a JSON object")
    return fields


def _named(claims: dict[str, Any]) -> Named:
    """Return whom the claims name now. When it was made is of no matter: a partner's clock may be ahead of ours."""
    at = time.time()
    if "aud" in claims:
        raise _unusable("it has an aud, which has to be missing")
    if "nbf" in claims and _moment(claims, "nbf") > at:
        raise _unusable("it is not yet valid")
    if (expires_at := _moment(claims, "exp")) <= at:
        raise InvalidToken("The token has expired. Get another one.")
    if not isinstance(claims.get("sub"), str):
        raise _unusable("its sub is missing, or no text")
    try:
        user_id = shoppers.normalise(claims["sub"])
    except shoppers.InvalidShopper as error:
        raise InvalidToken(f"The token's sub names nobody. {error}") from None
    return Named(user_id, int(min(expires_at, _LATEST)), claims.get("sale"), claims.get("key"))


def _moment(claims: dict[str, Any], name: str) -> float:
    """Return a claim that is a time: seconds since 1970."""
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not isfinite(value):
        raise _unusable(f"its {name} is missing, or no number of seconds since 1970")
    return value


def _unusable(why: str) -> InvalidToken:
    return InvalidToken(f"The token cannot be used: {why}. Get another one.")


@lru_cache(maxsize=10)
def _own_key(secret: str) -> str:
    return salted_hmac("sales.tokens", "ours", secret=secret, algorithm="sha256").hexdigest()


@lru_cache(maxsize=1_000)
def _partner_key(sale_id: int, key_number: int, secret: str) -> str:
    return salted_hmac("sales.tokens", f"partner {sale_id} {key_number}", secret=secret, algorithm="sha256").hexdigest()
