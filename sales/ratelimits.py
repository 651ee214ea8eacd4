"""How often one client address may ask the lane, and how an answer tells of a limit.

The generic cell rate algorithm, in each worker: a share is whole again when nothing was asked for as long as its
requests are worth. A shopper's own limit is the same in `lua/purchase.lua`, over all workers.
"""

import math
import time
from typing import NamedTuple

from django.conf import settings

from flashsale.rates import Rate

# More addresses than this within two periods have a fresh start, so that a flood cannot fill the memory.
MOST_ADDRESSES = 100_000
_SECOND_NS = 10**9


class Quota(NamedTuple):
    """What is left to a client under the limit `policy`: `requests` at once, and one more in `seconds`."""

    policy: str
    rate: Rate
    requests: int
    seconds: int


class _Shares:
    """When the share of each address is whole again.

    That is at most a period after its last request, so that who has asked in neither of two periods is forgotten.
    """

    def __init__(self) -> None:
        self.ends_ns = self.step_ns = self.most_ahead_ns = 0
        self.whole_ns: dict[str, int] = {}
        self.whole_ns_before: dict[str, int] = {}

    def begin_period(self, now_ns: int, rate: Rate) -> None:
        period_ns = rate.period_seconds * _SECOND_NS
        self.ends_ns, self.step_ns = now_ns + period_ns, max(1, period_ns // rate.limit)
        self.most_ahead_ns = (rate.limit - 1) * self.step_ns
        self.whole_ns, self.whole_ns_before = {}, self.whole_ns


_shares = _Shares()


def address_refusal(address: str) -> Quota | None:
    """Count one request of `address` in this worker; return None, or what to tell it when it had its share."""
    rate = settings.ADDRESS_RATE
    if rate is None:
        return None
    now_ns, shares = time.monotonic_ns(), _shares
    if now_ns >= shares.ends_ns or len(shares.whole_ns) >= MOST_ADDRESSES // 2:
        shares.begin_period(now_ns, rate)
    ahead_ns = (shares.whole_ns.get(address) or shares.whole_ns_before.get(address, 0)) - now_ns
    if ahead_ns > shares.most_ahead_ns:
        return Quota("address", rate, 0, math.ceil((ahead_ns - shares.most_ahead_ns) / _SECOND_NS))
    shares.whole_ns[address] = now_ns + shares.step_ns + (ahead_ns if ahead_ns > 0 else 0)
    return None


def headers(quota: Quota | None) -> dict[str, str]:
    """Return the header fields that tell of a limit (draft-ietf-httpapi-ratelimit-headers-11); none without one."""
    if quota is None:
        return {}
    return {
        "RateLimit-Policy": f'"{quota.policy}";q={quota.rate.limit};w={quota.rate.period_seconds}',
        "RateLimit": f'"{quota.policy}";r={quota.requests};t={quota.seconds}',
    }
