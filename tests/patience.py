"""How long tests wait for Redis and SQL that are not about it: a busy machine may take long, and that is no failure."""

from functools import partial
from typing import Any

from django.conf import settings

from sales import attempts, closures, gauges, health, purchases, snapshots

SECONDS = 20.0
# Each of them bounds how long the product waits, and says after that that something is away.
LIMITS: list[tuple[Any, str, Any]] = [
    (purchases, "ANSWER_WITHIN_SECONDS", SECONDS),
    (purchases, "_count", partial(attempts.count, within_seconds=SECONDS)),
    (snapshots, "READ_WITHIN_SECONDS", SECONDS),
    (closures, "COMPARED_WITHIN_SECONDS", SECONDS),
    (health, "CHECK_WITHIN_SECONDS", SECONDS),
    (gauges, "READ_WITHIN_SECONDS", SECONDS),
    (attempts, "LEAVE_WITHIN_SECONDS", SECONDS),
]
_cache: Any = settings.CACHES["default"]
_cache["OPTIONS"].update(SOCKET_CONNECT_TIMEOUT=SECONDS, SOCKET_TIMEOUT=SECONDS)
