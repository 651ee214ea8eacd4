"""A thousand published sales, fifty of them open at once: each is right, and none holds up another."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import timedelta

import httpx
import pytest
from django.core.management import call_command
from django.utils import timezone

from sales import purchases, store
from sales.audit import audit
from sales.batcher import Batcher
from sales.models import Sale
from sales.orders import consumer_name, run_once
from tests.conftest import MakeSale
from tests.servers import WebServer

pytestmark = pytest.mark.django_db(transaction=True)

PUBLISHED, ACTIVE = 1_000, 50
STOCK, SHOPPERS = 5, 12
CROWD = 4 * purchases.LARGEST_BATCH


@pytest.fixture
def thousand_sales(transactional_db: None) -> list[Sale]:
    """Fifty are open, the others are over or to come."""
    now, hour = timezone.now(), timedelta(hours=1)
    windows = [(now - hour, now + hour)] * ACTIVE
    rest = PUBLISHED - ACTIVE
    windows += [(now - 2 * hour, now - hour) if number % 2 else (now + hour, now + 2 * hour) for number in range(rest)]
    Sale.objects.bulk_create(
        Sale(
            id=1_000_000 + number,
            name=f"Widget {number}",
            slug=f"widget-{number}",
            total_stock=STOCK,
            starts_at=starts_at,
            ends_at=ends_at,
        )
        for number, (starts_at, ends_at) in enumerate(windows)
    )
    call_command("publish_sales")
    return list(Sale.objects.order_by("id"))


@pytest.mark.long
def test_each_of_fifty_open_sales_among_a_thousand_is_right(
    server: WebServer, thousand_sales: list[Sale], seen: Callable[[], None]
):
    active = thousand_sales[:ACTIVE]
    asked = [(sale, f"shopper-{number}") for sale in active for number in range(SHOPPERS)] * 2
    random.Random(1).shuffle(asked)
    codes: dict[str, Counter[str]] = {sale.slug: Counter() for sale in active}
    statuses: dict[str, str] = {}

    async def buy(client: httpx.AsyncClient, sale: Sale, user_id: str) -> None:
        answer = await client.post(f"/api/sales/{sale.slug}/purchase", json={"userId": user_id})
        codes[sale.slug][answer.json()["code"]] += 1

    async def look(client: httpx.AsyncClient, sale: Sale) -> None:
        answer = (await client.get(f"/api/sales/{sale.slug}/status")).json()
        statuses[answer["slug"]] = answer["status"]

    async def crowd() -> None:
        limits = httpx.Limits(max_connections=32)
        async with httpx.AsyncClient(base_url=server.url, limits=limits, timeout=120) as client:
            await asyncio.gather(*(buy(client, *pair) for pair in asked))
            await asyncio.to_thread(seen)
            await asyncio.gather(*(look(client, sale) for sale in thousand_sales))

    asyncio.run(crowd())
    while run_once(consumer_name()):
        pass

    decided = "purchased", "already_purchased", "sold_out"
    for sale in active:
        told = codes[sale.slug]
        assert (told["purchased"], told.total(), set(told) - set(decided)) == (STOCK, 2 * SHOPPERS, set())
        result = audit(sale)
        assert (result.drift, result.purchases, result.remaining_stock) == ({}, STOCK, 0)
    assert statuses == {
        sale.slug: "sold_out" if number < ACTIVE else "ended" if number % 2 else "upcoming"
        for number, sale in enumerate(thousand_sales)
    }


def batches_before(busy: Sale, quiet: Sale, *group: Callable[[purchases.Attempt], int]) -> int:
    """Return how many batches go before an attempt in a quiet sale that comes after a busy one's crowd."""
    sizes: list[int] = []
    waited: list[int] = []

    async def decide(batch: Sequence[purchases.Attempt]) -> Sequence[purchases.Purchase | store.Failure]:
        answers = await purchases._decide(batch)
        if any(attempt.sale_id == quiet.id for attempt in batch):
            waited.append(len(sizes))
        sizes.append(len(batch))
        return answers

    async def crowd() -> None:
        batcher = Batcher(decide, purchases.LARGEST_BATCH, None, *group)
        attempts = [purchases.Attempt(busy.id, f"shopper-{number}", "") for number in range(CROWD)]
        attempts.append(purchases.Attempt(quiet.id, "ada", ""))
        await asyncio.gather(*(batcher.submit(attempt, time.monotonic() + 300) for attempt in attempts))

    asyncio.run(crowd())
    (found,) = waited
    return found


def test_a_crowd_in_one_sale_does_not_hold_up_another(make_sale: MakeSale):
    busy, quiet = make_sale(name="Busy"), make_sale(name="Quiet")

    assert batches_before(busy, quiet, purchases._sale_of) == 0


def test_control_without_turns_the_other_sale_waits(make_sale: MakeSale):
    busy, quiet = make_sale(name="Busy"), make_sale(name="Quiet")

    assert batches_before(busy, quiet) == CROWD // purchases.LARGEST_BATCH


async def test_attempts_and_lookups_take_turns_by_sale():
    server = store.place(1)

    for batcher in (purchases._attempts()[server], purchases._searches()[server]):
        assert batcher._group == purchases._sale_of
