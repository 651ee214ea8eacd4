"""Rates as people write them: ``10/10s``, ``100/s``, ``off``."""

import re
from typing import NamedTuple

_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600}


class Rate(NamedTuple):
    """At most ``limit`` events in ``period_seconds``."""

    limit: int
    period_seconds: int


def parse_rate(text: str) -> Rate | None:
    """Return the rate that `text` names, or None for ``off``. Raises ValueError for anything else."""
    if text.strip().lower() == "off":
        return None
    match = re.fullmatch(r"\s*([1-9]\d{0,8})/([1-9]\d{0,4})?([smh])\s*", text)
    if not match:
        raise ValueError(f"{text!r} is not a rate; write a count and a period, like 10/10s or 100/s, or off")
    count, periods, unit = match.groups()
    return Rate(int(count), int(periods or 1) * _UNIT_SECONDS[unit])
