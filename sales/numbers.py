"""One reader for the numbers that people type: what could mean two numbers is refused."""

import re
import unicodedata
from decimal import Decimal

from django.utils.formats import number_format
from django.utils.translation import gettext as _

# The longest number of any field, with signs and spaces around it. Longer text is not looked at.
LONGEST = 40

# Signs that people and keyboards write in place of others. A space or an apostrophe only ever groups digits.
_SAME = str.maketrans(
    dict.fromkeys("’‘ʼ′＇`´٬", "'") | dict.fromkeys("−–－", "-") | {"٫": ",", "，": ",", "．": ".", "＋": "+"}
)
_NUMBER = re.compile(r"([+-]?) ?(\d[\d.,' ]*|[.,]\d+)")
_MARKS = re.compile(r"[.,' ]")
# 1,000,000 in most countries, 10,00,000 in India.
_THOUSANDS, _LAKHS = re.compile(r"\d{1,3}(-\d{3})+"), re.compile(r"\d{1,2}(-\d{2})*-\d{3}")


class Unreadable(ValueError):
    """The text is no number, or could be two; the message says what to write."""


def amount(text: str) -> Decimal:
    """Return the number, with either decimal sign. Raises Unreadable."""
    return _read(text, _("Write a number, like 49.90. A currency has a field of its own."))


def whole(text: str) -> int:
    """Return the whole number; `100.00` is one, too. Raises Unreadable."""
    wanted = _("Write a whole number in digits, like 1000.")
    found = _read(text, wanted)
    if found % 1 or -found.as_tuple().exponent > 2:  # type: ignore[operator]
        raise Unreadable(wanted)
    return int(found)


def _read(text: str, wanted: str) -> Decimal:
    if len(text) > LONGEST:
        raise Unreadable(wanted)
    match = _NUMBER.fullmatch("".join(map(_plain, text)).strip())
    if not match:
        raise Unreadable(wanted)
    sign, digits = match.groups()
    return Decimal(sign + _without_groups(digits, wanted))


def _plain(character: str) -> str:
    """Return a digit of any script, a space of any width, and a sign of any keyboard as ASCII has it."""
    digit = unicodedata.decimal(character, None)
    if digit is not None:
        return str(digit)
    category = unicodedata.category(character)
    return " " if category == "Zs" else "" if category == "Cf" else character.translate(_SAME)


def _without_groups(digits: str, wanted: str) -> str:
    """Return the digits with at most one decimal point. Raises Unreadable."""
    marks = _MARKS.findall(digits)
    if not marks:
        return digits
    last, kinds = marks[-1], set(marks)
    has_fraction = last in ".," and marks.count(last) == 1
    if not has_fraction:
        return _joined(digits, kinds, wanted)
    before, _mark, fraction = digits.rpartition(last)
    if len(marks) == 1:
        if len(fraction) == 3:
            raise Unreadable(_ambiguous(digits, before, fraction))
        return f"{before or 0}.{fraction or 0}"
    return f"{_joined(before, kinds - {last}, wanted)}.{fraction or 0}"


def _joined(digits: str, kinds: set[str], wanted: str) -> str:
    """Return what one kind of mark groups, without it. Raises Unreadable."""
    groups = _MARKS.sub("-", digits)
    is_grouped = _THOUSANDS.fullmatch(groups) or (kinds == {","} and _LAKHS.fullmatch(groups))
    if len(kinds) > 1 or not is_grouped:
        raise Unreadable(wanted)
    return groups.replace("-", "")


def _ambiguous(typed: str, before: str, fraction: str) -> str:
    thousands, decimal = int(before + fraction), Decimal(f"{before or 0}.{fraction}").normalize()
    return _("“%(typed)s” could mean %(thousands)s or %(decimal)s. Write %(thousands)s without a separator.") % {
        "typed": typed,
        "thousands": thousands,
        "decimal": number_format(decimal),
    }
