"""One-time codes that prove an e-mail address: a short one to type, and a long one in the mail's link.

Both are made from nonces in Redis and the secret key, so that who reads Redis cannot prove anybody's address. Who asks
again while they are valid is sent the same ones: of several mails, each is good, and nobody makes another's code void.
Once the tries of the typed one are used up, by whomever, who asks again gets another one; the links stay good.
"""

import secrets
from hmac import compare_digest
from typing import NamedTuple
from urllib.parse import urlencode

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.crypto import salted_hmac
from django.utils.translation import gettext
from django.utils.translation import gettext_noop as _

from sales import mails, shoppers, store

VALID_SECONDS = 15 * 60
DIGITS = 8
# Of a code that is typed: so few guess it 1 time in 20 million. For more another mail has to go out, of five an hour to
# each mailbox: who goes on for a day, with 120 mails, guesses one 1 time in 170,000. The link's cannot be guessed.
MOST_TRIES = 5

NO_ADDRESS = _("This is not an e-mail address. Write it like ada@example.com.")
QUOTED = _("Write the e-mail address without quotation marks and backslashes, like ada@example.com.")
NO_DOMAIN_NAME = _("After the @ there has to be a domain name, as in ada@example.com.")
NO_DOMAIN = _("There can be no such domain. Check what stands after the @.")
NOT_SENT_TO = _("We can send no mail to an address with such letters before the @. Take one like ada@example.com.")


class NotAnAddress(shoppers.InvalidShopper):
    """No mail can go to the text; the message is one of the catalogue's sentences."""


class Codes(NamedTuple):
    typed: str
    linked: str


def read_address(text: object) -> str:
    """Return an e-mail address's one spelling, to which mail goes letter by letter. Raises shoppers.InvalidShopper."""
    if not isinstance(text, str):
        raise NotAnAddress(NO_ADDRESS)
    address = shoppers.normalise(text)
    local, _at, domain = address.rpartition("@")
    if '"' in local or "\\" in local:
        raise NotAnAddress(QUOTED)
    if domain.startswith("["):
        raise NotAnAddress(NO_DOMAIN_NAME)
    if not domain.isascii():
        raise NotAnAddress(NO_DOMAIN)
    if not local.isascii():
        raise NotAnAddress(NOT_SENT_TO)
    try:
        validate_email(address)
    except ValidationError:
        raise NotAnAddress(NO_ADDRESS) from None
    return address


def send(address: str, slug: str = "") -> None:
    """Send codes to an address that `read_address` returned; the mail's link leads on to the sale of that slug.

    What becomes of the mail is not told: it goes out afterwards. Raises mails.NotSent, store.RedisError.
    """
    mails.send(lambda: _mail(address, slug))


def _mail(address: str, slug: str) -> mails.Mail:
    codes = _renewed(address)
    link = settings.PUBLIC_URL + reverse("confirm") + "?" + urlencode(_query(address, codes.linked, slug))
    spaced = f"{codes.typed[:4]} {codes.typed[4:]}"
    context = {"code": spaced, "link": link, "minutes": VALID_SECONDS // 60}
    subject = gettext("Your code: %(code)s") % context
    return mails.Mail(address, subject, render_to_string("sales/code.txt", context), (spaced, *codes))


def redeem(address: str, given: str) -> bool:
    """Return whether one of the address's codes was given; then both are used up. Raises store.RedisError."""
    given = "".join(given.split())
    if (code := _expected(address, is_typed=len(given) <= DIGITS)) is None:
        return False
    if not compare_digest(given.encode(), code.encode()):
        return False
    return bool(store.client().delete(_key(address)))  # of two who give it at once, one


def _expected(address: str, *, is_typed: bool) -> str | None:
    """Return the code that is good now, None without one. One that is typed has one try less then."""
    if not is_typed:
        nonce = store.client().hget(_key(address), "nonce")
        return nonce and _linked(address, nonce)
    found = store.run_script_blocking("try_code", [_key(address)], [])
    if not found or found[1] > MOST_TRIES:
        return None
    return _typed(address, found[0])


def _query(address: str, code: str, slug: str) -> dict[str, str]:
    return {"email": address, "code": code} | ({"sale": slug} if slug else {})


def _renewed(address: str) -> Codes:
    """Return the codes of an address, valid from here on for the whole time."""
    arguments = [secrets.token_hex(16), MOST_TRIES, VALID_SECONDS]
    return _codes(address, *store.run_script_blocking("renew_codes", [_key(address)], arguments))


def _codes(address: str, nonce: bytes, typed_nonce: bytes) -> Codes:
    return Codes(_typed(address, typed_nonce), _linked(address, nonce))


def _typed(address: str, nonce: bytes) -> str:
    return f"{int(_digest('typed', address, nonce), 16) % 10**DIGITS:0{DIGITS}}"


def _linked(address: str, nonce: bytes) -> str:
    return _digest("linked", address, nonce)[:32]


def _digest(kind: str, address: str, nonce: bytes) -> str:
    value = f"{address} {nonce.decode()}"
    return salted_hmac(f"sales.email_codes.{kind}", value, algorithm="sha256").hexdigest()


def _key(address: str) -> str:
    """Return the key of an address's codes, which does not tell the address."""
    return store.CODES + salted_hmac("sales.email_codes.key", address, algorithm="sha256").hexdigest()[:32]
