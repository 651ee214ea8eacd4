"""The reader for moments that people type."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from django.utils import translation

from sales import moments

pytestmark = pytest.mark.pure

BERLIN = ZoneInfo("Europe/Berlin")


def read(typed: str) -> str:
    return moments.read(typed, BERLIN).isoformat()


def refusal(typed: str) -> str:
    with pytest.raises(moments.Unreadable) as refused:
        moments.read(typed, BERLIN)
    return str(refused.value)


@pytest.mark.parametrize(
    ("typed", "moment"),
    [
        ("2027-12-24T10:00", "2027-12-24T09:00:00+00:00"),
        ("2027-12-24 10:00", "2027-12-24T09:00:00+00:00"),
        ("2027-12-24T10:00:30", "2027-12-24T09:00:30+00:00"),
        ("2027-12-24T10:00:30.250", "2027-12-24T09:00:30.250000+00:00"),
        ("2027-12-24T10:00Z", "2027-12-24T10:00:00+00:00"),
        ("2027-12-24T10:00:00+09:00", "2027-12-24T01:00:00+00:00"),
        ("2027-12-24 10:00 -0330", "2027-12-24T13:30:00+00:00"),
        ("2027-12-24", "2027-12-23T23:00:00+00:00"),
        ("24.12.2027 10:00", "2027-12-24T09:00:00+00:00"),
        ("24.12.2027, 10:00:30", "2027-12-24T09:00:30+00:00"),
        ("4.5.2027 9:05", "2027-05-04T07:05:00+00:00"),
        ("24.12.2027", "2027-12-23T23:00:00+00:00"),
        (" 24.12.2027 10:00 ", "2027-12-24T09:00:00+00:00"),
    ],
)
def test_iso_and_dotted_moments_are_taken(typed: str, moment: str):
    assert read(typed) == moment


@pytest.mark.parametrize("typed", ["04/05/2027", "04/05/2027 10:00", "24/12/2027", "2027/12/24 10:00"])
def test_slashes_are_refused_with_an_example(typed: str):
    assert "With slashes" in refusal(typed)
    assert "2027-12-24 10:00 or 24.12.2027 10:00" in refusal(typed)


@pytest.mark.parametrize(
    "typed",
    [
        "",
        "tomorrow",
        "10:00",
        "24.12.27 10:00",
        "24-12-2027 10:00",
        "24.12.2027 10",
        "24.12.2027 10 AM",
        "2027-12-24T10:00+1",
        "0001-01-01T00:00",
        "9999-12-31T23:59",
        "2027-12-24x10:00",
        "２０２７-12-24 10:00",
        "2" * 100_000,
    ],
)
def test_unreadable_moments_are_refused_with_an_example(typed: str):
    assert "like 2027-12-24 10:00 or 24.12.2027 10:00" in refusal(typed)


@pytest.mark.parametrize(
    "typed", ["31.02.2027 10:00", "2027-13-01T10:00", "2027-12-24T25:00", "2027-12-24T10:00+25:00"]
)
def test_a_day_or_time_that_does_not_exist_is_refused(typed: str):
    assert "no such day or time" in refusal(typed)


def test_an_ambiguous_time_is_refused_with_working_examples():
    words = refusal("2027-10-31T02:30")

    assert words == (
        "The clocks of Europe/Berlin show this time twice. Write 2027-10-31T02:30+02:00 for the first time, or "
        "2027-10-31T02:30+01:00 for the second."
    )
    assert read("2027-10-31T02:30+02:00") == "2027-10-31T00:30:00+00:00"
    assert read("2027-10-31T02:30+01:00") == "2027-10-31T01:30:00+00:00"
    with translation.override("de"):
        assert "zweimal" in refusal("31.10.2027 02:30")


def test_a_time_that_clocks_skip_is_refused_with_the_next():
    words = refusal("28.03.2027 02:30")

    assert words == "The clocks of Europe/Berlin skip this time. Write 2027-03-28T03:30, or another time."
    assert read("2027-03-28T03:30") == "2027-03-28T01:30:00+00:00"


@pytest.mark.parametrize("zone", ["Europe/Berlin", "Australia/Lord_Howe", "America/St_Johns", "Asia/Kolkata", "UTC"])
@pytest.mark.parametrize("day", ["2027-10-31", "2027-03-28", "2027-11-07", "2027-04-04", "2027-07-01"])
def test_a_written_moment_reads_back_the_same(zone: str, day: str):
    moment = datetime.fromisoformat(f"{day}T00:00:00+00:00") - timedelta(hours=14)
    for minutes in range(0, 40 * 60, 15):
        then = moment + timedelta(minutes=minutes, milliseconds=minutes % 2000)

        assert moments.read(moments.written(then, ZoneInfo(zone)), ZoneInfo(zone)) == then


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (datetime(2027, 5, 1, 8, 0, tzinfo=UTC), "2027-05-01T10:00"),
        (datetime(2027, 5, 1, 8, 0, 7, tzinfo=UTC), "2027-05-01T10:00:07"),
        (datetime(2027, 5, 1, 8, 0, 7, 250_001, tzinfo=UTC), "2027-05-01T10:00:07.250"),
        (datetime(2027, 10, 31, 1, 30, tzinfo=UTC), "2027-10-31T02:30+01:00"),
    ],
)
def test_a_moment_is_written_briefly_and_exactly(moment: datetime, text: str):
    assert moments.written(moment, BERLIN) == text
