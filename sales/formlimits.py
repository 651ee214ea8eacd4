"""How often a form of Django's may be sent: counted in Redis by django-ratelimit, over all workers."""

from collections.abc import Callable, Mapping

from django.http import HttpRequest
from django_ratelimit.core import get_usage

# A rate as django-ratelimit writes it, and what is counted.
Limits = Mapping[str, tuple[str, Callable[[str, HttpRequest], str]]]


def wait_seconds(request: HttpRequest, form: str, limits: Limits) -> int:
    """Count one sending of `form` against each of its limits; return 0, or the seconds to wait.

    Raises store.RedisError when it cannot be counted: the caller then refuses, so that nobody is unlimited.
    """
    return max(_wait_seconds(request, f"{form}:{name}", rate, key) for name, (rate, key) in limits.items())


def _wait_seconds(request: HttpRequest, group: str, rate: str, key: Callable[[str, HttpRequest], str]) -> int:
    usage = get_usage(request, group=group, key=key, rate=rate, increment=True)
    return max(1, usage["time_left"]) if usage and usage["should_limit"] else 0
