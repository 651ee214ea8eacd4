"""The operators' forms read numbers and times as people write them, and say what they understood."""

import html
import json
from datetime import datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from sales.desk.sale_form import copy_of
from sales.models import Sale
from tests.test_admin import LIST, add, add_published, change, form

pytestmark = pytest.mark.usefixtures("static_files")

BERLIN = ZoneInfo("Europe/Berlin")
NEXT_YEAR = timezone.now().year + 1


@pytest.fixture
def operator(transactional_db: None) -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("operator"))
    return client


@pytest.fixture
def in_berlin(settings: Settings) -> None:
    settings.TIME_ZONE = "Europe/Berlin"


def change_to_winter_time() -> datetime:
    """Return the next moment, but not too near, when clocks in Berlin go back."""
    first = timezone.now().replace(minute=0, second=0, microsecond=0) + timedelta(days=10)
    hours = (first + timedelta(hours=number) for number in range(400 * 24))
    offset = timedelta(hours=1)
    return next(
        hour
        for hour in hours
        if hour.astimezone(BERLIN).utcoffset() == offset
        and (hour - timedelta(hours=1)).astimezone(BERLIN).utcoffset() != offset
    )


def refusals(operator: Client, **typed: object) -> dict[str, list[str]]:
    response = operator.post(f"{LIST}add/", form(**typed))
    assert response.status_code == 200
    return response.context["adminform"].form.errors


def shown(operator: Client, sale: Sale) -> dict[str, str]:
    """Return what the sale's form shows, as a browser sends it back."""
    found = operator.get(f"{LIST}{sale.id}/change/").context["adminform"].form
    fields = {name: found[name].value() for name in found.fields if name != "image"}
    return {name: str(value) for name, value in fields.items() if value not in (None, False)} | {"seen": found.seen}


# Numbers


@pytest.mark.parametrize("typed", ["1.000", "1,000"])
def test_a_total_that_could_be_two_numbers_is_refused(operator: Client, typed: str):
    words = f"“{typed}” could mean 1000 or 1. Write 1000 without a separator."

    assert refusals(operator, total_stock=typed) == {"total_stock": [words]}
    assert not Sale.objects.exists()


@pytest.mark.parametrize(
    ("typed", "total"), [("1000", 1000), ("1 000", 1000), ("1'000", 1000), ("1.000.000", 1_000_000), ("١٠٠", 100)]
)
def test_a_total_is_read_in_every_common_notation(operator: Client, typed: str, total: int):
    assert add(operator, total_stock=typed).total_stock == total


@pytest.mark.parametrize(
    ("typed", "price"), [("49,90", "49.90"), ("49.90", "49.90"), ("1.049,90", "1049.90"), ("1,049.90", "1049.90")]
)
def test_a_price_is_taken_with_either_sign(operator: Client, typed: str, price: str):
    assert add(operator, display_price=typed).display_price == Decimal(price)


@pytest.mark.parametrize("typed", ["49,90 €", "EUR 49.90", "49.999", "1.049", "9" * 8192])
def test_a_price_that_is_not_clear_is_refused(operator: Client, typed: str):
    assert refusals(operator, display_price=typed).keys() == {"display_price"}


def test_an_empty_price_is_none(operator: Client):
    assert add(operator, display_price=" ").display_price is None


def test_the_message_repeats_the_saved_values_in_words(operator: Client):
    times = {"starts_at": f"01.05.{NEXT_YEAR} 10:00", "ends_at": f"{NEXT_YEAR}-05-02T10:00"}

    page = operator.post(f"{LIST}add/", form(total_stock="1 000", display_price="49,90", **times), follow=True)

    words = html.unescape(page.content.decode())
    times_said = f"from 1 May {NEXT_YEAR}, 10:00:00 UTC to 2 May {NEXT_YEAR}, 10:00:00 UTC"
    assert f"It has 1,000 units at €49.90, {times_said}." in words
    assert "Now saved: 1,000 units." in words
    assert "Now saved: €49.90." in words


def test_a_change_says_in_words_what_is_saved(operator: Client):
    page = change(operator, add_published(operator), total_stock="1", display_price="")

    assert "Now saved: 1 unit, from " in html.unescape(page)


def test_a_browser_drops_nothing_of_a_number(operator: Client):
    page = operator.get(f"{LIST}add/").content.decode()

    assert 'type="number"' not in page
    assert page.count('inputmode="numeric"') == 1
    assert page.count('inputmode="decimal"') == 1


@pytest.mark.parametrize(
    ("step", "values", "words"),
    [
        ("add-stock", {"units": "1.000"}, "could mean 1000 or 1."),
        ("add-stock", {"units": "1 000"}, "<strong>1,010</strong>"),
        ("add-stock", {"units": "9" * 5000}, "Write a whole number"),
        ("extend", {"minutes": "1,500"}, "could mean 1500 or 1.5."),
        ("extend", {"until": "04/05/2027"}, "With slashes"),
        ("extend", {"until": "24.12.2126 10:00"}, "<strong>24 Dec 2126, 10:00:00 UTC</strong>"),
    ],
)
def test_a_step_reads_as_the_form_does(operator: Client, step: str, values: dict[str, str], words: str):
    sale = add_published(operator)
    address = f"{LIST}{sale.id}/{step}-sale/"

    page = operator.get(address, values).content.decode()

    assert words in html.unescape(page)
    assert 'type="number"' not in page


@pytest.mark.parametrize("number", ["9" * 5000, "9" * 30, "x", "²"])
def test_a_copy_of_no_sale_is_an_empty_form(operator: Client, number: str):
    assert operator.get(f"{LIST}add/", {"copy": number}).status_code == 200


# Times


