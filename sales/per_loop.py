"""State that belongs to one event loop: connections and futures cannot cross from one to another."""

import asyncio
from collections.abc import Callable
from functools import wraps
from typing import TypeVar
from weakref import WeakKeyDictionary

T = TypeVar("T")


def per_loop(make: Callable[[], T]) -> Callable[[], T]:
    """Return a function that gives the running loop's own `make()`, made at the first call."""
    made: WeakKeyDictionary[asyncio.AbstractEventLoop, T] = WeakKeyDictionary()
    # A worker has one loop: to find its state in `made` again and again is slow.
    latest: tuple[asyncio.AbstractEventLoop, T] | None = None

    @wraps(make)
    def get() -> T:
        nonlocal latest
        loop = asyncio.get_running_loop()
        if (held := latest) and held[0] is loop:
            return held[1]
        if loop not in made:
            made[loop] = make()
        latest = loop, made[loop]
        return made[loop]

    return get
