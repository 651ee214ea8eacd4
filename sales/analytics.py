"""What became of a sale: from SQL alone, so that it can be told when Redis is long empty."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import NamedTuple

from django.db.models import Count, Max, Min, Q, Sum

from sales import attempt_counts, histogram
from sales.attempt_counts import Second
from sales.models import Sale, ShopperCount

# Within so many seconds of the start, which share of the units was sold.
EARLY_SECONDS = (1, 5, 10, 30, 60, 300, 600, 3600)
# After how long this share of what was sold had been sold.
SHARES = (0.1, 0.5, 0.9, 1)
MOST_EARLIER = 10
# A chart has no more points than this: of a long sale, each stands for more than one second.
MOST_POINTS = 600
# What is shown before the start, and at least after the last unit.
MARGIN_SECONDS = 60


class Measures(NamedTuple):
    """What one sale came to, to be compared with others. Nobody counted attempts where `attempts` is None."""

    sale: Sale
    sold: int
    cancelled: int
    sold_out_at: datetime | None
    attempts: int | None
    shoppers: int | None
    busiest_second: int | None
    busiest_attempts: int | None

    @property
    def seconds_to_sell_out(self) -> float | None:
        return _seconds_after_start(self.sale, self.sold_out_at)

    @property
    def attempts_per_unit(self) -> float | None:
        return self.attempts / self.sold if self.attempts is not None and self.sold else None


class Timeline(NamedTuple):
    """The attempts from second to second, each point standing for `step` of them; and all of the sale together."""

    points: list[Second]
    step: int
    outcomes: Counter[str]
    latencies: list[int]


class Early(NamedTuple):
    """How many units were sold within seconds of the start; and after how many seconds a share of all sold had been."""

    within: dict[int, int]
    after: dict[float, float]


def measures(sale: Sale) -> Measures:
    """Return what the sale came to."""
    # Of all orders, also those that were cancelled since: they had taken their units.
    sold_out_at = sale.orders.filter(remaining_stock=0).aggregate(first=Min("purchased_at"))["first"]
    counted = sale.attempt_counts.aggregate(attempts=Sum("attempts"))["attempts"]
    seconds = sale.attempt_counts.order_by().values("second").annotate(attempts=Sum("attempts"))
    busiest = seconds.order_by("-attempts", "second").first() or {"second": None, "attempts": None}
    return Measures(
        sale=sale,
        sold=sale.valid_orders().count(),
        cancelled=sale.cancelled_orders().count(),
        sold_out_at=sold_out_at,
        attempts=counted,
        shoppers=ShopperCount.objects.filter(sale=sale).values_list("about", flat=True).first(),
        busiest_second=busiest["second"],
        busiest_attempts=busiest["attempts"],
    )


def earlier(sale: Sale) -> list[Measures]:
    """Return what the sales before this one came to, the latest first."""
    others = Sale.objects.filter(starts_at__lt=sale.starts_at, first_published_at__isnull=False)
    return [measures(other) for other in others.order_by("-starts_at", "-id")[:MOST_EARLIER]]


def early(sale: Sale) -> Early:
    """Return how early after the start the units were sold."""
    limits = {str(seconds): sale.starts_at + timedelta(seconds=seconds) for seconds in EARLY_SECONDS}
    counts = {f"within_{name}": Count("id", filter=Q(purchased_at__lt=limit)) for name, limit in limits.items()}
    found = sale.valid_orders().aggregate(sold=Count("id"), **counts)
    moments = sale.valid_orders().order_by("purchased_at").values_list("purchased_at", flat=True)
    after = {}
    for share in SHARES if found["sold"] else ():
        place = math.ceil(share * found["sold"]) - 1
        for moment in moments[place : place + 1]:  # none, when an order was cancelled meanwhile
            after[share] = _seconds_after_start(sale, moment) or 0.0
    return Early({seconds: found[f"within_{seconds}"] for seconds in EARLY_SECONDS}, after)


def timeline(sale: Sale, sold_out_at: datetime | None) -> Timeline:
    """Return the attempts of the sale, read a page at a time.

    The points are those from a minute before the start until well after the last unit was sold.
    """
    outcomes, latencies = Counter[str](), histogram.merged(())
    first, last = _shown(sale, sold_out_at)
    step = max(1, math.ceil((last - first + 1) / MOST_POINTS))
    points: dict[int, Second] = {}
    for second in seconds(sale):
        outcomes.update(second.outcomes)
        latencies = histogram.merged((latencies, second.latencies))
        if first <= second.second <= last:
            place = first + (second.second - first) // step * step
            points[place] = _together(place, [*([points[place]] if place in points else []), second])
    return Timeline(list(_every(points, first, last, step)), step, outcomes, latencies)


def seconds(sale: Sale) -> Iterator[Second]:
    """Yield the seconds in which anybody attempted to buy; a page of them is in memory."""
    return attempt_counts.by_second(attempt_counts.in_sql(sale.attempt_counts.all()))


def _shown(sale: Sale, sold_out_at: datetime | None) -> tuple[int, int]:
    bounds = sale.attempt_counts.aggregate(first=Min("second"), last=Max("second"))
    start = int(sale.starts_at.timestamp())
    first, last = bounds["first"] or start, bounds["last"] or start
    if sold_out_at:
        sold_out = int(sold_out_at.timestamp())
        last = min(last, sold_out + max(MARGIN_SECONDS, sold_out - start))
    return min(max(first, start - MARGIN_SECONDS), last), last


def _together(place: int, group: Iterable[Second]) -> Second:
    outcomes, histograms, remaining = Counter[str](), [], None
    for second in group:
        outcomes.update(second.outcomes)
        histograms.append(second.latencies)
        remaining = second.remaining_stock if second.remaining_stock is not None else remaining
    return Second(place, outcomes, histogram.merged(histograms), remaining)


def _every(points: dict[int, Second], first: int, last: int, step: int) -> Iterator[Second]:
    """Yield all points, also where nothing happened; what remains is what remained."""
    remaining: int | None = None
    for place in range(first, last + 1, step):
        point = points.get(place) or Second(place, Counter(), histogram.merged(()), None)
        remaining = remaining if point.remaining_stock is None else point.remaining_stock
        yield point._replace(remaining_stock=remaining)


def _seconds_after_start(sale: Sale, moment: datetime | None) -> float | None:
    return (moment - sale.starts_at).total_seconds() if moment else None
