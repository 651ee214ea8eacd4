"""Orders that are exported, and imported as a list of invited shoppers, name the same shoppers."""

from io import BytesIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sales import csv_lines, invitation_files, shoppers
from sales.desk import exports

pytestmark = pytest.mark.pure

STARTS = st.text("'=+-@\"#,;\t <>", max_size=4)


@st.composite
def names(draw: st.DrawFn) -> str:
    """Return a name as orders have it, with what a spreadsheet or a mail program would not leave alone."""
    typed = draw(STARTS) + draw(
        st.text(max_size=20) | st.sampled_from(["ada@example.com", "491701234567", "x <a@b.c>"])
    )
    try:
        return shoppers.normalise(typed)
    except shoppers.InvalidShopper:
        return "ada"


def exported(user_ids: list[str]) -> bytes:
    rows = [("1771070400000-0", "widget", "=Widget", user_id, "2026-02-14T12:00:00Z", 1, "") for user_id in user_ids]
    lines = exports.text([tuple(exports.COLUMNS), *(tuple(map(exports.cell, row)) for row in rows)])
    return lines.encode()


def imported(content: bytes) -> list[str]:
    file = BytesIO(content)
    assert invitation_files.check(file).named
    return list(invitation_files.user_ids(file))


@settings(deadline=None)
@given(st.lists(names(), min_size=1, max_size=5))
def test_an_export_that_is_imported_gives_the_same_names(user_ids: list[str]):
    assert imported(exported(user_ids)) == user_ids


@pytest.mark.parametrize(
    "name",
    [
        *("+491701234567", "=x", "-y", "@z", "'ada", "'=x", "''+1", '"ada"', 'a"b', "a,b;c", "ada <ada@example.com>"),
        *("mailto:ada@example.com", "a@b", "#1", "ada@example.com", "a\u2028b"),
    ],
)
def test_each_kind_of_name_comes_back(name: str):
    assert imported(exported([name])) == [name]


@given(st.text())
def test_harmless_cells_are_no_formulas_and_stay_reversible(cell: str):
    harmless = csv_lines.harmless(cell)

    assert not harmless.startswith(("=", "+", "-", "@", "\t", "\r"))
    assert csv_lines.original(harmless) == cell


@pytest.mark.parametrize("header", ["", "user_id\n", "name,email\nA,"])
def test_a_column_of_an_export_is_read_too(header: str):
    assert imported(f"{header}'+491701234567\n".encode()) == ["+491701234567"]


def test_names_of_an_export_that_take_no_mail_are_counted():
    checked = invitation_files.check(BytesIO(exported(["@z", "ada@example.com", "bob"])))

    assert (checked.named, checked.bare_names, checked.examples) == (3, 2, ["@z", "bob"])
