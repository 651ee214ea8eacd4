"""A plugin of coverage.py: web workers keep what they counted, too. uvicorn ends them by the signal they were sent."""

import signal
from typing import Any

from coverage import Coverage


def coverage_init(registry: object, options: dict[str, Any]) -> None:
    """Save before a process sends itself a signal. coverage.py calls this in each process that it measures."""
    raise_signal = signal.raise_signal

    def saved_first(number: int) -> None:
        if coverage := Coverage.current():
            coverage.stop()
            coverage.save()
        raise_signal(number)

    signal.raise_signal = saved_first
