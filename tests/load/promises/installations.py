"""How soon sales go on when a master was replaced, and when there are a thousand of them."""

import asyncio
import resource
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.faults.load import Client
from tests.load.promises.promise import promised
from tests.load.promises.shops import GIVEN_UP_AFTER_SECONDS, new_shopper, seconds_until
from tests.load.strangers import read_answer, request
from tests.redis_servers import Installation, Node, RedisCluster, WatchedMaster, wait_until
from tests.shops import Shop, SoldSale

RELIABILITY = "docs/reliability.md"
MANY = 1_000
# More often, so many would keep the servers busy with nothing else.
ASK_AGAIN_AFTER_SECONDS = 0.25


class Replicated(NamedTuple):
    """A shop whose Redis has replicas, one of which takes over from a master that dies."""

    shop: Shop
    redis: Installation


@contextmanager
def cluster() -> Iterator[Replicated]:
    with RedisCluster() as redis, Shop(redis.url, count=3) as shop:
        yield Replicated(shop, redis)


@contextmanager
def sentinels() -> Iterator[Replicated]:
    with WatchedMaster() as redis, Shop(redis.url, count=2) as shop:
        yield Replicated(shop, redis)


@promised("Sales go on after sentinels promote a replica", RELIABILITY, within=2.0, on=sentinels, rounds=3)
def sentinel_failover(replicated: Replicated) -> float:
    return _fail_over(replicated)


@promised("Sales go on after a cluster promotes a replica", RELIABILITY, within=2.0, on=cluster, rounds=3)
def cluster_failover(replicated: Replicated) -> float:
    return _fail_over(replicated)


def _fail_over(replicated: Replicated) -> float:
    shop, nodes = replicated.shop, replicated.redis.nodes
    replicas = [node for node in nodes if not node.is_master]

    def is_whole() -> bool:
        linked = [node for node in nodes if not node.is_master and _has_link(node)]
        return len(linked) == len(replicas)

    master = next(node for node in nodes if node.is_master and node.client.dbsize())
    master.kill()
    seconds_until(lambda: any(node.is_master for node in replicas))
    seconds = seconds_until(lambda: all(_sells(shop, slug) for slug in shop.sale_ids))
    master.start()
    wait_until(is_whole, "the old master is a replica")
    return seconds


def _sells(shop: Shop, slug: str) -> bool:
    client = Client(shop.ports[0], slug)
    try:
        return client.buy(new_shopper(), "").code == "purchased"
    finally:
        client.close()


def _has_link(node: Node) -> bool:
    return node.client.info("replication").get("master_link_status") == "up"


class Mall(NamedTuple):
    """A shop of a thousand sales."""

    shop: Shop
    node: Node


@contextmanager
def mall() -> Iterator[Mall]:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # a connection for each sale
    with tempfile.TemporaryDirectory(prefix="flashsale-mall-", dir="/tmp") as directory:
        node = Node(Path(directory))
        try:
            with Shop(f"redis://127.0.0.1:{node.port}/0", count=MANY) as shop:
                yield Mall(shop, node)
        finally:
            node.kill()


@promised(f"Of {MANY:,} sales the last is open once Redis is back", RELIABILITY, within=2.0, on=mall, rounds=5)
def many_sales_return(mall: Mall) -> float:
    return asyncio.run(_all_return(mall))


@promised(f"A purchase is an order in SQL, among {MANY:,} sales", "docs/redis.md", within=1.0, on=mall, rounds=20)
def order_among_many(mall: Mall) -> float:
    client, name = Client(mall.shop.ports[0], "sale-0"), new_shopper()
    assert client.buy(name, "").code == "purchased"
    seconds = seconds_until(
        lambda: any(name == user_id for user_id, _ in SoldSale(mall.shop, "sale-0", mall.node).orders())
    )
    client.close()
    return seconds


async def _all_return(mall: Mall) -> float:
    """Return the seconds until the status of each sale can be had; shoppers of all ask at the same time."""
    address = "127.0.0.1", mall.shop.ports[0]
    shoppers = [(await asyncio.open_connection(*address), slug) for slug in mall.shop.sale_ids]
    mall.node.kill()
    await asyncio.sleep(0.5)  # no worker remembers that they are open
    mall.node.start()
    began = time.monotonic()

    async def hears_that_it_is_open(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, slug: str) -> None:
        asked = request("GET", f"/api/sales/{slug}/status")
        writer.write(asked)
        while (await read_answer(reader))[0] != 200:
            await asyncio.sleep(ASK_AGAIN_AFTER_SECONDS)
            writer.write(asked)
        writer.close()

    async with asyncio.timeout(GIVEN_UP_AFTER_SECONDS):
        await asyncio.gather(*(hears_that_it_is_open(*connection, slug) for connection, slug in shoppers))
    return time.monotonic() - began
