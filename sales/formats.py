"""Moments, numbers and prices as the active language writes them."""

import math
from datetime import UTC, datetime
from decimal import Decimal

from babel import Locale, numbers, units
from babel.dates import format_date, format_time
from django.utils import translation

from sales.clock import iso


def moment(ms: int) -> dict[str, str]:
    """Return milliseconds since 1970 for a <time> element: ISO 8601, and in UTC as people write it."""
    when = datetime.fromtimestamp(ms / 1000, UTC)
    date, time = format_date(when, "long", _locale()), format_time(when, "short", locale=_locale())
    # CLDR puts a narrow no-break space before AM; browsers' Intl writes a plain one into pages.
    return {"iso": iso(ms), "text": f"{date}, {time} UTC".replace("\u202f", " ")}


def duration(ms: int) -> str:
    """Return a duration in its largest fitting unit, like "41 seconds", as static/sales/formats.js does."""
    seconds = round(ms / 1000)
    if seconds < 120 and seconds != 60:
        value, unit = seconds, "second"
    elif seconds < 7200:
        value, unit = round(seconds / 60), "minute"
    elif seconds < 172_800:
        value, unit = round(seconds / 3600), "hour"
    else:
        value, unit = round(seconds / 86_400), "day"
    return units.format_unit(value, f"duration-{unit}", locale=_locale())


def wait(seconds: int) -> str:
    """Return how long to wait in minutes, like "5 minutes", and never less than that."""
    return duration(math.ceil(seconds / 60) * 60_000)


def number(value: int) -> str:
    return numbers.format_decimal(value, locale=_locale())


def price(text: str) -> str:
    """Return a price like "49.00 EUR", as Redis has it, with the currency's sign; "" when there is none."""
    amount, _, currency = text.partition(" ")
    return numbers.format_currency(Decimal(amount), currency, locale=_locale()) if text else ""


def _locale() -> Locale:
    return Locale.parse(translation.to_locale(translation.get_language()))
