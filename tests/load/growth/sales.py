"""What a purchase costs when many sales are open at once."""

from typing import Any

from tests.load.bench.contenders import FlashSale
from tests.load.bench.measure import measure

STEPS = (1, 10, 100, 1_000)
CONNECTIONS, SECONDS, ROUNDS = 256, 2, 3

CREATE = """
from datetime import timedelta
from django.utils import timezone
from sales import publishing
from sales.models import Sale
now = timezone.now()
for number in range({first}, {last}):
    sale = Sale.objects.create(name=f"sale {{number}}", slug=f"sale-{{number}}", total_stock=1_000_000_000,
                               starts_at=now, ends_at=now + timedelta(days=1))
    publishing.publish(sale)
"""


def measure_growth() -> list[dict[str, Any]]:
    """Return the cost of a purchase while so many sales are open: all load on one of them, or spread over all."""
    points = []
    with FlashSale() as flashsale:
        measure(flashsale, "winning", CONNECTIONS, 1)  # warm
        created = 0
        for count in STEPS:
            flashsale.manage("shell", "-c", CREATE.format(first=created, last=count))
            created = count
            one = [measure(flashsale, "winning", CONNECTIONS, SECONDS) for _ in range(ROUNDS)]
            spread = [measure(flashsale, "winning", CONNECTIONS, SECONDS, sales=count) for _ in range(ROUNDS)]
            for is_spread, found in ((False, one), (True, spread)):
                points += [{"sales": count, "spread": is_spread, **run.as_json()} for run in found]
                costs = ", ".join(f"{run.server_us:.0f} + {run.redis_us:.1f}" for run in found)
                print(f"  {count:5} sales{' spread' * is_spread}: server + Redis {costs} us", flush=True)
    return points
