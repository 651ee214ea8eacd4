"""What the status of a sale says, to those who ask for it and to those who listen."""

import time
from typing import Any

from sales import snapshots
from sales.clock import iso
from sales.per_loop import per_loop

SHORTEST_POLL_AFTER_MS = 2_000
LONGEST_POLL_AFTER_MS = 30_000
# So often each worker lets itself be asked: at 30 µs an answer, 6 % of its time.
POLLS_PER_SECOND = 2_000


def fields(sale: snapshots.Snapshot, now_ms: int) -> dict[str, Any]:
    """Return the status as it goes into JSON, all but what `moment` adds."""
    return {
        "status": sale.status(now_ms),
        "startTime": iso(sale.starts_ms),
        "endTime": iso(sale.ends_ms),
        "totalStock": sale.total_stock,
        "remainingStock": sale.remaining_stock,
        "soldOutTime": None if sale.sold_out_within_ms() is None else iso(sale.sold_out_ms or 0),
        "productName": sale.product_name,
        "slug": sale.slug,
        "identity": sale.identity,
    }


def moment(sale: snapshots.Snapshot, now_ms: int, pace_ms: int = SHORTEST_POLL_AFTER_MS) -> dict[str, Any]:
    """Return what differs between two who ask for the same status: when they did, and when to ask again."""
    return {"pollAfterMs": _poll_after_ms(sale, now_ms, pace_ms), "serverTime": iso(now_ms)}


def _poll_after_ms(sale: snapshots.Snapshot, now_ms: int, pace_ms: int) -> int:
    """Return when to ask again: often while something can change, rarely far from the start and after the end."""
    if now_ms >= sale.ends_ms:
        return LONGEST_POLL_AFTER_MS
    if now_ms < sale.starts_ms:
        return min(LONGEST_POLL_AFTER_MS, max(pace_ms, (sale.starts_ms - now_ms) // 10))
    return pace_ms


def next_pace_ms() -> int:
    """Return when the one who asks now may ask again. The more ask, the later."""
    return _calendar().next_pace_ms(time.monotonic())


class Calendar:
    """Gives each who polls the next free moment, so that however many they are, they ask `POLLS_PER_SECOND` times.

    The moments are whole seconds apart, because an answer that differs is a new version of the status to a cache.
    """

    def __init__(self) -> None:
        self._free_at = 0.0

    def next_pace_ms(self, now: float) -> int:
        """Return the milliseconds from `now`, in seconds of a steady clock, to the next free moment, and take it."""
        self._free_at = min(max(self._free_at, now) + 1 / POLLS_PER_SECOND, now + LONGEST_POLL_AFTER_MS / 1000)
        return max(SHORTEST_POLL_AFTER_MS, round(self._free_at - now) * 1000)


@per_loop
def _calendar() -> Calendar:
    return Calendar()
