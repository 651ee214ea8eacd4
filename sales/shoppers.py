"""Who is asking: one spelling for each shopper."""

import re
import unicodedata

LONGEST_USER_ID = 254

# Default_Ignorable_Code_Point (Unicode's DerivedCoreProperties.txt) outside category C: invisible, and removed by
# NFKC_Casefold, so that they make no second shopper.
_IGNORABLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)


class InvalidShopper(ValueError):
    """The identifier cannot name a shopper; the message says why and what to send instead."""


def normalise(user_id: object) -> str:
    """Return the one spelling of `user_id`: trimmed, NFKC-normalised, case-folded. Raises InvalidShopper.

    The steps are those of Unicode's NFKC_Casefold (The Unicode Standard, D146), so that the result is stable.
    """
    if not isinstance(user_id, str):
        raise InvalidShopper('There is no text "userId": send one, like an e-mail address.')
    trimmed = user_id.strip()
    if trimmed.isascii():
        normal = trimmed.lower()
        has_control_characters = not normal.isprintable()
    else:
        has_control_characters = any(unicodedata.category(character)[0] == "C" for character in trimmed)
        folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFD", trimmed).casefold())
        normal = unicodedata.normalize("NFKC", _IGNORABLE.sub("", folded.casefold())).strip()
    if not normal:
        raise InvalidShopper("The name is empty: give an e-mail address or a user name.")
    if has_control_characters:
        raise InvalidShopper("The name has a control or invisible character: type it again without.")
    if len(normal) > LONGEST_USER_ID:
        raise InvalidShopper(f"The name is longer than {LONGEST_USER_ID} characters: give a shorter one.")
    return normal
