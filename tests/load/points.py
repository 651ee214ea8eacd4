"""Points: what one round of a measurement found, as JSON keeps it."""

from collections.abc import Iterable, Mapping
from statistics import median
from typing import Any


def middle(points: Iterable[Mapping[str, Any]], value: str, **wanted: Any) -> float:
    """Return the median of a value over the points that have what is wanted."""
    return median(point[value] for point in points if wanted.items() <= point.items())
