"""A network that splits: each side sells on with a Redis of its own, and then there is one Redis again."""

import json
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest

from flashsale.redaction import log_name
from tests.faults import programs
from tests.faults.load import Answer, Client
from tests.networks import Way
from tests.redis_servers import Node, wait_until
from tests.servers import free_port
from tests.shops import Shop, SoldSale

pytestmark = pytest.mark.long

SLUG = "sale-0"
STOCK = 5
LEFT_OVER = 3
WITHIN_SECONDS = 60.0
SETTLE = """
from django.contrib.auth import get_user_model
from sales import missing
from sales.models import MissingOrder
operator = get_user_model().objects.create_superuser("operator")
print(missing.settle(MissingOrder.objects.filter(user_id="{user_id}"), operator))
"""
ADD_STOCK = """
from sales import publishing
from sales.models import Sale
sale = Sale.objects.get()
sale.total_stock += {units}
sale.save()
publishing.publish(sale)
"""


class SplitShop:
    """Web nodes with a way to Redis each, one for the order writer, and a master with a replica."""

    def __init__(self, directory: Path, names: str):
        self.old = Node(directory / "old")
        self.link = Way(self.old.port)
        self.new = Node(directory / "new", "--replicaof", f"127.0.0.1 {self.link.port}")
        self.ways = {name: Way(self.old.port) for name in (*names, "writer")}
        self.ports = {name: free_port() for name in names}
        self.shop = Shop(self._url("writer"), stock=STOCK, web_servers=0, settings={"WEB_CONCURRENCY": "1"})

    def __enter__(self) -> "SplitShop":
        self.shop.__enter__()
        self.nodes = {name: self.start_node(name) for name in self.ports}
        self.shop.ports = list(self.ports.values())
        self.shop.wait_until_open([SLUG])
        return self

    def __exit__(self, *error: object) -> None:
        self.shop.__exit__(*error)
        for way in (*self.ways.values(), self.link):
            way.close()
        for node in (self.old, self.new):
            node.kill()

    def start_node(self, name: str) -> object:
        command = ["-m", "gunicorn", "-c", "python:flashsale.gunicorn", "flashsale.asgi:application"]
        return self.shop.start_python(command, f"web-{name}", PORT=str(self.ports[name]), REDIS_URL=self._url(name))

    def split(self, moved: str) -> None:
        """Cut the replica off and make it a master; the nodes of that side, and the writer if it is one, go there."""
        wait_until(lambda: self._copied(), "the replica has all")
        self.link.lead_to(None)
        self.new.client.execute_command("REPLICAOF", "NO", "ONE")
        self.heal(*moved.split())

    def heal(self, *names: str) -> None:
        for name in names:
            self.ways[name].lead_to(self.new.port)

    def end_old(self) -> None:
        """Make the old master a replica of the new one: what only it had is gone."""
        self.old.client.execute_command("REPLICAOF", "127.0.0.1", self.new.port)

    def buy(self, name: str, *user_ids: str) -> dict[str, Answer]:
        """Let shoppers buy at a node, each with a key of their own, once it sells."""
        wait_until(lambda: self.shop.is_open(SLUG, self.ports[name]), f"{name} sells", WITHIN_SECONDS)
        client = Client(self.ports[name], SLUG)
        bought: dict[str, Answer] = {}

        def has_bought(user_id: str) -> bool:
            """A busy machine may be too slow; a repeat with the key is the same purchase."""
            bought[user_id] = client.buy(user_id, f"key of {user_id}")
            assert bought[user_id].code in {"purchased", "unavailable", "unknown"}, bought[user_id]
            return bought[user_id].code == "purchased"

        for user_id in user_ids:
            wait_until(partial(has_bought, user_id), f"{user_id} has bought", WITHIN_SECONDS)
        client.close()
        return bought

    def wait_until_closed(self, name: str) -> None:
        wait_until(lambda: not self.shop.is_open(SLUG, self.ports[name]), "it is closed", WITHIN_SECONDS)

    def wait_until_written(self, *user_ids: str) -> None:
        sale = SoldSale(self.shop, SLUG, self.new)
        wait_until(lambda: set(user_ids) <= dict(sale.orders()).keys(), "SQL has them", WITHIN_SECONDS)

    def purchases(self) -> dict[str, str]:
        return dict(SoldSale(self.shop, SLUG, self.new).purchases())

    def missing(self) -> dict[str, tuple[str, str]]:
        """Return what SQL says of missing purchases, by the shopper: order_id and state."""
        rows = self.shop.database.query("SELECT user_id, order_id, state FROM sales_missingorder")  # type: ignore[union-attr]
        return {user_id: (order_id, state) for user_id, order_id, state in rows}

    def restore(self) -> tuple[int, str]:
        return self.shop.run_manage("restore_sale", SLUG)

    def health(self, name: str) -> dict:
        return self.shop.health(self.ports[name])

    def drift(self) -> set[str]:
        return set(self.shop.audits()[SLUG]["drift"])

    def _copied(self) -> bool:
        offsets = [node.client.info("replication") for node in (self.old, self.new)]
        return offsets[0]["master_repl_offset"] == offsets[1].get("slave_repl_offset")

    def _url(self, name: str) -> str:
        return f"redis://127.0.0.1:{self.ways[name].port}/0"


