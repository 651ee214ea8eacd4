"""Cancel random orders, as operators do, until told to stop: `python canceller.py SEED STEP NUMBER`.

One line of JSON is printed for each order: before it is cancelled, once SQL has it, and once Redis has taken it. With a
STEP it kills itself as it comes to it with its NUMBERth order, or with the next if another process, an operator's or
the order writer, has had Redis take that one before; "" for none.
"""

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

import django

django.setup()

from django.contrib.auth.models import User  # noqa: E402
from django.db import DatabaseError, close_old_connections  # noqa: E402
from django.db.models import QuerySet  # noqa: E402

from sales import cancelling, publishing, store  # noqa: E402
from sales.models import Order  # noqa: E402

PAUSE_SECONDS = 0.02
MAY_BUY_AGAIN = 0.8

STEPS: dict[str, tuple[Any, str]] = {
    "redis": (store, "run_script_blocking"),
    "settled": (QuerySet, "update"),
}
seed, fatal_step, fatal_number = sys.argv[1], sys.argv[2], int(sys.argv[3])
rng = random.Random(seed)
taken_up = 0


def watched(step: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return `function`, but at the fatal step, from the fatal order on, it kills this process instead."""

    def call(*args: Any, **kwargs: Any) -> Any:
        if step == fatal_step and taken_up >= fatal_number:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **kwargs)

    return call


def tell(word: str, order: Order, may_buy_again: bool) -> None:
    fields = {"order_id": order.order_id, "user_id": order.user_id, "may_buy_again": may_buy_again}
    print(json.dumps({"word": word, "at": time.monotonic(), **fields}), flush=True)


def pick() -> Order | None:
    """Return one of the valid orders, a recent one more often: its shopper may still be there."""
    newest = list(Order.objects.filter(cancelled_at=None).order_by("-id")[:100])
    return rng.choice(newest) if newest else None


def cancel_one(user: User) -> None:
    global taken_up
    if not (order := pick()):
        return
    may_buy_again = rng.random() < MAY_BUY_AGAIN
    tell("begun", order, may_buy_again)
    cancelling.cancel(order, user, may_buy_again=may_buy_again)
    tell("saved", order, may_buy_again)
    taken_up += 1
    cancelling.enforce(order.sale)
    tell("enforced", order, may_buy_again)


for step, (place, name) in STEPS.items():
    setattr(place, name, watched(step, getattr(place, name)))
operator, _ = User.objects.get_or_create(username="canceller")
while True:
    try:
        cancel_one(operator)
    except (DatabaseError, store.Unavailable, publishing.NotPublished, cancelling.AlreadyCancelled):
        close_old_connections()
    time.sleep(PAUSE_SECONDS)
