"""The purchase script, called as a web worker calls it, without a web worker."""

from collections.abc import Sequence
from typing import Any

from sales import purchases, store

# Of the only sale that a contender has.
SALE_ID = 1


def command(sha: str, run_id: str, user_ids: Sequence[str], limit: int = 0, period_us: int = 0) -> tuple[Any, ...]:
    """Return the words of one call that decides an attempt of each shopper, who may make `limit` in `period_us`, or any
    number when it is 0. Each has an idempotency key."""
    keys = [store.key(SALE_ID, name) for name in purchases.KEYS]
    if limit:
        keys += [store.key(SALE_ID, f"ratelimit:{user_id}") for user_id in user_ids]
    words = [word for user_id in user_ids for word in (user_id, purchases.digest(user_id))]
    return "EVALSHA", sha, len(keys), *keys, run_id, "", limit, period_us, *words
