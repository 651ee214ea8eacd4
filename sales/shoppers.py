"""Who is asking: one spelling for each shopper."""

import re
import unicodedata

import idna

LONGEST_USER_ID = 254
# The Stream-Safe Text Format's (UAX #15, section 13): to bring marks into their order takes the square of a run's time.
MOST_MARKS = 30
_MARKS = bytes([True]) * (MOST_MARKS + 1)
# Of one character of NFKC in NFKD: of alpha with a breathing, an accent and an iota below it (U+1F82).
_LONGEST_DECOMPOSITION = 4

# Default_Ignorable_Code_Point (Unicode's DerivedCoreProperties.txt) outside category C: invisible, and removed by
# NFKC_Casefold, so that they make no second shopper.
_IGNORABLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)

# All but ß and ς, of which folding makes "ss" and σ: two domains, of which each has an owner (RFC 5894, section 7.2).
# While the rest is folded, characters for private use stand for them: a name has none of its own.
_KEPT = str.maketrans("ßẞς", "\ue000\ue000\ue001")
_AS_KEPT = str.maketrans("\ue000\ue001", "ßς")
LONGEST_DOMAIN, LONGEST_LABEL = 253, 63
# Beyond ASCII, in a whole domain: nobody has so many, and its spelling in DNS takes the product of both to work out.
MOST_LETTERS, MOST_DIFFERENT_LETTERS = 63, 24
# For each of these the whole label is read (RFC 5892, appendix A.7).
_MIDDLE_DOT, MOST_MIDDLE_DOTS = "\u30fb", 3
_LETTERS = re.compile(r"[^\0-\x7f]")
_DOTS = re.compile("[.\u3002]")
# What the DNS's spelling of a label beyond ASCII has in addition: "xn--", and a hyphen or a digit more (RFC 3492).
_LONGER_IN_DNS = 5

# As mail programs copy it: "Lovelace, Ada" <ada@example.com>
NAME_AND_ADDRESS = re.compile(r'(?:"[^"]*"|[^"<>@])*<([^<>@\s]*@[^<>\s]*)>')
_LINK = "mailto:"
LONGEST_PASTED = 1_000

# One mailbox has both names, wherever dots stand in them (support.google.com/mail/answer/7436150).
_GMAIL = "gmail.com", "googlemail.com"
# They change how a local part is written, not which it is.
_QUOTES = re.compile(r'["\\]')


_TOO_LONG = f"The name is longer than {LONGEST_USER_ID} characters: give a shorter one."
_TOO_MANY_MARKS = f"The name has more than {MOST_MARKS} marks on one letter: type it again without."
NO_NAME = 'There is no "userId": send one, like an e-mail address.'
NO_TEXT = '"userId" is no text: send one, like an e-mail address, or leave it out beside a token.'


class InvalidShopper(ValueError):
    """The identifier cannot name a shopper; the message says why and what to send instead."""


def normalise(user_id: object) -> str:
    """Return the one spelling of `user_id`: trimmed, NFKC-normalised, case-folded, and after an @ the domain as DNS
    has it. Raises InvalidShopper.

    The steps are those of Unicode's NFKC_Casefold (The Unicode Standard, D146), so that the result is stable. Each is
    taken only after the text was measured: whatever is sent costs no more than a long name does.
    """
    if not isinstance(user_id, str):
        raise InvalidShopper(NO_TEXT)
    trimmed = user_id.strip()
    if len(trimmed) > LONGEST_USER_ID:
        raise InvalidShopper(_TOO_LONG)
    if trimmed.isascii():
        normal = trimmed.lower()
        has_control_characters = not normal.isprintable()
    else:
        has_control_characters = any(unicodedata.category(character)[0] == "C" for character in trimmed)
        normal = "" if has_control_characters else _spelling(trimmed)
    if has_control_characters:
        raise InvalidShopper("The name has a control or invisible character: type it again without.")
    if not normal:
        raise InvalidShopper("The name is empty: give an e-mail address or a user name.")
    if len(normal) > LONGEST_USER_ID:
        raise InvalidShopper(_TOO_LONG)
    return normal


