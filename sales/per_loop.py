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

    @wraps(make)
    def get() -> T:
        loop = asyncio.get_running_loop()
        try:
            return made[loop]
        except KeyError:
            made[loop] = make()
            return made[loop]

    return get
