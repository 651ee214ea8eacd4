"""What this process counts for Prometheus: plain numbers while it works, given to Prometheus's client once a second.

Under gunicorn each worker's numbers are in files (the client's multiprocess mode), so that any worker can tell the sum
of all. What a worker has counted stays in the sum when it is gone. `measuring` calls `flush`.
"""

from bisect import bisect_left
from collections import Counter as Tally
from collections.abc import Mapping
from functools import cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, values

from sales import counts_files

# Before the first metric is made: under gunicorn the client then counts there, and not in a file that is mapped.
values.MmapedDict = counts_files.keep  # type: ignore[misc, assignment]

REGISTRY = CollectorRegistry()

REQUEST_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 1.5, 2.5, 5.0, 10.0)
SCRIPT_SECONDS = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
BATCH_ATTEMPTS = (1, 2, 5, 10, 20, 50, 100, 200, 500)
# Sums are told in millionths (2^-20), which add up exactly in whatever order the workers' files are read. Otherwise the
# total could lose its last digit from one scrape to the next, and Prometheus takes what is less for a restart.
_STEPS_OF_A_SUM = 1 << 20

# Prometheus sees a rise only from a value that it was told before: what may come at once, in a sale's first seconds, is
# told while it is 0 (https://prometheus.io/docs/practices/instrumentation/#avoid-missing-metrics).
EXPECTED_STATUSES = ("2xx", "4xx", "5xx")
EXPECTED_OUTCOMES = ("purchased", "already_purchased", "sold_out", "unavailable", "unknown")

REQUESTS = Histogram(
    "flashsale_request_duration_seconds",
    "From the head of a request to the last byte of its answer, by route and class of the status.",
    ("route", "status"),
    registry=REGISTRY,
    buckets=REQUEST_SECONDS,
)
ATTEMPTS = Counter("flashsale_attempts", "Attempts to buy that were answered.", ("sale", "outcome"), registry=REGISTRY)
BATCHES = Histogram(
    "flashsale_batch_attempts",
    "Attempts that one call of the purchase script decides.",
    registry=REGISTRY,
    buckets=BATCH_ATTEMPTS,
)
SCRIPTS = Histogram(
    "flashsale_script_duration_seconds",
    "From sending a batch to Redis to its answer.",
    registry=REGISTRY,
    buckets=SCRIPT_SECONDS,
)
CONNECTIONS = Gauge(
    "flashsale_connections",
    "Open connections of clients, those of event streams among them.",
    registry=REGISTRY,
    multiprocess_mode="livesum",
)
EVENT_STREAMS = Gauge("flashsale_event_streams", "Open event streams.", registry=REGISTRY, multiprocess_mode="livesum")
MEMORY = Gauge(
    "flashsale_resident_memory_bytes",
    "Memory of all web workers of this machine.",
    registry=REGISTRY,
    multiprocess_mode="livesum",
)


class Spread:
    """Values that the client does not have yet, counted in the buckets of its histogram."""

    __slots__ = ("_bounds", "_counts", "_histogram", "_labels", "_sum")

    def __init__(self, histogram: Histogram, bounds: tuple[float, ...], *labels: str):
        self._histogram, self._labels = histogram, labels
        self._bounds = bounds
        self._counts, self._sum = [0] * (len(bounds) + 1), 0.0

    def add(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def flush(self) -> None:
        """Give the client what was added. It takes one value at a time, so its buckets are filled in its place."""
        if not any(self._counts):
            return
        histogram = self._histogram.labels(*self._labels) if self._labels else self._histogram
        for bucket, count in zip(histogram._buckets, self._counts, strict=True):
            if count:
                bucket.inc(count)
        histogram._sum.inc(round(self._sum * _STEPS_OF_A_SUM) / _STEPS_OF_A_SUM)
        self._counts, self._sum = [0] * (len(self._bounds) + 1), 0.0


class Route:
    """The requests of one address pattern."""

    __slots__ = ("_spreads", "name")

    def __init__(self, name: str):
        self.name = name
        self._spreads = [Spread(REQUESTS, REQUEST_SECONDS, name, f"{hundred}xx") for hundred in range(1, 6)]

    def expect(self) -> None:
        """Tell of it before anybody asks."""
        for status in EXPECTED_STATUSES:
            REQUESTS.labels(self.name, status)

    def note(self, status: int, seconds: float) -> None:
        self._spreads[status // 100 - 1].add(seconds)

    def flush(self) -> None:
        for spread in self._spreads:
            spread.flush()


_routes: dict[str, Route] = {}
_batches, _scripts = Spread(BATCHES, BATCH_ATTEMPTS), Spread(SCRIPTS, SCRIPT_SECONDS)
_attempts: dict[int, Tally[str]] = {}


@cache
def route(name: str) -> Route:
    """Return the one route of that name, which is a pattern and never what was asked for."""
    _routes[name] = found = Route(name)
    return found


@cache
def expect_attempts(slug: str) -> None:
    """Tell of a sale's attempts before there is one."""
    for outcome in EXPECTED_OUTCOMES:
        ATTEMPTS.labels(slug, outcome)


def note_batch(attempts: int, seconds: float) -> None:
    """Count a batch and the time in which Redis decided it."""
    _batches.add(attempts)
    _scripts.add(seconds)


def note_attempts(sale_id: int, outcomes: Mapping[str, int]) -> None:
    """Count attempts of one sale that were answered."""
    _attempts.setdefault(sale_id, Tally()).update(outcomes)


def flush(slugs: Mapping[int, str]) -> None:
    """Give the client what was counted since. A sale that is not among `slugs`, like a rehearsal, is not told of."""
    for found in _routes.values():
        found.flush()
    _batches.flush()
    _scripts.flush()
    for sale_id, outcomes in _attempts.items():
        if slug := slugs.get(sale_id):
            for outcome, count in outcomes.items():
                ATTEMPTS.labels(slug, outcome).inc(count)
    _attempts.clear()
