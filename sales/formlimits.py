"""How often a form of Django's may be sent: counted in Redis by django-ratelimit, over all workers."""

from collections.abc import Callable, Mapping

from django.conf import settings
from django.http import HttpRequest
from django_ratelimit.core import get_usage

from sales import email_codes, shoppers
from sales.addresses import address_of
from sales.models import Sale

Rate = str | Callable[[str, HttpRequest], str | None]
Key = Callable[[str, HttpRequest], str]
# A rate as django-ratelimit takes it, and what is counted.
Limits = Mapping[str, tuple[Rate, Key]]


def by_address(rate: str, key: Key = lambda group, request: address_of(request)) -> tuple[Rate, Key]:
    """Return a limit of what `key` makes of the client's address. Where ADDRESS_RATE is off it limits nobody: the
    address there is that of a proxy, from which all come."""
    return lambda group, request: rate if settings.ADDRESS_RATE else None, key


def wait_seconds(request: HttpRequest, form: str, limits: Limits) -> int:
    """Count one sending of `form` against its limits, up to one that is used up; return 0, or the seconds to wait.

    The narrow ones come first: what one of them refuses uses up nothing of a wider one, which others share.
    Raises store.RedisError when it cannot be counted: the caller then refuses, so that nobody is unlimited.
    """
    waits = (_wait_seconds(request, f"{form}:{name}", rate, key) for name, (rate, key) in limits.items())
    return next(filter(None, waits), 0)


def _wait_seconds(request: HttpRequest, group: str, rate: Rate, key: Key) -> int:
    usage = get_usage(request, group=group, key=key, rate=rate, increment=True)
    return max(1, usage["time_left"]) if usage and usage["should_limit"] else 0


def code_wait_seconds(request: HttpRequest, address: str) -> int:
    """Count a wish for a code to an e-mail address, as `wait_seconds` does. The mailbox is counted, whoever asks and in
    whatever spelling: it is what would be flooded. Beyond its limit one more mail goes out whenever no code is valid:
    nobody keeps the owner from having one."""
    if wait := wait_seconds(request, "send_code", {"address": by_address("10/10m")}):
        return wait
    of_mailbox = {"mailbox": ("5/h", lambda group, request: shoppers.mailbox(address))}
    wait = wait_seconds(request, "send_code", of_mailbox)
    return min(wait, email_codes.begin_mail(address, is_last=bool(wait)))


def redeem_wait_seconds(request: HttpRequest) -> int:
    """Count a code that is given, as `wait_seconds` does. The tries at each mailbox's code are counted with it."""
    return wait_seconds(request, "redeem_code", {"address": by_address("30/10m")})


def find_wait_seconds(request: HttpRequest, guessed: str) -> int:
    """Count a look for an order, as `wait_seconds` does. `guessed` says whose code may be guessed by it; "" when it
    needs none. That limit is five addresses' tries, so that no one address locks the buyer out; by it somebody guesses
    one code 1 time in 7 million days."""
    limits = {"address": by_address("20/m")}
    if guessed:
        limits["name"] = "100/m", lambda group, request: guessed
    return wait_seconds(request, "find_order", limits)


def link_wait_seconds(request: HttpRequest) -> int:
    """Count a wish for a mail with the link to an order, as `wait_seconds` does."""
    return wait_seconds(request, "mail_link", {"address": by_address("10/10m")})


def may_mail_link(request: HttpRequest, sale: Sale, address: str) -> bool:
    """Count a mail with the link to an order, and return whether its owner's mailbox has not had enough of them. Only
    those that really go out are counted: nobody uses them up before there is an order."""
    of_mailbox = f"{sale.pk} {shoppers.mailbox(address)}"
    return not wait_seconds(request, "mailed_link", {"mailbox": ("3/h", lambda group, request: of_mailbox)})
