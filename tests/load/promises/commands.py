"""How long one command of ours keeps Redis from everybody else, however large a sale is."""

import itertools
from concurrent.futures import ThreadPoolExecutor

from tests.load.promises.promise import promised
from tests.load.promises.shops import Shop, plain, seconds_until

ORDERS, SHOPPERS_AT_ONCE = 5_000, 16
# What takes less is not looked at.
LOGGED_FROM_US = 500
_numbers = itertools.count(1)

_CANCEL_ALL = """
from django.utils import timezone
from sales.models import Sale
sale = Sale.objects.get(slug={slug!r})
sale.orders.update(cancelled_at=timezone.now(), cancellation_due=True)
"""


@promised(
    f"No command keeps Redis from others, in a sale of {ORDERS:,} orders",
    "docs/redis.md",
    within=0.005,
    on=plain,
    rounds=3,
)
def longest_command(shop: Shop) -> float:
    """Buy, compare, cancel all and archive; return what Redis says of the longest command."""
    slug = f"large-{next(_numbers)}"
    sale_id = shop.sale(slug, stock=ORDERS)
    shop.redis.config_set("slowlog-log-slower-than", LOGGED_FROM_US)
    shop.redis.slowlog_reset()
    with ThreadPoolExecutor(SHOPPERS_AT_ONCE) as threads:
        list(threads.map(lambda _: shop.sell(slug), range(ORDERS)))
    all_of_them = "SELECT 1 FROM sales_order WHERE sale_id = %s LIMIT 1 OFFSET %s"
    seconds_until(lambda: shop.database.query(all_of_them, sale_id, ORDERS - 1))
    shop.manage("audit_sale", slug)
    shop.manage("shell", "--no-imports", "-c", _CANCEL_ALL.format(slug=slug))
    seconds_until(lambda: not shop.redis.hlen(f"{{sale:{sale_id}}}:purchases"))
    shop.operator.take(sale_id, "end")
    shop.manage("archive_sale", slug)
    return max((entry["duration"] for entry in shop.redis.slowlog_get(1_000)), default=LOGGED_FROM_US) / 1e6
