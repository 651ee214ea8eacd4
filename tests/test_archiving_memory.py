"""The memory of an archived sale is freed in parts, and Redis goes on deciding purchases, whoever dies meanwhile."""

import asyncio
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from sales import archive_mirror, archiving, publishing, purchases, restoring, store
from sales.archiving import archive
from sales.audit import audit, repair
from sales.models import Sale
from sales.orders import consumer_name, run_once
from tests.conftest import MakeSale
from tests.servers import RedisServer

pytestmark = pytest.mark.django_db(transaction=True)

BUYERS = 900
AT_ONCE = 100


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_mirror, "AT_ONCE", AT_ONCE)


@pytest.fixture
def ended_sale(make_sale: MakeSale) -> Sale:
    """Every unit is sold, each with a key of its own."""
    sale = make_sale(stock=BUYERS)
    buy(sale, (f"shopper-{number}" for number in range(BUYERS)))
    while run_once(consumer_name()):
        pass
    sale.ends_at = timezone.now() - timedelta(seconds=1)
    sale.save()
    publishing.publish(sale)
    return sale


def buy(sale: Sale, user_ids: Iterable[str]) -> list[str]:
    async def all_of_them() -> list[str]:
        found = await asyncio.gather(*(purchases.buy(sale.id, name, name, deadline=deadline) for name in user_ids))
        return [purchase.outcome for purchase in found]

    deadline = purchases.new_deadline() + 60
    return asyncio.run(all_of_them())


def sizes(sale: Sale) -> dict[str, int]:
    """Return how many members each large thing of the sale has, of those that Redis holds."""
    ask = {"purchases": "HLEN", "orders": "XLEN"}
    found = {}
    for name in (*archive_mirror.LARGE, *archive_mirror.EMPTIED):
        command = ask.get(name.removeprefix("freed:"), "SCARD")
        if members := store.client().execute_command(command, store.key(sale.id, name)):
            found[name] = members
    return found


def let_go(sale: Sale, calls: int = 0) -> None:
    """Archive the sale as somebody does who dies after that many calls that empty something."""

    def die_after(sale: Sale) -> bool:
        original(sale, calls)
        raise KeyboardInterrupt

    original = archive_mirror.empty
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(archive_mirror, "empty", die_after)
        with pytest.raises(KeyboardInterrupt):
            archive(sale)


def test_redis_lets_go_at_once_and_frees_it_in_parts(ended_sale: Sale, monkeypatch: pytest.MonkeyPatch):
    whole = sizes(ended_sale)
    most_at_once = 0

    def run_and_measure(name: str, keys: Any, args: Any) -> Any:
        nonlocal most_at_once
        before = sum(sizes(ended_sale).values())
        reply = original(name, keys, args)
        most_at_once = max(most_at_once, before - sum(sizes(ended_sale).values()))
        return reply

    original = store.run_script_blocking
    monkeypatch.setattr(store, "run_script_blocking", run_and_measure)

    archive(ended_sale)

    assert whole == {"purchases": BUYERS, "orders": BUYERS, "keys": BUYERS}
    assert sizes(ended_sale) == {}
    assert archive_mirror.left(ended_sale) == []
    assert 0 < most_at_once < 4 * AT_ONCE
    ended_sale.refresh_from_db()
    assert not ended_sale.mirror_due


def test_the_order_writer_frees_the_rest_after_a_killed_archive(ended_sale: Sale, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(publishing, "EMPTYING_CALLS", 3)
    let_go(ended_sale, calls=2)
    half_way = sizes(ended_sale)

    turns = 0
    while publishing.catch_up():
        turns += 1

    assert 0 < half_way["freed:purchases"] < BUYERS
    assert half_way.keys() == {"freed:purchases", "freed:orders", "freed:keys"}
    assert turns > 5, "it leaves time for the orders"
    assert archive_mirror.left(ended_sale) == []
    assert audit(ended_sale).drift == {}


def test_archiving_again_frees_the_rest(ended_sale: Sale):
    let_go(ended_sale, calls=2)

    archive(ended_sale)

    assert archive_mirror.left(ended_sale) == []


def test_the_audit_tells_of_the_rest_and_repairs_it(ended_sale: Sale):
    let_go(ended_sale, calls=2)

    drift = audit(ended_sale).drift
    done = repair(ended_sale)

    assert drift == {"archive_not_freed": ["freed:purchases", "freed:orders", "freed:keys"]}
    assert done == ["mirrored again from SQL"]
    assert audit(ended_sale).drift == {}


def test_answers_are_right_while_it_is_freed(ended_sale: Sale):
    let_go(ended_sale, calls=5)

    assert buy(ended_sale, ["shopper-1", "eve"]) == ["replayed", "ended"]


def test_a_sale_restored_while_freeing_survives_a_restart(ended_sale: Sale, redis_server: RedisServer):
    let_go(ended_sale, calls=5)
    restoring.restore(ended_sale)
    publishing.publish(ended_sale)

    redis_server.stop()
    redis_server.start()

    assert {name: sizes(ended_sale)[name] for name in ("purchases", "keys")} == {"purchases": BUYERS, "keys": BUYERS}
    while publishing.catch_up():
        pass
    assert {name for name in sizes(ended_sale) if name.startswith("freed:")} == set()
    assert audit(ended_sale).drift == {}


def test_archiving_again_before_all_is_freed_frees_everything(ended_sale: Sale):
    let_go(ended_sale, calls=5)
    restoring.restore(ended_sale)

    archiving.archive(ended_sale)

    assert archive_mirror.left(ended_sale) == []
    assert buy(ended_sale, ["shopper-1", "eve"]) == ["replayed", "ended"]
