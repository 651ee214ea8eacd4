"""A Redis Cluster: ten sales on three masters, a slot that moves, and masters that die, while shoppers buy."""

import json
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pytest_django import Settings
from redis.crc import key_slot

from flashsale.redis_address import parse_redis_address
from sales.store.cluster import Cluster
from tests.faults.load import Client
from tests.redis_servers import Node, RedisCluster, wait_until
from tests.shops import Shop, SoldSale, check, shoppers, stop

pytestmark = pytest.mark.long

SALES = 10
FAILS_OVER_WITHIN_SECONDS = 60.0
# Of the directory of sales.
DIRECTORY_SLOT = key_slot(b"sales")

# What an operator and the site do besides selling: each of it must find the server that holds its keys.
OPERATE = """
import json
import signal
from django.contrib.auth import get_user_model
from django.core.cache import cache
from sales import cancelling, email_codes, live, preflight, publishing, store
from sales.models import Sale
sale = Sale.objects.get(slug="sale-0")
order = sale.valid_orders().first()
cancelling.cancel(order, get_user_model().objects.create_superuser("operator"), may_buy_again=True)
cancelling.enforce(sale)
Sale.objects.filter(pk=sale.pk).update(total_stock=sale.total_stock + 5)
sale.refresh_from_db()
standing = publishing.publish(sale)
cache.set_many({"one": 1, "two": 2})
cache.incr("one")
codes = email_codes._renewed("ada@example.com")
def look_at_failover(needed):
    for client in store.servers().values():
        client.config_set("min-replicas-to-write", needed)
    return preflight.CHECKS["failover"](sale)
print(json.dumps({
    "is_purchase": cancelling.is_purchase(order),
    "added": standing.remaining_stock + standing.sold - sale.total_stock + 5,
    "cached": cache.get_many(["one", "two"]),
    "workers": live.look(sale).stand.workers.alive,
    "is_redeemed": email_codes.redeem("ada@example.com", codes.typed),
    "wrong": [[name, found.reason] for name, check in preflight.CHECKS.items()
              if (found := check(sale)).verdict == "failure"],
    "servers": len(store.servers()),
    "failovers": [look_at_failover(needed) for needed in (0, 1)],
}))
"""

