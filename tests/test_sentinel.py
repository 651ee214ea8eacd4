"""A master with replicas that sentinels watch: it dies while shoppers buy."""

import time
from collections.abc import Iterator

import pytest

from tests.redis_servers import WatchedMaster, wait_until
from tests.shops import Shop, SoldSale, check, shoppers, stop

pytestmark = pytest.mark.long

FAILS_OVER_WITHIN_SECONDS = 120.0


@pytest.fixture(scope="module")
def watched() -> Iterator[WatchedMaster]:
    with WatchedMaster() as watched:
        yield watched


@pytest.fixture(scope="module")
def shop(watched: WatchedMaster) -> Iterator[Shop]:
    with Shop(watched.url, count=2) as shop:
        yield shop


@pytest.fixture(scope="module")
def sales(shop: Shop, watched: WatchedMaster) -> list[SoldSale]:
    return shop.sold_sales(watched)


@pytest.fixture
def busy(sales: list[SoldSale]) -> Iterator[None]:
    with shoppers(sales, threads=5):
        yield


@pytest.mark.usefixtures("busy")
def test_the_web_servers_find_the_master_that_takes_over(watched: WatchedMaster, shop: Shop, sales: list[SoldSale]):
    master = watched.master()

    master.kill()
    killed = time.monotonic()
    assert shop.metrics()["flashsale_up"]["redis"] == 0
    wait_until(lambda: watched.master() is not master, "a replica is promoted", FAILS_OVER_WITHIN_SECONDS)
    wait_until(lambda: watched.master().is_master, "it takes writes")
    for sale in sales:
        sale.find_loss(killed)
    # Copying to replicas is asynchronous: what was on its way may be gone, but not unnoticed.
    shop.restore(sale.slug for sale in sales if sale.loss)
    shop.wait_until_open(shop.sale_ids)
    opened = time.monotonic()
    wait_until(lambda: all(sale.bought_since(opened) for sale in sales), "they sell on")

    stop(sales)
    check(sales)
    wait_until(lambda: shop.health()["status"] == "ok", "all is well")
    metrics = shop.metrics()
    assert metrics["flashsale_units_sold"] == {sale.slug: len(sale.purchases()) for sale in sales}
    assert metrics["flashsale_redis_memory_used_bytes"].keys() == {"Redis"}
    assert set(metrics["flashsale_redis_durable"].values()) == {1}
    # Counted through django-redis, which has found it, too; eleven, because a quarter of an hour may end in between.
    assert 429 in shop.sign_in("ada", times=11)
    master.start()
    wait_until(lambda: len(watched.replicas()) == 2, "the old master is a replica")


@pytest.mark.usefixtures("busy")
def test_a_failovers_loss_is_found_and_closes_the_sales(watched: WatchedMaster, shop: Shop, sales: list[SoldSale]):
    master = watched.master()
    for replica in watched.replicas():
        replica.lose_link()
    cut = time.monotonic()
    wait_until(lambda: all(sale.bought_since(cut) for sale in sales), "some have bought what no replica has")

    master.kill()
    killed = time.monotonic()
    wait_until(lambda: watched.master() is not master, "a replica is promoted", FAILS_OVER_WITHIN_SECONDS)
    wait_until(lambda: watched.master().is_master, "it takes writes")
    promoted = time.monotonic()
    for sale in sales:
        sale.find_loss(killed)

    assert all(sale.loss for sale in sales)
    wait_until(lambda: not any(shop.is_open(sale.slug) for sale in sales), "the sales are closed")
    for sale in sales:
        sale.check_named()
    assert not [sale.slug for sale in sales if shop.is_open(sale.slug) or sale.bought_since(promoted)]
    shop.restore(shop.sale_ids)
    assert all(sale.loss.lost <= sale.purchases() for sale in sales if sale.loss)
    shop.wait_until_open(shop.sale_ids)
    opened = time.monotonic()
    wait_until(lambda: all(sale.bought_since(opened) for sale in sales), "they sell on")
    stop(sales)
    check(sales)
