"""The directory of published sales: which there are, which one is current, and which ones a list shows."""

from typing import NamedTuple

# A list shows no more sales than these: each is read from Redis while somebody looks at it.
MOST_LIVE, MOST_NEXT, MOST_PAST = 100, 20, 12


class Listing(NamedTuple):
    """One line of the directory. Times are milliseconds since 1970 by Redis's clock."""

    id: int
    starts_ms: int
    ends_ms: int


def current(directory: dict[str, Listing], now_ms: int) -> str:
    """Return the slug of the current sale, or "" when there is none: the active one (of several the
    latest to start), else the next to start, else the last to end."""

    def rank(item: tuple[str, Listing]) -> tuple[int, int]:
        _, listing = item
        if listing.starts_ms <= now_ms < listing.ends_ms:
            return 2, listing.starts_ms
        if now_ms < listing.starts_ms:
            return 1, -listing.starts_ms
        return 0, listing.ends_ms

    return max(directory.items(), key=rank)[0] if directory else ""


def shown(directory: dict[str, Listing], now_ms: int) -> tuple[list[str], list[str], list[str]]:
    """Return the slugs of a list's sales: live (the next to end first), next (the next to start first), past (the last
    to end first)."""
    live = {slug: line.ends_ms for slug, line in directory.items() if line.starts_ms <= now_ms < line.ends_ms}
    coming = {slug: line.starts_ms for slug, line in directory.items() if now_ms < line.starts_ms}
    past = {slug: -line.ends_ms for slug, line in directory.items() if line.ends_ms <= now_ms}
    return (
        sorted(live, key=live.__getitem__)[:MOST_LIVE],
        sorted(coming, key=coming.__getitem__)[:MOST_NEXT],
        sorted(past, key=past.__getitem__)[:MOST_PAST],
    )
