"""Times on the wire: ISO 8601 in UTC."""

from datetime import UTC, datetime
from functools import lru_cache

from django.conf import settings
from django.utils import timezone


def iso(ms: int) -> str:
    """Return milliseconds since 1970 as ISO 8601 with `Z`; the milliseconds are left out when they are zero."""
    text = _iso_second(ms // 1000)
    return f"{text}.{ms % 1000:03d}Z" if ms % 1000 else f"{text}Z"


@lru_cache(maxsize=100)
def _iso_second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def beside_utc(moment: datetime) -> str:
    """Return a moment in the operators' time zone, and in UTC beside it where that is another time."""
    there, utc = timezone.localtime(moment), moment.astimezone(UTC)
    text = there.strftime("%-d %b %Y, %H:%M:%S")
    if settings.TIME_ZONE == "UTC":
        return f"{text} UTC"
    is_same_day = there.date() == utc.date()
    return f"{text} {settings.TIME_ZONE} ({utc.strftime('%H:%M:%S' if is_same_day else '%-d %b, %H:%M:%S')} UTC)"


def from_redis(time: tuple[int, int]) -> datetime:
    """Return Redis's TIME, seconds and microseconds, in the whole milliseconds in which sales start and end."""
    seconds, microseconds = time
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=microseconds // 1000 * 1000)


def to_ms(moment: datetime) -> int:
    """Return an aware datetime as milliseconds since 1970."""
    return round(moment.timestamp() * 1000)