def find(text: str) -> str:
    """Return the one spelling of a shopper whom people look for by a text that they type or paste. Raises
    InvalidShopper."""
    return normalise(bare(text))


def bare(text: str) -> str:
    """Return the address of a text like “Ada <ada@example.com>” or “mailto:ada@example.com”, any other text trimmed."""
    if len(text := text.strip()) > LONGEST_PASTED:
        return text
    if text.endswith(">") and (named := NAME_AND_ADDRESS.fullmatch(text)):
        text = named[1]
    return text[len(_LINK) :] if text[: len(_LINK)].lower() == _LINK else text


def _measure(text: str) -> None:
    """Raise InvalidShopper if it would be dear to normalise the text. Letter by letter it is not."""
    decomposed = "".join(unicodedata.normalize("NFKD", character) for character in text)
    if len(decomposed) > LONGEST_USER_ID * _LONGEST_DECOMPOSITION:
        raise InvalidShopper(_TOO_LONG)
    # What is ignored is taken out later, and the marks on its sides are one run then.
    are_marks = bytes(unicodedata.combining(part) != 0 for part in _IGNORABLE.sub("", decomposed))
    if _MARKS in are_marks:
        raise InvalidShopper(_TOO_MANY_MARKS)


def _spelling(text: str) -> str:
    """Return the one spelling of a text with letters beyond ASCII, "" when nothing of it is visible."""
    _measure(text)
    normal = unicodedata.normalize("NFKC", text)
    if len(normal) > LONGEST_USER_ID:
        raise InvalidShopper(_TOO_LONG)
    local, at, domain = normal.rpartition("@")
    if not local or domain.isascii():
        return _folded(text).strip()
    return f"{_folded(local)}{at}{_encoded(domain)}".strip()


def _folded(text: str) -> str:
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFD", text).casefold())
    return unicodedata.normalize("NFKC", _IGNORABLE.sub("", folded.casefold()))


def _encoded(domain: str) -> str:
    """Return a domain as DNS has it, by IDNA2008 (RFC 5891) and the non-transitional mapping of UTS #46; what can be
    none is merely folded."""
    folded = _folded(domain.translate(_KEPT)).translate(_AS_KEPT)
    if folded.isascii() or not _may_be_in_dns(folded):
        return folded
    try:
        return idna.encode(folded.rstrip(), uts46=True).decode()
    except UnicodeError:
        return folded


def _may_be_in_dns(domain: str) -> bool:
    """Return whether a domain is short enough, before its spelling in DNS is worked out."""
    lengths = [len(label) + (0 if label.isascii() else _LONGER_IN_DNS) for label in _DOTS.split(domain.rstrip())]
    letters = _LETTERS.findall(domain)
    return (
        max(lengths) <= LONGEST_LABEL
        and sum(lengths) + len(lengths) <= LONGEST_DOMAIN + 2  # a dot may end it, and one here ends the last label
        and len(letters) <= MOST_LETTERS
        and len(set(letters)) <= MOST_DIFFERENT_LETTERS
        and letters.count(_MIDDLE_DOT) <= MOST_MIDDLE_DOTS
    )


def mailbox(user_id: str) -> str:
    """Return the mailbox's own address of a normalised e-mail address: without quotes (RFC 5321, section 4.1.2) and
    what stands after a plus (RFC 5233's subaddress), and at Gmail without dots. What is no address stays as it is."""
    local, at, domain = user_id.rpartition("@")
    local = _QUOTES.sub("", local).partition("+")[0]
    if domain in _GMAIL:
        local, domain = local.replace(".", ""), _GMAIL[0]
    return f"{local}{at}{domain}" if local else user_id
