"""One reader for the moments that people type, and the text of one for a form: what could mean two moments is
refused."""

import re
from datetime import UTC, datetime, timedelta, timezone, tzinfo

from django.utils.translation import gettext as _

# Longer text is not looked at.
LONGEST = 40
# Far enough from both ends of what can be computed with in every zone.
YEARS = range(1970, 9999)

_DAY = r"(?:(?P<year>\d{4})-(?P<month>\d\d?)-(?P<day>\d\d?)|(?P<d>\d\d?)\.(?P<m>\d\d?)\.(?P<y>\d{4}))"
_TIME = r"(?P<hour>\d\d?):(?P<minute>\d\d)(?::(?P<second>\d\d)(?:[.,](?P<fraction>\d{1,6}))?)?"
_OFFSET = r"(?P<offset>Z|[+-]\d\d(?::?\d\d)?)"
_MOMENT = re.compile(rf"{_DAY}(?:(?:T|,? ) *{_TIME} *{_OFFSET}?)?", re.ASCII | re.IGNORECASE)


class Unreadable(ValueError):
    """The text is no moment, or could be two; the message says what to write."""


def read(text: str, zone: tzinfo) -> datetime:
    """Return the moment in UTC: ISO 8601 or `24.12.2027 10:00`, in the zone unless it has an offset, midnight without
    a time. Raises Unreadable."""
    match = _MOMENT.fullmatch(text.strip()) if len(text) <= LONGEST else None
    if not match:
        raise Unreadable(_slashes() if "/" in text[:LONGEST] else _wanted())
    parts = match.groupdict()
    try:
        typed, offset = _typed(parts), _offset(parts["offset"])
    except ValueError:
        raise Unreadable(_("The calendar has no such day or time. Check what you typed.")) from None
    if typed.year not in YEARS:
        raise Unreadable(_wanted())
    return (typed.replace(tzinfo=offset) if offset else _in_zone(typed, zone)).astimezone(UTC)


def written(moment: datetime, zone: tzinfo) -> str:
    """Return the moment as `read` takes it: in the zone, as short as it is exact to the millisecond, and with its
    offset only when the clocks show this time twice."""
    there = moment.astimezone(zone)
    precision = "milliseconds" if there.microsecond // 1000 else "seconds" if there.second else "minutes"
    is_twice = there.utcoffset() != there.replace(fold=1 - there.fold).utcoffset()
    return (there if is_twice else there.replace(tzinfo=None)).isoformat(timespec=precision)


def _typed(parts: dict[str, str | None]) -> datetime:
    year, month, day = (int(parts[name] or parts[name[0]] or 0) for name in ("year", "month", "day"))
    hour, minute, second = (int(parts[name] or 0) for name in ("hour", "minute", "second"))
    return datetime(year, month, day, hour, minute, second, int((parts["fraction"] or "").ljust(6, "0")))


def _offset(text: str | None) -> tzinfo | None:
    if not text:
        return None
    if text in "Zz":
        return UTC
    hours, minutes = int(text[1:3]), int(text[3:].removeprefix(":") or 0)
    if minutes > 59:
        raise ValueError(text)
    return timezone(timedelta(hours=hours, minutes=minutes) * (-1 if text[0] == "-" else 1))


def _in_zone(typed: datetime, zone: tzinfo) -> datetime:
    """Return the one moment when clocks of the zone show this. Raises Unreadable when there is none, or two."""
    first, second = typed.replace(tzinfo=zone), typed.replace(tzinfo=zone, fold=1)
    if first.utcoffset() == second.utcoffset():
        return first
    after = first.astimezone(UTC).astimezone(zone)
    if after.replace(tzinfo=None) != typed:  # the clocks go forward over it
        raise Unreadable(
            _("The clocks of %(zone)s skip this time. Write %(after)s, or another time.")
            % {"zone": zone, "after": written(after, zone)}
        )
    examples = {"first": _example(first), "second": _example(second)}
    raise Unreadable(
        _(
            "The clocks of %(zone)s show this time twice. Write %(first)s for the first time, or %(second)s for the "
            "second."
        )
        % {"zone": zone, **examples}
    )


def _example(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds" if moment.second else "minutes")


def _wanted() -> str:
    return _("Write a day and a time, like 2027-12-24 10:00 or 24.12.2027 10:00.")


def _slashes() -> str:
    return _(
        "With slashes, a day could be taken for a month. Write the time like 2027-12-24 10:00 or 24.12.2027 10:00."
    )
