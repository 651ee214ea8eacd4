"""What a worker knows of the sales: read once for all who ask, and never older than 250 ms."""

import asyncio
import time
from collections import Counter
from typing import Any

import pytest

from sales import closures, publishing, snapshots, store
from sales.models import Sale
from tests.conftest import STALE_AFTER_SECONDS, MakeSale

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count what Redis is asked by the keys' names, and the exchanges."""
    counted: Counter[str] = Counter()

    async def count(*commands: Any) -> Any:
        counted["exchanges"] += 1
        counted.update(command[-1].rpartition(":")[2] for command in commands)
        return await original(*commands)

    original = store.ask
    monkeypatch.setattr(store, "ask", count)
    return counted


@pytest.fixture
def _stays_fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing that was read grow old in the test's time, however busy the machine is."""
    monkeypatch.setattr(snapshots, "REFRESH_AFTER_SECONDS", 60)
    monkeypatch.setattr(snapshots, "OLDEST_SECONDS", 60)


def shop(make_sale: MakeSale, count: int) -> list[str]:
    return [make_sale(name=f"Widget {number}", slug=f"widget-{number}").slug for number in range(count)]


@pytest.mark.usefixtures("_stays_fresh")
def test_sales_asked_one_after_another_are_read_once(make_sale: MakeSale, asked: Counter[str]):
    slugs = shop(make_sale, 30)

    async def crawl() -> list[str]:
        return [sale.slug for slug in slugs if (sale := await snapshots.find(slug))]

    assert asyncio.run(crawl()) == slugs
    # The current sale is read once more by who finds no directory yet.
    assert asked["config"] <= len(slugs) + 1


@pytest.mark.usefixtures("_stays_fresh")
def test_simultaneous_requests_share_a_read(make_sale: MakeSale, asked: Counter[str]):
    slugs = shop(make_sale, 30)

    async def crowd() -> int:
        return len(await snapshots.find_all(slugs * 20))

    assert asyncio.run(crowd()) == len(slugs) * 20
    assert asked["config"] <= len(slugs) + 1
    assert asked["exchanges"] <= 4


def test_one_read_is_under_way_at_most(make_sale: MakeSale, monkeypatch: pytest.MonkeyPatch):
    slugs = shop(make_sale, 30)
    under_way, most = 0, 0

    async def watch(sale_ids: Any) -> Any:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.01)
        try:
            return await original(sale_ids)
        finally:
            under_way -= 1

    async def come_and_go() -> None:
        async with asyncio.TaskGroup() as group:
            for slug in slugs:
                group.create_task(snapshots.find(slug))
                await asyncio.sleep(0.002)

    original = closures.ask
    monkeypatch.setattr(closures, "ask", watch)

    asyncio.run(come_and_go())

    assert most == 1


def test_addresses_of_no_sale_are_neither_read_each_nor_kept(open_sale: Sale, asked: Counter[str]):
    async def guess() -> tuple[float, int]:
        started = time.monotonic()
        for number in range(2_000):
            assert await snapshots.find(f"guess-{number}") is None
            await asyncio.sleep(0)
        reader = snapshots._reader()
        return time.monotonic() - started, len(reader._seen) + len(reader._reads)

    seconds, kept = asyncio.run(guess())

    assert asked["directory"] <= seconds / snapshots.REFRESH_AFTER_SECONDS + 1
    assert kept <= 2


def test_a_busy_sale_does_not_make_another_one_stale(make_sale: MakeSale):
    quiet, busy = make_sale(name="Quiet"), make_sale(name="Busy")

    async def ask() -> tuple[str, str]:
        before = await snapshots.find(quiet.slug)
        await asyncio.to_thread(rename, quiet)
        until = time.monotonic() + STALE_AFTER_SECONDS
        while time.monotonic() < until:
            await snapshots.find(busy.slug)
            await asyncio.sleep(0.02)
        after = await snapshots.find(quiet.slug)
        assert before
        assert after
        return before.product_name, after.product_name

    assert asyncio.run(ask()) == ("Quiet", "Renamed")


def rename(sale: Sale) -> None:
    store.client().hset(store.key(sale.id, "config"), "product_name", "Renamed")


def test_a_hidden_sale_disappears_despite_a_busy_one(make_sale: MakeSale):
    hidden, busy = make_sale(name="Hidden"), make_sale(name="Busy")

    async def ask() -> list[bool]:
        found = [await snapshots.find(hidden.slug) is not None]
        hidden.published = False
        await hidden.asave()
        await asyncio.to_thread(publishing.publish, hidden)
        until = time.monotonic() + STALE_AFTER_SECONDS
        while time.monotonic() < until:
            await snapshots.find(busy.slug)
            await asyncio.sleep(0.02)
        return [*found, await snapshots.find(hidden.slug) is not None]

    assert asyncio.run(ask()) == [True, False]


def test_a_reassigned_address_shows_its_new_sale(make_sale: MakeSale):
    first, second = make_sale(name="First"), make_sale(name="Second")

    async def ask() -> list[int]:
        found = [await snapshots.find(first.slug)]
        line = store.client().hget(store.DIRECTORY, second.slug)
        store.client().hset(store.DIRECTORY, first.slug, line)
        await asyncio.sleep(STALE_AFTER_SECONDS)
        found.append(await snapshots.find(first.slug))
        return [sale.id for sale in found if sale]

    assert asyncio.run(ask()) == [first.id, second.id]


def test_a_sale_that_is_opened_again_is_open_at_once(open_sale: Sale):
    config = store.key(open_sale.id, "config")

    async def look() -> snapshots.Snapshot | None:
        with pytest.raises(store.Unavailable, match="lost the details"):
            await snapshots.find(open_sale.slug)
        store.client().hset(config, "published", "1")
        return await snapshots.find(open_sale.slug)

    store.client().hset(config, "published", "0")

    assert asyncio.run(look())


def test_unrequested_sales_are_forgotten(make_sale: MakeSale, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(snapshots, "FORGET_AFTER_SECONDS", 600)
    slugs = shop(make_sale, 20)

    async def ask() -> tuple[int, set[str]]:
        await snapshots.find_all(slugs)
        known = len(snapshots._reader()._seen)
        monkeypatch.setattr(snapshots, "FORGET_AFTER_SECONDS", 0)
        async with asyncio.timeout(60):
            while len(snapshots._reader()._seen) > 1:
                await asyncio.sleep(0.05)
                await snapshots.find(slugs[0])
        return known, set(snapshots._reader()._seen)

    known, left = asyncio.run(ask())

    assert known == len(slugs)
    assert left == {slugs[0]}


def test_an_idle_worker_asks_nothing_of_redis(open_sale: Sale, asked: Counter[str]):
    async def ask_and_rest() -> tuple[int, int]:
        await snapshots.find()
        while reads := list(snapshots._reader()._reads.values()):  # on a busy machine it has begun one more
            await asyncio.wait(reads)
        before = asked.total()
        await asyncio.sleep(5 * snapshots.REFRESH_AFTER_SECONDS)
        return before, asked.total()

    before, after = asyncio.run(ask_and_rest())

    assert before == after > 0