ADD_UNITS = """
from django.db.models import F
from sales import publishing
from sales.models import Sale
found = Sale.objects.filter(slug__in={slugs})
found.update(total_stock=F("total_stock") + 5)
for sale in found:
    publishing.publish(sale)
"""
# Archive sales, and have Redis lose the archives.
ARCHIVE = """
import json
from django.utils import timezone
from sales import archive_mirror, archiving, publishing, store
from sales.audit import audit
from sales.models import Sale
sales = list(Sale.objects.filter(slug__in={slugs}))
for sale in sales:
    sale.ends_at = timezone.now()
    sale.save()
    publishing.publish(sale)
    archiving.archive(sale)
drift = [kind for sale in sales for kind in audit(sale).drift]
for sale in sales:
    store.client().delete(store.key(sale.id, "config"))
archive_mirror.note_lost()
print(json.dumps(drift))
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[RedisCluster]:
    with RedisCluster() as cluster:
        yield cluster


@pytest.fixture(scope="module")
def shop(cluster: RedisCluster) -> Iterator[Shop]:
    with Shop(cluster.url, SALES) as shop:
        yield shop


@pytest.fixture(scope="module")
def sales(shop: Shop, cluster: RedisCluster) -> list[SoldSale]:
    return shop.sold_sales(cluster)


@pytest.fixture
def busy(sales: list[SoldSale]) -> Iterator[None]:
    with shoppers(sales):
        yield


@pytest.mark.usefixtures("busy")
def test_ten_sales_on_three_masters_sell_every_unit_once(shop: Shop, sales: list[SoldSale]):
    stop(sales)

    check(sales)
    assert len({sale.node.port for sale in sales}) == 3
    assert all(sale.bought_since(0) for sale in sales)
    redis = shop.health()["redis"]
    assert (redis["status"], redis["durability"], list(redis["servers"].values())) == ("ok", "ok", ["ok"] * 3)
    # Counted through django-redis; eleven, because a quarter of an hour may end in between.
    assert 429 in shop.sign_in("ada", times=11)
    metrics, sold = shop.metrics(), {sale.slug: len(sale.purchases()) for sale in sales}
    assert metrics["flashsale_units_sold"] == sold
    assert metrics["flashsale_remaining_stock"] == {slug: shop.stock - units for slug, units in sold.items()}
    assert metrics["flashsale_redis_memory_used_bytes"].keys() == redis["servers"].keys()
    assert set(metrics["flashsale_redis_durable"].values()) == {1}


def by_slot(source: Node, target: Node, slot: int, target_id: str, source_id: str) -> None:
    """Move a slot at once, as Valkey 9 does."""
    source.client.execute_command("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", target_id)


def by_key(source: Node, target: Node, slot: int, target_id: str, source_id: str) -> None:
    """Move a slot key by key, as redis-cli does; meanwhile the sale is in two places."""
    target.client.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", source_id)
    source.client.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", target_id)
    while keys := source.client.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 1):
        source.client.execute_command("MIGRATE", "127.0.0.1", target.port, "", 0, 5_000, "KEYS", *keys)
        time.sleep(0.1)
    for node in (target, source):
        node.client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", target_id)


async def test_a_redirected_command_goes_to_the_named_server(cluster: RedisCluster, settings: Settings):
    settings.REDIS_ADDRESS = parse_redis_address(cluster.url)
    lane, key, slot = Cluster(), "{moving}", key_slot(b"moving")
    source = cluster.master_of(slot)
    target = next(node for node in cluster.nodes if node.is_master and node is not source)
    await lane.exchange([("SET", key, "here")])

    target.client.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", cluster.id_of(source))
    source.client.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", cluster.id_of(target))
    source.client.execute_command("MIGRATE", "127.0.0.1", target.port, key, 0, 5_000)
    asked = await lane.exchange([("GET", key), ("GET", key)])
    for node in (target, source):
        node.client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", cluster.id_of(target))
    moved = await lane.exchange([("GET", key)])
    await lane.close()

    assert asked == ([b"here"] * 2, [target.run_id] * 2)
    assert moved == ([b"here"], [target.run_id])
    assert lane.place(key) == ("127.0.0.1", target.port)


@pytest.mark.usefixtures("busy")
@pytest.mark.parametrize("move", [by_slot, by_key])
def test_a_sale_moves_to_another_master_while_it_sells(
    cluster: RedisCluster, shop: Shop, sales: list[SoldSale], move: Callable[..., None]
):
    sale = sales[0]
    source = sale.node
    target = next(other.node for other in sales if other.node is not source)

    move(source, target, sale.slot, cluster.id_of(target), cluster.id_of(source))
    wait_until(lambda: cluster.master_of(sale.slot) is target, "the slot has moved")
    shop.wait_until_open([sale.slug])
    moved = time.monotonic()
    wait_until(lambda: bool(sale.bought_since(moved)), "it sells on")

    stop(sales)
    check(sales)


def die(master: Node) -> None:
    master.kill()


def hang(master: Node) -> None:
    master.process.send_signal(signal.SIGSTOP)


def come_back(master: Node) -> None:
    if master.is_alive:
        master.process.send_signal(signal.SIGCONT)
    else:
        master.start()


@pytest.mark.usefixtures("busy")
def test_a_full_master_closes_only_its_own_sales(shop: Shop, sales: list[SoldSale]):
    master = sales[0].node
    there = {sale.slug for sale in sales if sale.node is master}

    master.client.config_set("maxmemory", 1)
    try:
        wait_until(lambda: shop.health()["redis"].get("closed", {}).keys() == there, "health names its sales")
        told = shop.health()
    finally:
        master.client.config_set("maxmemory", 0)

    wait_until(lambda: shop.health()["status"] == "ok", "all of them sell again")
    assert (told["status"], set(told["redis"]["closed"].values())) == ("degraded", {"Redis refused; the log says why"})
    stop(sales)
    check(sales)


def look_until(is_promoted: Callable[[], bool], shop: Shop) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield what metrics and health's status tell until the replica is promoted, and at least once. The status is ""
    where the replica was promoted while health was asked."""
    deadline = time.monotonic() + FAILS_OVER_WITHIN_SECONDS
    while True:
        status = shop.health()["status"]
        is_over = is_promoted()
        yield shop.metrics(), "" if is_over else status
        if is_over:
            return
        assert time.monotonic() < deadline, "the replica is not promoted"


@pytest.mark.usefixtures("busy")
@pytest.mark.parametrize("end", [die, hang])
def test_a_lost_master_loses_nothing_that_its_replica_has(
    cluster: RedisCluster, shop: Shop, sales: list[SoldSale], end: Callable[[Node], None]
):
    master = cluster.master_of(DIRECTORY_SLOT)  # without it nobody knows which sales there are
    replica = cluster.replica_of(master)
    there = [sale for sale in sales if sale.node is master]
    elsewhere = [sale for sale in sales if sale.node is not master]
    assert len(there) < len(sales)

    end(master)
    killed = time.monotonic()
    told = list(look_until(lambda: replica.is_master, shop))
    promoted = time.monotonic()
    come_back(master)
    wait_until(lambda: not master.is_master, "the old master is a replica")
    for sale in there:
        sale.find_loss(killed)
    shop.wait_until_open([sale.slug for sale in sales if not sale.loss])
    opened = time.monotonic()
    wait_until(lambda: all(sale.bought_since(opened) for sale in sales if not sale.loss), "they sell on")

    stop(sales)
    for metrics, _ in told:  # of the other masters, while this one was away
        assert metrics["flashsale_units_sold"].keys() >= {sale.slug for sale in elsewhere}
        assert len(metrics["flashsale_redis_memory_used_bytes"]) >= 2
        assert set(metrics["flashsale_redis_durable"].values()) == {1}
        assert (metrics["flashsale_up"]["redis"], metrics["flashsale_up"]["writer"]) == (1, 1)
    assert {status for _, status in told} - {""} == {"degraded"}
    # Copying to replicas is asynchronous: what was on its way may be gone, but not unnoticed.
    shop.restore(sale.slug for sale in there if sale.loss)
    check(sales)
    for sale in elsewhere:
        bought = sale.bought_since(killed)
        assert any(answer.began < promoted for answer in bought), sale.slug
        unknown = [answer for answer in sale.load.since(killed) if answer.code == "unknown"]
        assert len(unknown) < len(bought), sale.slug  # some: a busy machine does not answer all in time
    wait_until(cluster.is_whole, "the old master has what the other has")


