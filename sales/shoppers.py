"""Who is asking: one spelling for each shopper."""

import re
import unicodedata

import idna

LONGEST_USER_ID = 254

# Default_Ignorable_Code_Point (Unicode's DerivedCoreProperties.txt) outside category C: invisible, and removed by
# NFKC_Casefold, so that they make no second shopper.
_IGNORABLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)

# All but ß and ς, of which folding makes "ss" and σ: two domains, of which each has an owner (RFC 5894, section 7.2).
_FOLDED_IN_DOMAINS = re.compile("[^ßς]+")
LONGEST_DOMAIN = 253

# One mailbox has both names, wherever dots stand in them (support.google.com/mail/answer/7436150).
_GMAIL = "gmail.com", "googlemail.com"
# They change how a local part is written, not which it is.
_QUOTES = re.compile(r'["\\]')


NO_NAME = 'There is no "userId": send one, like an e-mail address.'
NO_TEXT = '"userId" is no text: send one, like an e-mail address, or leave it out beside a token.'


class InvalidShopper(ValueError):
    """The identifier cannot name a shopper; the message says why and what to send instead."""


def normalise(user_id: object) -> str:
    """Return the one spelling of `user_id`: trimmed, NFKC-normalised, case-folded, and after an @ the domain as DNS
    has it. Raises InvalidShopper.

    The steps are those of Unicode's NFKC_Casefold (The Unicode Standard, D146), so that the result is stable.
    """
    if not isinstance(user_id, str):
        raise InvalidShopper(NO_TEXT)
    trimmed = user_id.strip()
    if trimmed.isascii():
        normal = trimmed.lower()
        has_control_characters = not normal.isprintable()
    else:
        has_control_characters = any(unicodedata.category(character)[0] == "C" for character in trimmed)
        normal = _spelling(trimmed)
    if not normal:
        raise InvalidShopper("The name is empty: give an e-mail address or a user name.")
    if has_control_characters:
        raise InvalidShopper("The name has a control or invisible character: type it again without.")
    if len(normal) > LONGEST_USER_ID:
        raise InvalidShopper(f"The name is longer than {LONGEST_USER_ID} characters: give a shorter one.")
    return normal


def _spelling(text: str) -> str:
    """Return the one spelling of a text with letters beyond ASCII, "" when nothing of it is visible."""
    local, at, domain = unicodedata.normalize("NFKC", text).rpartition("@")
    if not local or domain.isascii():
        return _folded(text).strip()
    return f"{_folded(local)}{at}{_encoded(domain)}".strip()


def _folded(text: str) -> str:
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFD", text).casefold())
    return unicodedata.normalize("NFKC", _IGNORABLE.sub("", folded.casefold()))


def _encoded(domain: str) -> str:
    """Return a domain as DNS has it, by IDNA2008 (RFC 5891) and the non-transitional mapping of UTS #46; what can be
    none is merely folded."""
    folded = _FOLDED_IN_DOMAINS.sub(lambda found: _folded(found[0]), domain.replace("ẞ", "ß"))
    if folded.isascii() or len(folded) > LONGEST_DOMAIN:
        return folded
    try:
        return idna.encode(folded.rstrip(), uts46=True).decode()
    except UnicodeError:
        return folded


def mailbox(user_id: str) -> str:
    """Return the mailbox's own address of a normalised e-mail address: without quotes (RFC 5321, section 4.1.2) and
    what stands after a plus (RFC 5233's subaddress), and at Gmail without dots. What is no address stays as it is."""
    local, at, domain = user_id.rpartition("@")
    local = _QUOTES.sub("", local).partition("+")[0]
    if domain in _GMAIL:
        local, domain = local.replace(".", ""), _GMAIL[0]
    return f"{local}{at}{domain}" if local else user_id
