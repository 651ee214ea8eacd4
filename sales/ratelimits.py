"""How often one client address may ask the lane. A shopper's own limit is in `lua/purchase.lua`."""

import math
import time

from django.conf import settings

# More addresses than this in one period share a fresh start, so that a flood cannot fill the memory.
MOST_ADDRESSES = 100_000


class _Window:
    def __init__(self) -> None:
        self.ends = 0.0
        self.requests: dict[str, int] = {}


_window = _Window()


def address_wait_seconds(address: str) -> int:
    """Count one request of `address` in this worker; return 0, or the seconds to wait when it had its share."""
    rate = settings.ADDRESS_RATE
    if rate is None:
        return 0
    now = time.monotonic()
    if now >= _window.ends or len(_window.requests) > MOST_ADDRESSES:
        _window.ends = now + rate.period_seconds
        _window.requests = {}
    count = _window.requests.get(address, 0) + 1
    _window.requests[address] = count
    return math.ceil(_window.ends - now) if count > rate.limit else 0
