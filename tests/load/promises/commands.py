"""How long one command of ours keeps Redis from shoppers, however large a sale is."""

import itertools

from tests.load.promises.promise import promised
from tests.load.promises.shops import Shop, plain, seconds_until

ORDERS = 5_000
# What takes less is not looked at. The log is longer than all that does not.
LOGGED_FROM_US, LOG_ENTRIES = 500, 100_000
_numbers = itertools.count(1)

_BUY_ALL = """
import asyncio
from sales import purchases
async def buy_all():
    names = [f"shopper-{{number}}@example.com" for number in range({orders})]
    await asyncio.gather(*(purchases.buy({sale_id}, name, f"key of {{name}}") for name in names))
asyncio.run(buy_all())
"""
_CANCEL_ALL = """
from django.utils import timezone
from sales.models import Order
Order.objects.filter(sale_id={sale_id}).update(cancelled_at=timezone.now(), cancellation_due=True)
"""


@promised(
    f"No command about a sale of {ORDERS:,} orders keeps its shoppers waiting",
    "docs/redis.md",
    within=0.005,
    on=plain,
    rounds=3,
)
def longest_command(shop: Shop) -> float:
    """Write orders, compare them, cancel those of one sale, archive another; return what Redis says took longest."""
    shop.redis.config_set("slowlog-log-slower-than", LOGGED_FROM_US)
    shop.redis.config_set("slowlog-max-len", LOG_ENTRIES)
    number = next(_numbers)
    cancelled, archived = (_sold(shop, f"{fate}-{number}") for fate in ("cancelled", "archived"))
    shop.redis.slowlog_reset()  # of the purchases, which are the shoppers' own
    seconds_until(lambda: _orders(shop, cancelled) == _orders(shop, archived) == ORDERS)
    shop.manage("audit_sale", f"cancelled-{number}")
    _run(shop, _CANCEL_ALL, cancelled)
    seconds_until(lambda: not shop.redis.hlen(f"{{sale:{cancelled}}}:purchases"))
    shop.operator.take(archived, "end")
    shop.manage("archive_sale", f"archived-{number}")
    return max((entry["duration"] for entry in shop.redis.slowlog_get(LOG_ENTRIES)), default=LOGGED_FROM_US) / 1e6


def _sold(shop: Shop, slug: str) -> int:
    """Return the ID of a sale in which all is sold, with an idempotency key for each order."""
    sale_id = shop.sale(slug, stock=ORDERS)
    _run(shop, _BUY_ALL, sale_id)
    assert shop.redis.hlen(f"{{sale:{sale_id}}}:purchases") == ORDERS
    return sale_id


def _run(shop: Shop, script: str, sale_id: int) -> None:
    shop.manage("shell", "--no-imports", "-c", script.format(sale_id=sale_id, orders=ORDERS))


def _orders(shop: Shop, sale_id: int) -> int:
    """Return how many orders of a sale are in SQL."""
    ((count,),) = shop.database.query("SELECT count(*) FROM sales_order WHERE sale_id = %s", sale_id)
    return count
