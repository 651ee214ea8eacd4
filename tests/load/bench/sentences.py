"""The figures that docs/performance.md and README.md say in words: what they must say, by the data."""

from typing import Any

from tests.load.bench.contenders import PURCHASES
from tests.load.bench.tables import Results
from tests.load.points import middle

# What README.md shows of the table: the words, the work, the connections.
SHOWN = (
    ("purchases, sold out", "sold_out", 256),
    ("purchases, sold out", "sold_out", 1000),
    ("purchases that win", "winning", 256),
    ("purchases that win", "winning", 1000),
    ("status", "status", 256),
    ("sale page", "page", 256),
)
BESIDE_GO = (256, 1000)
CONNECTIONS = (1, 16, 64, 256, 1000, 4000)


def of_the_readme(results: Results) -> list[str]:
    """Return the rows and phrases of README.md that come from `make bench`."""
    refused, sold, express_refused, express_sold = (
        " and ".join(_hundreds(_rate(results, name, work, connections)) for connections in BESIDE_GO)
        for name in ("go", "express")
        for work in ("sold_out", "winning")
    )
    return [
        *(f"| {words} | {number:,} | {_cells(results, work, number)} |" for words, work, number in SHOWN),
        f"a Go service with the same rules and no disk refused {refused} and sold {sold} a second, "
        f"Express {express_refused}, and {express_sold}.",
    ]


def of_the_guide(results: Results, growth: dict[str, Any]) -> list[str]:
    """Return the phrases of docs/performance.md that come from `make bench` and `make growth`."""
    ahead = {connections: _works_ahead_of_go(results, connections) for connections in CONNECTIONS}
    never = max(connections for connections, works in ahead.items() if works == 0)
    not_always = max(connections for connections, works in ahead.items() if works < len(PURCHASES))
    four_times_us = results.machine["cores"] * 1e6 / (4 * _rate(results, "express", "sold_out", 256))
    floor_us = results.median("floor", "winning", 256, "server_us")
    redis_us = results.median("flashsale", "sold_out", 256, "redis_us")
    return [
        f"Beyond {not_always:,} connections this project is ahead of Go",
        f"Up to {never:,} Go is ahead",
        f"on two cores that is {four_times_us:.0f} µs for server, Redis and wrk together, of which bare uvicorn alone "
        f"takes {floor_us:.0f} and Redis {redis_us:.0f}.",
        *_of_growth(growth),
    ]


def _of_growth(growth: dict[str, Any]) -> list[str]:
    purchases, listeners = growth["purchases"], growth["listeners"]
    large, larger = (middle(purchases["points"], "redis_us", purchases=number) for number in (2_000_000, 5_000_000))
    listen, poll = (middle(listeners, "server_us", kind=kind, pages=5_000) for kind in ("listen", "poll"))
    claims_gigabytes = purchases["purchases"] * purchases["claim_bytes"] / 1e9
    return [
        f"A sale with 5,000,000 purchases costs Redis {larger:.1f} µs, one with 2,000,000 {large:.1f}",
        f"scattered over {claims_gigabytes:.1f} GB by then",
        f"take {listen:.0f} µs of the server for a purchase beside them, 5,000 pages that poll {poll:.0f}",
    ]


def _works_ahead_of_go(results: Results, connections: int) -> int:
    """Return of how many of purchases that are refused, and that win, this project does more than Go."""
    return sum(
        _rate(results, "flashsale", work, connections) > _rate(results, "go", work, connections) for work in PURCHASES
    )


def _rate(results: Results, name: str, work: str, connections: int) -> float:
    return results.median(name, work, connections, "requests_per_second") or 0


def _hundreds(per_second: float) -> str:
    return f"{round(per_second, -2):,.0f}"


def _cells(results: Results, work: str, connections: int) -> str:
    waits = (results.median("flashsale", work, connections, f"{name}_ms") or 0 for name in ("p50", "p95", "p99"))
    rate = _hundreds(_rate(results, "flashsale", work, connections))
    return " | ".join((rate, *(f"{wait:.0f} ms" for wait in waits)))
