"""Codes as people type them: read off a mail, a phone or paper, with what makes that easy."""

import unicodedata


def digits(text: str) -> str:
    """Return the digits of a text, whatever script they are of; all else is dropped."""
    return "".join(str(unicodedata.decimal(character)) for character in text if character.isdecimal())


def letters_and_digits(text: str) -> str:
    """Return the letters of a text in lower case, and its digits, as ASCII has them; all else is dropped."""
    spelled = "".join(digits(character) or unicodedata.normalize("NFKC", character) for character in text)
    return "".join(character for character in spelled.lower() if character.isascii() and character.isalnum())
