"""What the measurements say: one table, and the targets."""

from collections import defaultdict
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Self

from tests.load.bench.contenders import CONTENDERS
from tests.load.bench.measure import Measurement

Run = tuple[str, str, int]

WORDS = {
    "sold_out": "Purchases, sold out",
    "winning": "Purchases that win",
    "status": "Status",
    "page": "Sale page",
}
# The floor answers any of them alike.
FLOOR_WORK = {"sold_out": "winning", "page": "status"}


@dataclass
class Results:
    """All measurements by contender, work and connections; each value read from it is the median of the rounds."""

    machine: dict[str, Any]
    missing: dict[str, str]
    runs: dict[Run, list[Measurement]] = field(default_factory=lambda: defaultdict(list))

    def add(self, name: str, work: str, connections: int, found: Measurement) -> None:
        self.runs[name, work, connections].append(found)

    def median(self, name: str, work: str, connections: int, value: str) -> float | None:
        found = self.runs.get((name, work, connections))
        return median(getattr(measurement, value) for measurement in found) if found else None

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> Self:
        results = cls(found["machine"], found["missing"])
        for run in found["runs"]:
            for one in run["rounds"]:
                results.add(run["contender"], run["work"], run["connections"], Measurement(**one))
        return results

    def as_json(self) -> dict[str, Any]:
        return {
            "machine": self.machine,
            "missing": self.missing,
            "runs": [
                {
                    "contender": name,
                    "work": work,
                    "connections": connections,
                    "rounds": [one.as_json() for one in found],
                }
                for (name, work, connections), found in self.runs.items()
            ],
        }


def machine_words(results: Results) -> str:
    machine = results.machine
    return (
        f"Measured on {machine['date']} on {machine['cores']} cores ({machine['system']}) that carry server, Redis and "
        f"wrk; Python {machine['python']}; medians of {machine['rounds']} rounds, {machine['seconds']} s each."
    )


def whole(results: Results) -> str:
    """Return all that docs/performance.md has of it, in Markdown: the machine, the targets, the tables."""
    return f"{machine_words(results)}\n\n{targets(results)}\n\n{report(results)}"


def report(results: Results) -> str:
    """Return one Markdown table for each kind of work."""
    parts = [_table(results, work, words) for work, words in WORDS.items()]
    parts += [f"Missing: {name} ({reason})." for name, reason in results.missing.items()]
    return "\n\n".join(parts)


def _table(results: Results, work: str, words: str) -> str:
    lines = [
        f"**{words}**",
        "",
        "| | connections | requests/s | p50 ms | p95 ms | p99 ms | server µs | Redis µs | MB | errors | time-outs |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, entry in CONTENDERS.items():
        own_work = FLOOR_WORK.get(work, work) if name == "floor" else work
        for run in results.runs:
            if run[:2] == (name, own_work):
                lines.append(f"| {entry.words} | {run[2]:,} | {_cells(results, run)} |")
    return "\n".join(lines)


def _cells(results: Results, run: Run) -> str:
    def value(name: str) -> float:
        return results.median(*run, name) or 0

    latencies = " | ".join(f"{value(name):.1f}" for name in ("p50_ms", "p95_ms", "p99_ms"))
    costs = " | ".join(f"{value(name):.0f}" for name in ("server_us", "redis_us", "worker_mb", "errors", "timeouts"))
    return f"{value('requests_per_second'):,.0f} | {latencies} | {costs}"


def targets(results: Results) -> str:
    """Return a Markdown table of what we hold ourselves to, and whether it was met."""
    lines = ["| target | aim | measured | |", "|---|---:|---:|---|"]
    lines += [_line(*target) for target in _targets(results)]
    return "\n".join(lines)


Target = tuple[str, float, bool, float | None]


def _targets(results: Results) -> list[Target]:
    """Return each target: its words, the aim, whether more is better, and what was measured."""

    def rate(name: str, work: str, connections: int = 256) -> float | None:
        return results.median(name, work, connections, "requests_per_second")

    def ratio(work: str, other: str, ours: str = "flashsale") -> float | None:
        return _divide(rate(ours, work), rate(other, work))

    def ours(work: str, connections: int, value: str) -> float | None:
        return results.median("flashsale", work, connections, value)

    floor_us = results.median("floor", "winning", 256, "server_us")
    return [
        ("sold out, as many times Express", 4, True, ratio("sold_out", "express")),
        ("sold out, as many times Go", 1, True, ratio("sold_out", "go")),
        ("winning on disk, as many times Express", 3, True, ratio("winning", "express")),
        ("winning on disk, as many times Go", 0.8, True, ratio("winning", "go")),
        ("winning in memory like Go, as many times Go", 1, True, ratio("winning", "go", "flashsale-memory")),
        ("sold out, purchases/s", 10_000, True, rate("flashsale", "sold_out")),
        ("winning on disk, purchases/s", 10_000, True, rate("flashsale", "winning")),
        ("status, requests/s", 15_000, True, rate("flashsale", "status")),
        ("sale page, requests/s", 15_000, True, rate("flashsale", "page")),
        ("winning, 1,000 connections, p95 ms", 100, False, ours("winning", 1000, "p95_ms")),
        ("winning, 1,000 connections, p99 ms", 200, False, ours("winning", 1000, "p99_ms")),
        ("sold out, 1,000 connections, p95 ms", 100, False, ours("sold_out", 1000, "p95_ms")),
        ("sold out, 1,000 connections, p99 ms", 200, False, ours("sold_out", 1000, "p99_ms")),
        ("errors and time-outs of ours, in any run", 0, False, our_errors(results)),
        (
            "server CPU, sold out, as many times the floor",
            2.2,
            False,
            _divide(ours("sold_out", 256, "server_us"), floor_us),
        ),
        (
            "server CPU, winning, as many times the floor",
            2.2,
            False,
            _divide(ours("winning", 256, "server_us"), floor_us),
        ),
        ("Redis CPU, sold out, µs", 10, False, ours("sold_out", 256, "redis_us")),
        ("Redis CPU, winning, µs", 20, False, ours("winning", 256, "redis_us")),
    ]


def our_errors(results: Results) -> float:
    """Return how many errors and time-outs this project had in all runs."""
    ours = [found for (name, _, _), rounds in results.runs.items() if name.startswith("flashsale") for found in rounds]
    return sum(found.errors + found.timeouts for found in ours)


def _line(words: str, aim: float, is_more_better: bool, measured: float | None) -> str:
    sign = "≥" if is_more_better else "≤"
    if measured is None:
        return f"| {words} | {sign} {aim:,g} | not measured | |"
    is_met = measured >= aim if is_more_better else measured <= aim
    value = f"{measured:,.0f}" if abs(measured) >= 100 else f"{measured:.2f}".rstrip("0").rstrip(".")
    verdict = "met" if is_met else f"**missed** by {abs(measured - aim) / aim:.0%}" if aim else "**missed**"
    return f"| {words} | {sign} {aim:,g} | {value} | {verdict} |"


def _divide(one: float | None, other: float | None) -> float | None:
    return one / other if one is not None and other else None
