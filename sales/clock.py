"""Times on the wire: ISO 8601 in UTC."""

from datetime import UTC, datetime
from functools import lru_cache


def iso(ms: int) -> str:
    """Return milliseconds since 1970 as ISO 8601 with `Z`; the milliseconds are left out when they are zero."""
    text = _iso_second(ms // 1000)
    return f"{text}.{ms % 1000:03d}Z" if ms % 1000 else f"{text}Z"


@lru_cache(maxsize=100)
def _iso_second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def to_ms(moment: datetime) -> int:
    """Return an aware datetime as milliseconds since 1970."""
    return round(moment.timestamp() * 1000)