def test_times_have_pickers(operator: Client):
    page = operator.get(f"{LIST}add/").content.decode()

    assert page.count('type="datetime-local"') == 2


@pytest.mark.parametrize(
    "typed", ["24.12.2126 10:00", "2126-12-24 10:00", "2126-12-24T10:00", "2126-12-24T11:00+01:00"]
)
def test_iso_and_dotted_times_are_taken(operator: Client, typed: str):
    assert add(operator, ends_at=typed).ends_at.isoformat() == "2126-12-24T10:00:00+00:00"


def test_a_date_without_time_means_midnight_and_is_shown(operator: Client):
    page = operator.post(f"{LIST}add/", form(ends_at="24.12.2126"), follow=True).content.decode()

    assert "to 24 Dec 2126, 00:00:00 UTC" in page


@pytest.mark.pure
def test_slashes_are_refused_and_stay_in_the_form(operator: Client):
    response = operator.post(f"{LIST}add/", form(starts_at="04/05/2027", ends_at="24.12.2126 10:00"))

    page = response.content.decode()
    assert "With slashes, a day could be taken for a month." in page
    assert 'name="starts_at" value="04/05/2027"' in page
    assert page.count('type="datetime-local"') == 1
    assert 'name="ends_at" value="2126-12-24T10:00"' in page


@pytest.mark.usefixtures("in_berlin")
def test_an_untouched_time_in_the_repeated_hour_stays(operator: Client):
    repeated = change_to_winter_time()
    for ends_at in (repeated - timedelta(minutes=30), repeated + timedelta(minutes=30)):
        sale = add(operator)
        Sale.objects.filter(pk=sale.pk).update(ends_at=ends_at)

        change(operator, sale, **{**shown(operator, sale), "description": "New"})

        sale.refresh_from_db()
        assert (sale.description, sale.ends_at) == ("New", ends_at)


@pytest.mark.usefixtures("in_berlin")
def test_an_untouched_time_stays_to_the_microsecond(operator: Client):
    sale = add(operator)
    ends_at = sale.ends_at + timedelta(seconds=7, microseconds=250_001)
    Sale.objects.filter(pk=sale.pk).update(ends_at=ends_at)

    change(operator, sale, **{**shown(operator, sale), "description": "New"})

    sale.refresh_from_db()
    assert (sale.description, sale.ends_at) == ("New", ends_at)
    assert "ends_at" not in operator.get(f"{LIST}{sale.id}/history/").content.decode()


@pytest.mark.usefixtures("in_berlin")
def test_an_untouched_repeated_hour_keeps_another_operators_time(operator: Client):
    sale = add(operator)
    Sale.objects.filter(pk=sale.pk).update(ends_at=change_to_winter_time() + timedelta(seconds=1, microseconds=1))
    fields = shown(operator, sale)
    later = change_to_winter_time() + timedelta(minutes=30, microseconds=1)
    Sale.objects.filter(pk=sale.pk).update(ends_at=later)

    change(operator, sale, **{**fields, "description": "New"})

    sale.refresh_from_db()
    assert (sale.description, sale.ends_at) == ("New", later)


@pytest.mark.usefixtures("in_berlin")
@pytest.mark.parametrize("known", [[], {"ends_at": "x"}, {"ends_at": 5}, {"ends_at": "0001-01-01T00:00:00+14:00"}])
def test_a_memory_of_no_time_does_no_harm(operator: Client, known: object):
    sale = add(operator)

    change(operator, sale, **{**shown(operator, sale), "total_stock": "12", "seen": json.dumps(known)})

    assert Sale.objects.get().total_stock in (10, 12)


@pytest.mark.usefixtures("in_berlin")
def test_a_new_time_that_comes_twice_is_asked_for(operator: Client):
    at = f"{change_to_winter_time().astimezone(BERLIN):%Y-%m-%dT%H:30}"

    response = operator.post(f"{LIST}add/", form(ends_at=at))

    words = f"Write {at}+02:00 for the first time, or {at}+01:00 for the second."
    page = html.unescape(response.content.decode())
    assert words in page
    assert f'<input type="text" name="ends_at" value="{at}"' in page  # where an offset can be typed
    first, second = (add(operator, ends_at=f"{at}{offset}").ends_at for offset in ("+02:00", "+01:00"))
    assert second - first == timedelta(hours=1)


@pytest.mark.pure
@pytest.mark.usefixtures("in_berlin")
def test_a_copy_into_winter_time_keeps_the_clock_time(operator: Client):
    sunday = change_to_winter_time().astimezone(BERLIN)
    week = timedelta(days=7)
    saturday = (sunday - timedelta(days=1)).replace(hour=10)
    sale = Sale(starts_at=saturday - week, ends_at=saturday.replace(day=saturday.day) - week + timedelta(days=1))
    at = (saturday - timedelta(days=1)).replace(hour=12)

    values = copied_at(sale, at)

    clocks = [values[name].astimezone(BERLIN) for name in ("starts_at", "ends_at")]
    assert [clock.hour for clock in clocks] == [10, 10]
    assert clocks[0].date() == saturday.date()
    assert clocks[1].date() == sunday.date()


@pytest.mark.pure
@pytest.mark.usefixtures("in_berlin")
def test_a_copy_across_summer_time_never_starts_in_the_past():
    before = datetime(2027, 3, 27, 10, tzinfo=BERLIN)
    sale = Sale(starts_at=before, ends_at=before + timedelta(hours=1))

    values = copied_at(sale, datetime(2027, 3, 28, 10, 30, tzinfo=BERLIN))

    assert values["starts_at"] == datetime(2027, 3, 29, 10, tzinfo=BERLIN)


def copied_at(sale: Sale, at: datetime) -> dict[str, datetime]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sales.desk.sale_form.now", lambda: at)
        return copy_of(sale)
