"""Says in the log that Redis fails: the first time, and once a minute while it goes on, however many ask."""

import logging
import time
from math import inf

from sales.store.failures import Archived, Failure

AGAIN_AFTER_SECONDS = 60.0
# The texts name addresses: of a cluster that changes all the time not every one is remembered.
MOST_REMEMBERED = 100
# What our own scripts say of a sale. Whoever closed it has said so.
_OF_SCRIPTS = ("NOTMIRRORED", "CLOSED", "UNCHECKED", "NOLIST")

log = logging.getLogger(__name__)
_told_at: dict[str, float] = {}


def noted(failure: Failure) -> Failure:
    """Return the failure, after the log has it."""
    # Which script it was does not matter: all of them meet the same trouble.
    text = str(failure).partition(" script: ")[0]
    now = time.monotonic()
    if now - _told_at.get(text, -inf) >= AGAIN_AFTER_SECONDS and not _is_of_script(failure, text):
        if len(_told_at) >= MOST_REMEMBERED:
            _told_at.clear()
        _told_at[text] = now
        log.warning("%s", text)
    return failure


def _is_of_script(failure: Failure, text: str) -> bool:
    return isinstance(failure, Archived) or text.removeprefix("Redis refused: ").startswith(_OF_SCRIPTS)
