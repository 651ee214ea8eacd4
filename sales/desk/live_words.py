"""What the live dashboard says: its tiles, each with a warning when it should worry, and the columns of its charts."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from sales.attempt_counts import Second
from sales.histogram import Histogram, percentile_ms
from sales.live import SMOOTH_SECONDS, Drift, Picture
from sales.models import Sale
from sales.workers import Workers

SLOW_MS = 500
WRITER_LATE_MS = 5_000
FULL = 0.8

# How the outcomes are drawn, from the bottom up. Every outcome that no series names is refused for another reason.
OUTCOMES = {
    "purchased": ("purchased",),
    "already": ("already_purchased", "replayed"),
    "sold_out": ("sold_out",),
    "refused": (),
    "failed": ("unavailable", "unknown", "server_error"),
}
_SERIES_OF = {outcome: series for series, outcomes in OUTCOMES.items() for outcome in outcomes}


class Series(NamedTuple):
    key: str
    label: str


class Chart(NamedTuple):
    """One picture of the seconds, and the table that says the same."""

    key: str
    title: str
    series: tuple[Series, ...]


PURCHASED = Series("purchased", "Purchased")
CHARTS = (
    Chart(
        "attempts",
        "Attempts per second, by outcome",
        (
            PURCHASED,
            Series("already", "Has one already"),
            Series("sold_out", "Sold out"),
            Series("refused", "Refused otherwise"),
            Series("failed", "Not answered"),
        ),
    ),
    Chart("stock", "Units remaining", (Series("remaining", "Remaining"),)),
    Chart("buyers", "Buyers per second", (PURCHASED,)),
    Chart("latency", "Milliseconds to answer", (Series("p50", "p50"), Series("p95", "p95"), Series("p99", "p99"))),
)


class Tile(NamedTuple):
    """One number. `worry` says what is wrong and what to do; "" when nothing is."""

    key: str
    label: str
    value: str
    detail: str = ""
    worry: str = ""


def columns(points: Iterable[Second], step: int = 1) -> dict[str, list[int | float | None]]:
    """Return the charts' numbers: one list for each series, and `second`, one entry for each point.

    Where a point stands for more than one second, rates are what one of those had on average.
    """
    found: dict[str, list[int | float | None]] = {}
    for point in points:
        for key, value in _row(point, step).items():
            found.setdefault(key, []).append(value)
    return found


def _row(second: Second, step: int) -> dict[str, int | float | None]:
    outcomes: dict[str, float] = dict.fromkeys(OUTCOMES, 0)
    for outcome, count in second.outcomes.items():
        outcomes[_SERIES_OF.get(outcome, "refused")] += count if step == 1 else round(count / step, 1)
    percentiles = {f"p{share}": _rounded(percentile_ms(second.latencies, share / 100)) for share in (50, 95, 99)}
    return {"second": second.second, **outcomes, "remaining": second.remaining_stock, **percentiles}


def tiles(sale: Sale, picture: Picture) -> list[Tile]:
    """Return the tiles in the order of the page."""
    return [*_stock(sale, picture), *_flow(picture), *_machine(sale, picture)]


def share_left(picture: Picture) -> int:
    """Return how many percent of the units remain, for the bar."""
    stand = picture.stand
    return round(100 * stand.remaining_stock / stand.total_stock) if stand else 0


def _stock(sale: Sale, picture: Picture) -> list[Tile]:
    stand = picture.stand
    if stand is None:
        last = picture.seconds[-1].remaining_stock
        worry = picture.state.line if picture.state.word == "closed" else ""
        return [
            Tile("remaining", "Remaining", number(last), "as last told" if last is not None else "", worry),
            Tile("sold", "Sold", number(sale.valid_orders().count()), "that SQL knows of"),
        ]
    share = f"{100 * stand.sold / stand.total_stock:.1f} %" if stand.total_stock else ""
    return [
        Tile("remaining", "Remaining", number(stand.remaining_stock), f"of {number(stand.total_stock)}"),
        Tile("sold", "Sold", number(stand.sold), share),
    ]


def _flow(picture: Picture) -> list[Tile]:
    seconds = picture.seconds
    # What the workers count while Redis is away comes later.
    attempts, buyers = (seconds[-1].attempts, seconds[-1].outcomes["purchased"]) if picture.stand else (None, None)
    peak = max(second.attempts for second in seconds)
    peak_buyers = max(second.outcomes["purchased"] for second in seconds)
    failed = sum(second.outcomes[word] for second in seconds[-SMOOTH_SECONDS:] for word in OUTCOMES["failed"])
    failed_words = f"{number(failed)} not answered in the last {SMOOTH_SECONDS} s: see Redis" if failed else ""
    p99 = percentile_ms(picture.latencies, 0.99) or 0
    slow = f"over {SLOW_MS} ms: workers or Redis are at their limit" if p99 > SLOW_MS else ""
    return [
        Tile("attempts", "Attempts / s", number(attempts), f"peak {number(peak)}", failed_words),
        Tile("buyers", "Buyers / s", number(buyers), f"peak {number(peak_buyers)}"),
        latency_tile(picture.latencies, slow),
    ]


def latency_tile(latencies: Histogram, worry: str = "") -> Tile:
    """Return how long attempts waited for their answers."""
    p50, p95, p99 = (_milliseconds(percentile_ms(latencies, share)) for share in (0.5, 0.95, 0.99))
    others = f"p50 {p50.removesuffix(' ms')}, p95 {p95}" if any(latencies) else "no attempts"
    return Tile("p99", "Slowest 1 % (p99)", p99, others, worry)


def _machine(sale: Sale, picture: Picture) -> list[Tile]:
    stand = picture.stand
    if stand is None:
        names = {"backlog": "Waiting for SQL", "drift": "Drift", "workers": "Web workers", "memory": "Redis memory"}
        return [Tile(key, label, "?") for key, label in names.items()]
    late = (
        f"for {stand.lag_ms / 1000:.0f} s: see that manage.py write_orders runs"
        if stand.lag_ms > WRITER_LATE_MS
        else ""
    )
    used = stand.used_bytes / stand.most_bytes if stand.most_bytes else 0
    full = f"{used:.0%} full: purchases end when it is" if used > FULL else ""
    waiting = f"oldest {stand.lag_ms / 1000:.1f} s" if stand.backlog else "all orders are in SQL"
    return [
        Tile("backlog", "Waiting for SQL", number(stand.backlog), waiting, late),
        _drift(sale, stand.drift),
        _workers(stand.workers),
        Tile("memory", "Redis memory", _bytes(stand.used_bytes), f"of {_bytes(stand.most_bytes)}", full),
    ]


def _workers(workers: Workers | None) -> Tile:
    if workers is None:
        return Tile("workers", "Web workers", "?", "the server that hears of them is away")
    alive, expected = workers
    gone = f"{expected - alive} of {expected} silent: see the server's log" if alive < expected else ""
    return Tile("workers", "Web workers", number(alive), f"of {expected}", gone)


def _drift(sale: Sale, drift: Drift) -> Tile:
    if not drift:
        return Tile("drift", "Drift", "0", "Redis and SQL agree")
    kinds = {
        "orders missing in SQL": drift.missing,
        "orders that Redis lacks": drift.surplus,
        "units too many": max(0, drift.units),
        "units too few": max(0, -drift.units),
    }
    words = ", ".join(f"{number(count)} {kind}" for kind, count in kinds.items() if count)
    total = drift.missing + drift.surplus + abs(drift.units)
    return Tile("drift", "Drift", number(total), "", f"{words}: run manage.py audit_sale {sale.slug}")


def number(value: int | None) -> str:
    """Return a count as people read it."""
    return "?" if value is None else f"{value:,}"


def _milliseconds(value: float | None) -> str:
    return "–" if value is None else f"{_rounded(value):g} ms"


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1) if value < 10 else round(value)


def _bytes(value: int) -> str:
    size, units = float(value), iter(("B", "KB", "MB", "GB", "TB"))
    unit = next(units)
    while size >= 1000:
        size, unit = size / 1000, next(units)
    return f"{size:.3g} {unit}"


def as_json(sale: Sale, picture: Picture) -> dict[str, Any]:
    """Return what the page's script draws."""
    return {
        "nowMs": picture.now_ms,
        "state": picture.state._asdict(),
        "isRedisThere": picture.stand is not None,
        "shareLeft": share_left(picture),
        "totalStock": picture.stand.total_stock if picture.stand else sale.total_stock,
        "startsMs": int(sale.starts_at.timestamp() * 1000),
        "endsMs": int(sale.ends_at.timestamp() * 1000),
        "tiles": [tile._asdict() for tile in tiles(sale, picture)],
        "columns": columns(picture.seconds),
    }
