"""What `canceller.py` told."""

import json
from pathlib import Path
from typing import NamedTuple


class Cancellation(NamedTuple):
    """What a canceller told: the word is `begun`, `saved` (in SQL) or `enforced` (in Redis), `at` a time of
    `time.monotonic()`."""

    word: str
    at: float
    order_id: str
    user_id: str
    may_buy_again: bool


def read(path: Path) -> list[Cancellation]:
    """Return what is in a log of theirs, in its order; none when there is no log."""
    lines = path.read_text().splitlines() if path.exists() else []
    return [Cancellation(**json.loads(line)) for line in lines if line.startswith('{"word"')]
