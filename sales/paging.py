"""Many things, a bounded number at a time."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")

PAGE = 5_000


def pages(items: Iterable[Item]) -> Iterator[list[Item]]:
    """Yield the items in lists of at most PAGE."""
    remaining = iter(items)
    while page := list(islice(remaining, PAGE)):
        yield page
