"""What the analytics of a sale say: on the page, as JSON, and as rows of CSV files."""

from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple

from sales.analytics import Early, Measures, Timeline
from sales.attempt_counts import Second
from sales.clock import iso, to_ms
from sales.desk.live_words import Tile, columns, latency_tile, number
from sales.histogram import percentile_ms
from sales.outcomes import OF_ATTEMPTS

PERCENTILES = (50, 95, 99)
# What of a record and of a row is a time.
TIMES = {"startTime", "soldOutTime", "busiestSecond", "second"}


class Line(NamedTuple):
    """A line of a table: what is counted, how much, and which share of all."""

    label: str
    value: str
    percent: float


def duration(seconds: float | None) -> str:
    """Return a time as people say it: exact where it is short."""
    if seconds is None:
        return "–"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = ((days, "d"), (hours, "h"), (minutes, "min"), (rest, "s"))
    return " ".join(f"{value} {unit}" for value, unit in parts if value)


def tiles(found: Measures, early: Early, timeline: Timeline) -> list[Tile]:
    """Return what is told first."""
    sale = found.sale
    sold_out = duration(found.seconds_to_sell_out) if found.sold_out_at else "Not sold out"
    left = f"{number(sale.total_stock - found.sold)} units are left" if not found.sold_out_at else "from the start"
    cancelled = f", without {number(found.cancelled)} that were cancelled" if found.cancelled else ""
    around = ", ".join(
        f"{100 * share:.0f} % after {duration(early.after[share])}" for share in (0.1, 0.9) if share in early.after
    )
    per_unit = f"{found.attempts_per_unit:,.1f} for each unit sold" if found.attempts_per_unit else ""
    return [
        Tile("sellout", "Time to sell out", sold_out, left),
        Tile("sold", "Sold", number(found.sold), f"of {number(sale.total_stock)}{cancelled}"),
        Tile("median", "Half were sold after", duration(early.after.get(0.5)), around),
        Tile("attempts", "Attempts", _or_dash(found.attempts), per_unit),
        Tile("shoppers", "Shoppers, about", _or_dash(found.shoppers), "to one percent" if found.shoppers else ""),
        Tile("busiest", "Busiest second", _or_dash(found.busiest_attempts), "attempts"),
        latency_tile(timeline.latencies),
    ]


def outcome_lines(outcomes: Counter[str]) -> list[Line]:
    """Return how the attempts ended, what was most often first."""
    total = outcomes.total()
    return [
        Line(outcome.replace("_", " ").capitalize(), number(count), 100 * count / total)
        for outcome, count in outcomes.most_common()
    ]


def early_lines(found: Measures, early: Early) -> list[Line]:
    """Return how much was sold within which time, up to the first line that has all of it."""
    lines = []
    for seconds, count in early.within.items() if found.sold else ():
        lines.append(Line(f"within {duration(seconds).replace('.0 ', ' ')}", number(count), 100 * count / found.sold))
        if count == found.sold:
            break
    return lines


def comparison(found: Iterable[Measures]) -> list[dict[str, Any]]:
    """Return a line for each sale, as people read it."""
    return [
        {
            "sale": line.sale,
            "cells": [
                number(line.sale.total_stock),
                number(line.sold),
                duration(line.seconds_to_sell_out) if line.sold_out_at else "not sold out",
                _or_dash(line.attempts),
                _about(line.shoppers),
                f"{line.attempts_per_unit:,.1f}" if line.attempts_per_unit else "–",
                _or_dash(line.busiest_attempts),
            ],
        }
        for line in found
    ]


def record(found: Measures) -> dict[str, Any]:
    """Return what a sale came to for a program: exact numbers and times, None where it is not known."""
    return {
        "slug": found.sale.slug,
        "productName": found.sale.name,
        "startTime": found.sale.starts_at,
        "totalStock": found.sale.total_stock,
        "sold": found.sold,
        "cancelled": found.cancelled,
        "soldOutTime": found.sold_out_at,
        "secondsToSellOut": found.seconds_to_sell_out,
        "attempts": found.attempts,
        "aboutShoppers": found.shoppers,
        "attemptsPerUnit": round(found.attempts_per_unit, 3) if found.attempts_per_unit else None,
        "busiestSecond": _moment(found.busiest_second),
        "busiestAttempts": found.busiest_attempts,
    }


def as_json(found: Measures, early: Early, timeline: Timeline, others: list[Measures]) -> dict[str, Any]:
    percentiles = {f"p{share}": percentile_ms(timeline.latencies, share / 100) for share in PERCENTILES}
    return {
        **_for_json(record(found)),
        "outcomes": dict(timeline.outcomes),
        "latencyMs": percentiles,
        "soldWithinSeconds": early.within,
        "secondsUntilShareSold": early.after,
        "perSecond": columns(timeline.points, timeline.step),
        "secondsPerPoint": timeline.step,
        "earlierSales": [_for_json(record(other)) for other in others],
    }


def second_rows(seconds: Iterable[Second]) -> Iterator[list[Any]]:
    """Yield a header, then a row for each second in which anybody attempted to buy."""
    yield ["second", *OF_ATTEMPTS, "remaining_stock", *(f"p{share}_ms" for share in PERCENTILES)]
    for second in seconds:
        percentiles = (percentile_ms(second.latencies, share / 100) for share in PERCENTILES)
        rounded = ("" if value is None else round(value, 2) for value in percentiles)
        counts = (second.outcomes[outcome] for outcome in OF_ATTEMPTS)
        remaining = "" if second.remaining_stock is None else second.remaining_stock
        yield [_moment(second.second), *counts, remaining, *rounded]


def _moment(second: int | None) -> datetime | None:
    return None if second is None else datetime.fromtimestamp(second, UTC)


def _for_json(record: dict[str, Any]) -> dict[str, Any]:
    return {name: iso(to_ms(value)) if isinstance(value, datetime) else value for name, value in record.items()}


def _or_dash(value: int | None) -> str:
    return "–" if value is None else number(value)


def _about(value: int | None) -> str:
    return "–" if value is None else f"about {number(value)}"
