"""One spelling for each shopper."""

import unicodedata

import idna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sales.shoppers import LONGEST_USER_ID, InvalidShopper, bare, find, normalise

pytestmark = pytest.mark.pure


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
        ("ada@Bücher.Example", "ada@xn--bcher-kva.example"),
        ("ada@BU\u0308CHER.example", "ada@xn--bcher-kva.example"),
        ("ada@XN--bcher-kva.example", "ada@xn--bcher-kva.example"),
        ("ada＠bücher．example", "ada@xn--bcher-kva.example"),
        ("ada@sub\u3002example.com", "ada@sub.example.com"),
        ("ada@gmail\uff61com", "ada@gmail.com"),
        ("ada@exa\u3164mple.com", "ada@example.com"),
        ("ada@straße.de", "ada@xn--strae-oqa.de"),
        ("ADA@STRAẞE.DE", "ada@xn--strae-oqa.de"),
        ("ada@STRASSE.de", "ada@strasse.de"),
        ("ada@βόλος.com", "ada@xn--nxasmm1c.com"),
        ("ada@ΒΌΛΟΣ.com", "ada@xn--nxasmq6b.com"),
        ("Straße@Straße.de", "strasse@xn--strae-oqa.de"),
        ("a@b@Ü", "a@b@xn--tda"),
        ("ada@Exa\u1806mple.com", "ada@exa\u1806mple.com"),
        ("ada@Aa--ß.de", "ada@aa--ß.de"),
        ("Me @ Café", "me @ café"),
        ("ada@ü \u3164", "ada@xn--tda"),
        ("@Ü", "@ü"),
        ("ü@", "ü@"),
    ],
)
def test_the_spelling(typed: str, spelling: str):
    assert normalise(typed) == spelling


@pytest.mark.parametrize(
    ("typed", "reason"),
    [
        (None, '"userId" is no text'),
        (5, '"userId" is no text'),
        (["ada"], '"userId" is no text'),
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
def test_invalid_names_are_refused_with_a_reason(typed: object, reason: str):
    with pytest.raises(InvalidShopper, match=reason):
        normalise(typed)


ADDRESSES = st.from_regex(r"[aß@+. ]{0,3}[@＠].{0,12}", fullmatch=True) | st.text(max_size=60)


@given(st.text(max_size=300) | ADDRESSES)
def test_a_spelling_is_stable_short_and_visible(typed: str):
    try:
        spelling = normalise(typed)
    except InvalidShopper:
        return

    assert normalise(spelling) == spelling
    assert 1 <= len(spelling) <= LONGEST_USER_ID
    assert not any(unicodedata.category(character).startswith("C") for character in spelling)
    assert spelling == spelling.strip() == unicodedata.normalize("NFKC", spelling)


@given(ADDRESSES)
def test_case_width_and_composition_make_no_second_shopper(typed: str):
    try:
        spelling = normalise(typed)
    except InvalidShopper:
        return

    nfd, nfkc = unicodedata.normalize("NFD", typed), unicodedata.normalize("NFKC", typed)
    # In a domain they are no other case of "ss" and σ.
    folded = typed if set("ßẞς") & set(nfkc) else typed.casefold()
    for other in (folded, f"  {typed}\t", nfd, nfkc):
        assert normalise(other) == spelling


LABELS = st.text("aßẞςΣéÜбñ語ıİﬁ\u3164-_1", min_size=1, max_size=5)


@given(st.lists(LABELS, min_size=2, max_size=3), st.sampled_from([".", "．", "。", "｡"]))
def test_all_spellings_of_a_domain_become_its_dns_name(labels: list[str], dot: str):
    domain = dot.join(labels)
    try:
        expected = idna.encode(domain, uts46=True).decode()
    except UnicodeError:
        expected = ""

    spelling = normalise(f"ada@{domain}")

    if expected:
        assert spelling == f"ada@{expected}"
    else:
        assert not (spelling.isascii() and set("ßẞς") & set(domain)), "it has become another's domain"


@pytest.mark.parametrize(
    "pasted",
    [
        *("ada@example.com", " Ada@Example.com\n", "Ada <ada@example.com>", '"Lovelace, Ada" <ADA@example.com> '),
        *("<ada@example.com>", "mailto:ada@example.com", "MAILTO:Ada@example.com", "Ada <mailto:ada@example.com>"),
    ],
)
def test_a_pasted_name_finds_its_shopper(pasted: str):
    assert find(pasted) == "ada@example.com"


@pytest.mark.parametrize("text", ["ada", "Ada <3", "<i>ada", "ada>", "a <b> c", "x" * 2_000 + " <ada@example.com>"])
def test_another_text_is_no_address_with_a_name(text: str):
    assert bare(text) == text
