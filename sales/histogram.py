"""Times of answers, counted in fixed buckets: any number of them are added up, and still tell percentiles."""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise

# The upper bounds of all buckets but the last, which has none. Each is a third to a half above the one before.
BOUNDS_MS = (1, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1500)
BUCKETS = len(BOUNDS_MS) + 1

_BOUNDS_SECONDS = tuple(bound / 1000 for bound in BOUNDS_MS)

Histogram = Sequence[int]


def add(histogram: list[int], starts: Sequence[float], end: float) -> None:
    """Count the times from each of `starts`, which ascend, to `end`, in seconds.

    By bisection, so that many of them cost little more than one.
    """
    first, last = bisect_left(_BOUNDS_SECONDS, end - starts[-1]), bisect_left(_BOUNDS_SECONDS, end - starts[0])
    counted = 0
    for bucket in range(last, first, -1):
        longer = bisect_left(starts, end - _BOUNDS_SECONDS[bucket - 1])
        histogram[bucket] += longer - counted
        counted = longer
    histogram[first] += len(starts) - counted


def merged(histograms: Iterable[Histogram]) -> list[int]:
    """Return the sum; of none, a histogram of nothing."""
    return [sum(counts) for counts in zip([0] * BUCKETS, *histograms, strict=True)]


def percentile_ms(histogram: Histogram, share: float) -> float | None:
    """Return the time within which that share of the answers came, interpolated in its bucket; None without answers.

    It is off by less than its bucket is wide. What is beyond the last bound is told as that bound.
    """
    total = sum(histogram)
    if not total:
        return None
    wanted = share * total
    reached = list(accumulate(histogram, initial=0))
    bucket = next(bucket for bucket, upto in enumerate(reached[1:]) if upto >= wanted and histogram[bucket])
    if bucket == len(BOUNDS_MS):
        return BOUNDS_MS[-1]
    low, high = list(pairwise((0, *BOUNDS_MS)))[bucket]
    return low + (high - low) * max(0, wanted - reached[bucket]) / histogram[bucket]