@pytest.fixture
def split(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[SplitShop]:
    with SplitShop(tmp_path, request.param) as shop:
        yield shop


def lost(answers: dict[str, Answer], user_ids: Sequence[str], state: str) -> dict[str, tuple[str, str]]:
    return {user_id: (answers[user_id].order_id, state) for user_id in user_ids}


@pytest.mark.parametrize("split", ["AB"], indirect=True)
def test_purchases_of_one_side_are_restored_while_units_last(split: SplitShop):
    before = split.buy("A", "ada")
    split.wait_until_written("ada")
    split.split("B writer")
    there = split.buy("A", "bob", "cleo", "dora", "eve")
    here = split.buy("B", "eve", "fay", "gus", "hal")
    split.wait_until_written(*here)

    split.end_old()
    split.heal("A")
    split.wait_until_closed("B")  # by what A knows, which nobody asks anything

    named = split.missing()
    assert named == lost(there, ["bob", "cleo", "dora"], "found") | lost(there, ["eve"], "settled")
    health = split.health("B")
    assert (health["status"], health["database"]["missing"]) == ("unavailable", {SLUG: 3})
    log = (split.shop.var_dir / "web-A.log").read_text()
    assert all(f"{there[name].order_id} {log_name(name, 'only-for-tests')}" in log for name in ("bob", "cleo", "dora"))
    assert "bob" not in log

    status, told = split.restore()
    assert (status, split.missing()) == (LEFT_OVER, named | lost(there, ["bob", "cleo", "dora"], "left_over"))
    assert all(f"{there[name].order_id} {name}: No unit was left." in told for name in ("bob", "cleo", "dora"))
    split.shop.wait_until_open([SLUG])
    assert split.health("A")["database"]["missing"] == {SLUG: 3}
    assert split.drift() == {"acknowledged_purchases_missing"}

    split.shop.manage("shell", "--no-imports", "-c", ADD_STOCK.format(units=2))
    status, told = split.restore()
    assert (status, "lost and taken in again:        2" in told) == (LEFT_OVER, True)
    split.shop.wait_until_open([SLUG])
    again = Client(split.ports["B"], SLUG).buy("bob", "key of bob")
    assert (again.code, again.order_id) == ("purchased", there["bob"].order_id)
    expected = {name: answer.order_id for name, answer in (before | there | here).items()}
    assert split.purchases() == {name: expected[name] for name in split.purchases()}
    assert split.purchases().keys() == {"ada", "bob", "cleo", "eve", "fay", "gus", "hal"}

    assert split.shop.manage("shell", "--no-imports", "-c", SETTLE.format(user_id="dora")).strip() == "1"
    assert split.drift() == set()
    wait_until(lambda: split.health("A")["status"] == "ok", "health is ok")


@pytest.mark.parametrize("split", ["AB"], indirect=True)
def test_orders_written_by_the_other_side_close_the_sale(split: SplitShop):
    split.buy("A", "ada")
    split.wait_until_written("ada")
    split.split("B")
    split.buy("B", "eve", "fay", "gus", "hal")  # compared before SQL has what the other side sells
    split.buy("A", "bob", "cleo", "dora")
    split.wait_until_written("bob", "cleo", "dora")
    programs.kill(split.nodes["A"])  # type: ignore[arg-type]
    del split.ports["A"]

    split.end_old()
    split.heal("writer")
    split.wait_until_closed("B")

    status, told = split.restore()
    assert (status, "3 units were sold twice" in told, split.missing()) == (0, True, {})
    assert split.purchases().keys() == {"ada", "bob", "cleo", "dora", "eve", "fay", "gus", "hal"}


@pytest.mark.parametrize("split", ["ABC"], indirect=True)
def test_a_node_that_returns_later_closes_the_sale_again(split: SplitShop):
    split.split("B writer")
    forgotten = split.buy("A", "ada")
    programs.kill(split.nodes["A"])  # type: ignore[arg-type]
    split.nodes["A"] = split.start_node("A")
    by_a, by_c = split.buy("A", "bob"), split.buy("C", "cleo")
    split.buy("B", "eve")

    split.ways["C"].lead_to(None)
    split.end_old()
    split.heal("A")
    split.wait_until_closed("B")
    assert split.missing() == lost(by_a, ["bob"], "found")
    assert split.restore()[0] == 0
    wait_until(lambda: split.shop.is_open(SLUG, split.ports["B"]), "it sells again", WITHIN_SECONDS)
    split.heal("C")
    split.wait_until_closed("B")

    assert split.missing() == lost(by_a, ["bob"], "taken_in") | lost(by_c, ["cleo"], "found")
    assert split.restore()[0] == 0
    # The worker that knew of ada was killed: nobody else did.
    expected = {"bob": by_a["bob"].order_id, "cleo": by_c["cleo"].order_id}
    assert {name: split.purchases()[name] for name in expected} == expected
    assert forgotten.keys() & split.purchases().keys() == set()
    assert split.drift() == set()
    assert json.loads(split.shop.manage("audit_sale", SLUG, "--json"))[0]["purchases"] == 3
