"""State that belongs to one event loop: connections and futures cannot cross from one to another."""

import asyncio
from collections.abc import Callable
from functools import wraps
from threading import get_ident
from typing import TypeVar
from weakref import WeakKeyDictionary

T = TypeVar("T")


def per_loop(make: Callable[[], T]) -> Callable[[], T]:
    """Return a function that gives the running loop's own `make()`, made at the first call."""
    made: WeakKeyDictionary[asyncio.AbstractEventLoop, T] = WeakKeyDictionary()
    # A worker has one loop, and asks again and again. The loop that runs in this thread is the running one: to ask
    # asyncio would be a system call each time (Python 3.11 asks for the process's number).
    latest: tuple[asyncio.AbstractEventLoop, int, T] | None = None

    @wraps(make)
    def get() -> T:
        nonlocal latest
        if (held := latest) and held[1] == get_ident() and held[0].is_running():
            return held[2]
        loop = asyncio.get_running_loop()
        if loop not in made:
            made[loop] = make()
        latest = loop, get_ident(), made[loop]
        return made[loop]

    return get
