"""The reader for numbers that people type."""

from decimal import Decimal

import pytest
from django.utils import translation

from sales import numbers

pytestmark = pytest.mark.pure

READ = {
    "0": "0",
    "1000": "1000",
    " 1000 ": "1000",
    "+7": "7",
    "-7": "-7",
    "−7": "-7",
    "49.90": "49.90",
    "49,90": "49.90",
    ",5": "0.5",
    "1.5": "1.5",
    "12,3456": "12.3456",
    "1.000,50": "1000.50",
    "1,000.50": "1000.50",
    "1.234.567,8": "1234567.8",
    "1.000.000": "1000000",
    "1,000,000": "1000000",
    "10,00,000": "1000000",
    "1 000": "1000",
    "1\u202f000,50": "1000.50",
    "1\u2009000\u00a0000": "1000000",
    "1'000": "1000",
    "1’000.50": "1000.50",
    "１０００": "1000",
    "１．５": "1.5",
    "١٬٠٠٠": "1000",
    "٤٩٫٩٠": "49.90",
    "१२": "12",
    "\u200e1000\u200f": "1000",
}


@pytest.mark.parametrize(("typed", "value"), READ.items())
def test_a_number_is_read_in_every_common_notation(typed: str, value: str):
    assert numbers.amount(typed) == Decimal(value)


@pytest.mark.parametrize("typed", ["1.000", "1,000", "+1.000", "0,500", "1234.567", ".500", "１．０００"])
def test_one_separator_before_three_digits_is_refused(typed: str):
    for read in (numbers.amount, numbers.whole):
        with pytest.raises(numbers.Unreadable, match=r"could mean .* without a separator"):
            read(typed)


def test_a_refusal_shows_both_readings_and_what_to_write():
    with pytest.raises(numbers.Unreadable) as refused:
        numbers.whole("1.000")

    assert str(refused.value) == "“1.000” could mean 1000 or 1. Write 1000 without a separator."
    with translation.override("de"), pytest.raises(numbers.Unreadable, match="Schreiben Sie 1500 ohne Trennzeichen"):
        numbers.amount("1,500")


@pytest.mark.parametrize(
    "typed",
    [
        "",
        " ",
        "x",
        ".",
        ",",
        "-",
        "1 00",
        "1 0000",
        "1'00",
        "1,00,00",
        "1.00.000",
        "1.000,50.1",
        "1,000.000.000",
        "1 000'000",
        "1.000 000",
        "1..5",
        "1e3",
        "0x10",
        "1_000",
        "NaN",
        "Infinity",
        "½",
        "²",
        "10%",
        "100 units",
        "49,90 €",
        "EUR 49.90",
        "$5",
        "--7",
        "1-2",
        "1\n2",
    ],
)
def test_unreadable_numbers_are_refused_with_an_example(typed: str):
    with pytest.raises(numbers.Unreadable, match=r"like 49\.90"):
        numbers.amount(typed)


@pytest.mark.parametrize(("typed", "value"), [("100", 100), ("100.0", 100), ("100,00", 100), ("1 000", 1000)])
def test_whole_numbers_may_have_empty_decimals(typed: str, value: int):
    assert numbers.whole(typed) == value


@pytest.mark.parametrize("typed", ["1.5", "49,90", "1,0000", "0.01"])
def test_a_whole_number_with_decimals_is_refused(typed: str):
    with pytest.raises(numbers.Unreadable, match="whole number"):
        numbers.whole(typed)


@pytest.mark.parametrize("typed", ["9" * 8192, "1" + ",000" * 2000, " " * 100_000 + "1", "9" * 41])
def test_long_text_is_refused_before_it_is_read(typed: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(numbers, "_plain", lambda character: pytest.fail("it was read"))

    for read in (numbers.amount, numbers.whole):
        with pytest.raises(numbers.Unreadable):
            read(typed)