@pytest.mark.usefixtures("busy")
def test_a_failovers_loss_closes_only_the_affected_sales(cluster: RedisCluster, shop: Shop, sales: list[SoldSale]):
    directory = cluster.master_of(DIRECTORY_SLOT)
    master = next(sale.node for sale in sales if sale.node is not directory)
    replica = cluster.replica_of(master)
    there = [sale for sale in sales if sale.node is master]
    elsewhere = [sale for sale in sales if sale.node is not master]
    replica.lose_link()
    cut = time.monotonic()
    wait_until(lambda: all(sale.bought_since(cut) for sale in there), "some have bought what the replica has not")

    master.kill()
    killed = time.monotonic()
    wait_until(lambda: replica.is_master, "the replica is promoted", FAILS_OVER_WITHIN_SECONDS)
    replica.mend_link()
    promoted = time.monotonic()
    for sale in there:
        sale.find_loss(killed)
    wait_until(lambda: all(sale.bought_since(promoted) for sale in elsewhere), "the others sell on")
    time.sleep(1)

    assert all(sale.loss for sale in there)
    assert not [sale.slug for sale in there if shop.is_open(sale.slug) or sale.bought_since(promoted)]
    for sale in there:
        sale.check_named()
    shop.restore(sale.slug for sale in there)
    assert all(sale.loss.lost <= sale.purchases() for sale in there if sale.loss)
    shop.wait_until_open(shop.sale_ids)
    opened = time.monotonic()
    wait_until(lambda: all(sale.bought_since(opened) for sale in sales), "all sell on")
    stop(sales)
    check(sales)
    master.start()
    wait_until(lambda: not master.is_master and cluster.is_whole(), "the old master is a replica")


@pytest.mark.usefixtures("busy")
def test_operators_and_the_site_find_every_key(cluster: RedisCluster, shop: Shop, sales: list[SoldSale]):
    stop(sales)
    wait_until(lambda: bool(sales[0].orders()), "an order is written")

    found = json.loads(shop.manage("shell", "--no-imports", "-c", OPERATE))
    for node in cluster.nodes:
        node.client.config_set("min-replicas-to-write", 0)
    unbounded, bounded = found.pop("failovers")

    assert (unbounded[0], bounded[0]) == ("warning", "ok")
    assert unbounded[1].startswith("min-replicas-to-write is not set on 127.0.0.1:")
    assert unbounded[1].count("127.0.0.1:") == 3
    assert found == {
        "is_purchase": False,
        "added": 5,
        "cached": {"one": 2, "two": 2},
        "workers": 2,
        "is_redeemed": True,
        "wrong": [],
        "servers": 3,
    }


def test_archived_sales_answer_wherever_they_were_and_are_mirrored_anew(shop: Shop, sales: list[SoldSale]):
    ended = list({sale.node.port: sale for sale in sales}.values())
    slugs = [sale.slug for sale in ended]
    shop.manage("shell", "--no-imports", "-c", ADD_UNITS.format(slugs=slugs))  # what was left may be sold by now
    clients = [Client(shop.ports[0], slug) for slug in slugs]
    assert {client.buy("ada", "first").code for client in clients} == {"purchased"}
    wait_until(lambda: all("ada" in dict(sale.orders()) for sale in ended), "the orders are written")

    drift = json.loads(shop.manage("shell", "--no-imports", "-c", ARCHIVE.format(slugs=slugs)))
    wait_until(lambda: all(sale.redis.hget(sale.key("config"), "archived") for sale in ended), "they are mirrored anew")
    wait_until(
        lambda: all(client.buy("ada", "second").code == "already_purchased" for client in clients), "SQL answers"
    )

    assert drift == []
    assert {client.buy("stranger", "third").code for client in clients} == {"ended"}
    audits = shop.audits()
    assert not [sale.slug for sale in ended if audits[sale.slug]["drift"]]
