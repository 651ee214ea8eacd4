"""Codes as people type them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sales import codes

pytestmark = pytest.mark.pure


@pytest.mark.parametrize(
    "typed",
    [
        *("12345678", "1234 5678", "1234-5678.", " 1234\u00a05678\n", "Your code: 1234 5678", "1234–5678"),
        *("１２３４５６７８", "١٢٣٤٥٦٧٨", "۱۲۳۴۵۶۷۸", "१२३४ ५६७८", "1\u200b2345678"),
    ],
)
def test_the_digits_of_a_code(typed: str):
    assert codes.digits(typed) == "12345678"


@pytest.mark.parametrize("typed", ["ab2c-def3", "AB2C DEF3.", "ＡＢ２Ｃ—ＤＥＦ３", "“ab2c def3”", "ab٢c-def۳"])
def test_the_letters_and_digits_of_a_code(typed: str):
    assert codes.letters_and_digits(typed) == "ab2cdef3"


@given(st.text())
def test_nothing_else_is_left(typed: str):
    found = codes.letters_and_digits(typed)

    assert not codes.digits(typed) or codes.digits(typed).isdecimal()
    assert all(character.isascii() and (character.islower() or character.isdecimal()) for character in found)
    assert codes.letters_and_digits(found) == found
