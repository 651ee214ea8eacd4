"""One-time codes that prove an e-mail address: a short one to type, and a long one in the mail's link.

Both are made from nonces in Redis and the secret key, so that who reads Redis cannot prove anybody's address. Who asks
again while they are valid is sent the same ones: of several mails, each is good, and nobody makes another's code void.
Once the tries of the typed one are used up, by whomever, who asks again gets another one; the links stay good.
"""

import re
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

from sales import codes, mails, shoppers, store

VALID_SECONDS = 15 * 60
DIGITS = 8
_LINKED = re.compile("[0-9a-f]{32}")
# Of a code that is typed: so few guess it 1 time in 20 million. For more another mail has to go out, of at most nine an
# hour: who goes on for a day, with 216 mails, guesses one 1 time in 92,000. The link's cannot be guessed.
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


def begin_mail(address: str, *, is_last: bool) -> int:
    """Note that a mail goes to an address that `read_address` returned. Return 0; or, of the `is_last` one, which goes
    out only while no code is valid, the seconds until then. Raises store.RedisError."""
    client, key = store.client(), _mails_key(address)
    if client.set(key, 1, nx=is_last, ex=VALID_SECONDS):
        return 0
    seconds = client.ttl(key)
    if seconds > VALID_SECONDS:  # Redis's clock was set back
        client.set(key, 1, ex=VALID_SECONDS)
        return 0
    return max(1, seconds)


def send(address: str, slug: str = "") -> None:
    """Send codes to an address that `read_address` returned; the mail's link leads on to the sale of that slug.

    What becomes of the mail is not told: it goes out afterwards. Raises mails.NotSent, store.RedisError.
    """
    try:
        mails.send(lambda: _mail(address, slug))
    except mails.NotSent:
        store.client().delete(_mails_key(address))
        raise


def _mail(address: str, slug: str) -> mails.Mail:
    renewed = _renewed(address)
    link = settings.PUBLIC_URL + reverse("confirm") + "?" + urlencode(_query(address, renewed.linked, slug))
    spaced = f"{renewed.typed[:4]} {renewed.typed[4:]}"
    context = {"code": spaced, "link": link, "minutes": VALID_SECONDS // 60}
    subject = gettext("Your code: %(code)s") % context
    return mails.Mail(address, subject, render_to_string("sales/code.txt", context), (spaced, *renewed))


def redeem(address: str, given: str) -> bool:
    """Return whether one of the address's codes was given; then both are used up. Raises store.RedisError."""
    is_typed = not is_linked(given)
    given = codes.digits(given) if is_typed else given.strip()
    if (code := _expected(address, is_typed=is_typed)) is None or not compare_digest(given, code):
        return False
    if not store.client().delete(_key(address)):  # of two who give it at once, one
        return False
    store.client().delete(_mails_key(address))
    return True


def is_linked(given: str) -> bool:
    """Return whether a code can only be the one of a mail's link, which nobody types."""
    return bool(_LINKED.fullmatch(given.strip()))


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
    return store.CODES + _named(address)


def _mails_key(address: str) -> str:
    """Return the key that is there after a mail, as long as its codes are valid: a mailbox's own address has one, and
    all of its other spellings share one, as who floods it may think of as many as they like."""
    mailbox = shoppers.mailbox(address)
    return store.CODE_MAILS + _named(mailbox if address == mailbox else f"{mailbox} otherwise")


def _named(address: str) -> str:
    return salted_hmac("sales.email_codes.key", address, algorithm="sha256").hexdigest()[:32]
