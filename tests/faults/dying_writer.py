"""Run an order writer that kills itself at one step of one batch: `python dying_writer.py STEP NUMBER`."""

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

import django

django.setup()

import redis  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db.backends.base.base import BaseDatabaseWrapper  # noqa: E402

from sales import orders  # noqa: E402

STEPS: dict[str, tuple[Any, str]] = {
    "insert": (orders, "insert"),
    "commit": (BaseDatabaseWrapper, "commit"),
    "acknowledge": (redis.Redis, "xack"),
}
fatal_step, fatal_batch = sys.argv[1], int(sys.argv[2])
batches = 0


def watched(step: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return `function`, but at the fatal step of the fatal batch it kills this process instead."""

    def call(*args: Any, **kwargs: Any) -> Any:
        global batches
        if step == "insert" and args[0]:  # a batch without entries is none
            batches += 1
        if step == fatal_step and batches == fatal_batch:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **kwargs)

    return call


for step, (place, name) in STEPS.items():
    setattr(place, name, watched(step, getattr(place, name)))
call_command("write_orders")
