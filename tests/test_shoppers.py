"""One spelling for each shopper."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sales.shoppers import LONGEST_USER_ID, InvalidShopper, normalise


@pytest.mark.parametrize(
    ("typed", "spelling"),
    [
        ("ada@example.com", "ada@example.com"),
        (" Ada@Example.COM\n", "ada@example.com"),
        ("ﬁona", "fiona"),
        ("Ａｄａ", "ada"),
        ("STRASSE", "strasse"),
        ("Straße", "strasse"),
        ("a\u030ada", "åda"),
        ("ͅΑ", "ια"),
        ("x" * 254, "x" * 254),
        ("\u00a0ada\u2003", "ada"),
        ("a\ufe0fd\u034fa\u115f\u3164\uffa0", "ada"),
    ],
)
def test_the_spelling(typed: str, spelling: str):
    assert normalise(typed) == spelling


@pytest.mark.parametrize(
    ("typed", "reason"),
    [
        (None, "There is no text"),
        (5, "There is no text"),
        ("", "empty"),
        (" \t\n", "empty"),
        ("x" * 255, "longer than 254"),
        ("ß" * 128, "longer than 254"),
        ("a\nb", "control or invisible"),
        ("a\x7fb", "control or invisible"),
        ("a\u200db", "control or invisible"),
        ("\ufeffada", "control or invisible"),
        ("a\ud800b", "control or invisible"),
        ("\U000f0000", "control or invisible"),
        ("\u3164", "empty"),
    ],
)
def test_what_names_nobody(typed: object, reason: str):
    with pytest.raises(InvalidShopper, match=reason):
        normalise(typed)


@given(st.text(max_size=300))
def test_a_spelling_is_stable_short_and_visible(typed: str):
    try:
        spelling = normalise(typed)
    except InvalidShopper:
        return

    assert normalise(spelling) == spelling
    assert 1 <= len(spelling) <= LONGEST_USER_ID
    assert not any(unicodedata.category(character).startswith("C") for character in spelling)
    assert spelling == spelling.strip() == unicodedata.normalize("NFKC", spelling)


@given(st.text(max_size=60))
def test_case_width_and_composition_make_no_second_shopper(typed: str):
    try:
        spelling = normalise(typed)
    except InvalidShopper:
        return

    nfd, nfkc = unicodedata.normalize("NFD", typed), unicodedata.normalize("NFKC", typed)
    for other in (typed.casefold(), f"  {typed}\t", nfd, nfkc):
        assert normalise(other) == spelling
