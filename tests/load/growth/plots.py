"""Plots for docs/performance.md: how cost grows."""

from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot

SERVER, REDIS = "#1f6feb", "#d1495b"
# The same file for the same figures; text stays text.
matplotlib.rcParams.update({"svg.hashsalt": "flashsale", "svg.fonttype": "none", "font.family": "sans-serif"})

Points = Iterable[tuple[float, float]]


def draw(results: dict[str, Any], bench: dict[str, Any], directory: Path) -> None:
    """Write growth-connections.svg, growth-purchases.svg, growth-sales.svg and growth-memory.svg."""
    by_connections = [
        (run["connections"], one)
        for run in bench["runs"]
        if (run["contender"], run["work"]) == ("flashsale", "winning")
        for one in run["rounds"]
    ]
    _costs(by_connections, "connections", "CPU per winning purchase", directory / "growth-connections.svg")
    by_purchases = [(point["purchases"], point) for point in results["purchases"]["points"]]
    _costs(by_purchases, "purchases in the sale", "CPU per winning purchase", directory / "growth-purchases.svg")
    by_sales = [(point["sales"], point) for point in results["sales"] if not point["spread"]]
    _costs(by_sales, "sales open at once", "CPU per winning purchase", directory / "growth-sales.svg")
    figure, axes = _axes("requests answered", "MB", "Memory of the largest web process")
    axes.plot(*_columns((point["requests"], point["worker_mb"]) for point in results["requests"]), "o-", color=SERVER)
    axes.axhline(90, color="#888888", linestyle=":", label="aim: under 90 MB")
    axes.set_ylim(bottom=0)
    axes.legend()
    _save(figure, directory / "growth-memory.svg")


def _costs(found: list[tuple[int, dict[str, Any]]], words: str, title: str, path: Path) -> None:
    """Draw the CPU of server and Redis over a logarithmic count: each measurement, and a line through the medians."""
    figure, axes = _axes(words, "µs", title)
    for name, color, label in (("server_us", SERVER, "web server"), ("redis_us", REDIS, "Redis")):
        values = [(count, point[name]) for count, point in found]
        axes.plot(*_columns(values), ".", color=color, alpha=0.4)
        counts = sorted({count for count, _ in values})
        medians = [(count, median(value for other, value in values if other == count)) for count in counts]
        axes.plot(*_columns(medians), "o-", color=color, label=label)
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.legend()
    _save(figure, path)


def _axes(x_words: str, y_words: str, title: str) -> Any:
    figure, axes = pyplot.subplots(figsize=(7, 3.2), layout="constrained")
    axes.set(xlabel=x_words, ylabel=y_words, title=title)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#dddddd")
    return figure, axes


def _columns(points: Points) -> tuple[list[float], list[float]]:
    pairs = list(points)
    return [x for x, _ in pairs], [y for _, y in pairs]


def _save(figure: Any, path: Path) -> None:
    figure.savefig(path, metadata={"Date": None}, facecolor="white")
    pyplot.close(figure)
