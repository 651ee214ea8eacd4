"""How a CSV file writes numbers and times: for programs, or for Excel where its reader lives."""

from collections.abc import Iterable
from datetime import datetime, tzinfo
from typing import Any, NamedTuple

from babel.numbers import get_decimal_symbol
from django.http import HttpRequest
from django.utils import timezone

from sales import languages
from sales.clock import iso, to_ms


class Style(NamedTuple):
    """`zone` is the one in which times are local and that headers name; None for ISO 8601 in UTC."""

    beginning: str = ""
    separator: str = ","
    decimal: str = "."
    zone: tzinfo | None = None

    def headed(self, names: Iterable[str], times: set[str]) -> tuple[str, ...]:
        """Return a header, in which columns of times name their zone."""
        return tuple(f"{name} ({self.zone})" if self.zone and name in times else name for name in names)

    def written(self, value: Any) -> Any:
        """Return a value that is no text as a cell has it."""
        if value is None:
            return ""
        if isinstance(value, datetime):
            return self._time(value)
        return str(value).replace(".", self.decimal) if isinstance(value, float) else value

    def _time(self, moment: datetime) -> str:
        if not self.zone:
            return iso(to_ms(moment))
        there = moment.astimezone(self.zone)
        milliseconds = there.microsecond // 1000
        return f"{there:%Y-%m-%d %H:%M:%S}" + (f"{self.decimal}{milliseconds:03d}" if milliseconds else "")


FOR_PROGRAMS = Style()


def for_excel(request: HttpRequest) -> Style:
    """Return what the Excel of this reader takes, whose language their browser tells.

    Excel knows UTF-8 by a byte order mark, and takes the separator and the decimal sign from the settings of Windows.
    """
    locale = languages.locale_of(request)
    decimal = get_decimal_symbol(locale, numbering_system="latn")
    # Swiss settings have a decimal point, and the semicolon of their neighbours.
    separator = ";" if decimal == "," or locale.territory in ("CH", "LI") else ","
    return Style("\ufeff", separator, decimal, timezone.get_current_timezone())
