"""A master that a replica replaces and that comes back, in the same process, before anybody has asked for a sale."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sales.store.server import BELIEVED_SECONDS
from tests.faults.load import Client
from tests.redis_servers import Node, wait_until
from tests.shops import Shop, SoldSale

pytestmark = pytest.mark.long


@pytest.fixture
def replica(tmp_path: Path, redis_node: Node) -> Iterator[Node]:
    node = Node(tmp_path, "--replicaof", f"127.0.0.1 {redis_node.port}")
    yield node
    node.kill()


@pytest.fixture
def shop(redis_node: Node) -> Iterator[Shop]:
    with Shop(f"redis://127.0.0.1:{redis_node.port}/0") as shop:
        yield shop


def replace_for_a_while(master: Node, replica: Node) -> None:
    """Make the master what the replica is, and a master again."""
    replica.client.execute_command("REPLICAOF", "NO", "ONE")
    master.client.execute_command("REPLICAOF", "127.0.0.1", replica.port)
    wait_until(lambda: master.client.info("replication").get("master_link_status") == "up", "it has what the other had")
    master.client.execute_command("REPLICAOF", "NO", "ONE")


@pytest.mark.parametrize("is_cut_off", [True, False])
def test_a_replica_that_lost_purchases_closes_the_sale(redis_node: Node, replica: Node, shop: Shop, is_cut_off: bool):
    master = redis_node
    sale, client = SoldSale(shop, "sale-0", master), Client(shop.ports[0], "sale-0")
    wait_until(lambda: replica.client.info("replication")["master_link_status"] == "up", "the replica has its link")
    client.buy("ada", "first")
    wait_until(lambda: dict(replica.client.hgetall(sale.key("purchases"))).keys() == {"ada"}, "the replica has it")
    if is_cut_off:
        replica.lose_link()
    assert client.buy("bob", "second").code == "purchased"
    wait_until(lambda: {"ada", "bob"} <= dict(sale.orders()).keys(), "SQL has it")
    run_id = master.run_id

    replace_for_a_while(master, replica)
    time.sleep(BELIEVED_SECONDS)  # no supervisor is that quick
    bought = client.buy("cleo", "third")

    assert master.run_id == run_id
    assert ("bob" in dict(sale.purchases())) is not is_cut_off
    if is_cut_off:
        assert (bought.code, shop.is_open("sale-0")) == ("unavailable", False)
        assert "restore_sale sale-0" in shop.health()["redis"]["reason"]
    else:
        wait_until(lambda: client.buy("dora", "fourth").code == "purchased", "it goes on, once it is compared")
