"""Many things, a bounded number at a time."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")

PAGE = 5_000
# One command of Redis takes, or returns, no more of a sale's members: everybody else waits for it.
AT_ONCE = 500


def pages(items: Iterable[Item], size: int = PAGE) -> Iterator[list[Item]]:
    """Yield the items in lists of at most `size`."""
    remaining = iter(items)
    while page := list(islice(remaining, size)):
        yield page
