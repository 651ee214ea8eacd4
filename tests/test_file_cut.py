"""The append-only file, cut at every byte of its end: whole purchases or none, and a sale that knows what it misses."""

import asyncio
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import redis
from django.conf import settings

from flashsale import embedded_redis
from flashsale.supervisor import Process
from sales import continuity, publishing, purchases, store
from sales.models import Order, Sale
from sales.orders import consumer_name, run_once, tidy
from tests.faults.redis_faults import newest_file
from tests.servers import RedisServer

pytestmark = pytest.mark.long

CUT_BYTES = 4096


@pytest.fixture
def short_file(redis_server: RedisServer) -> None:
    """The append-only file without what earlier tests have left in it."""
    store.client().bgrewriteaof()
    while any(store.client().info("persistence")[f"aof_rewrite_{state}"] for state in ("in_progress", "scheduled")):
        time.sleep(0.02)


@pytest.fixture
def sold_sale(short_file: None, open_sale: Sale) -> Sale:
    """Alone and together, with keys and without, written to SQL and trimmed meanwhile: and the last few are not."""

    async def buy(*numbers: int) -> None:
        attempts = (purchases.buy(open_sale.id, f"shopper {n}", f"key {n}" if n % 2 else "") for n in numbers)
        await asyncio.gather(*attempts)

    Sale.objects.update(total_stock=1000)
    publishing.publish(open_sale)
    for first in range(0, 40, 4):
        asyncio.run(buy(first))
        asyncio.run(buy(*range(first + 1, first + 4)))
        if first < 36:
            run_once(consumer_name())
            tidy()
    return open_sale


@pytest.fixture
def copied_redis(sold_sale: Sale, tmp_path: Path) -> Iterator[Any]:
    """A second Redis with a copy of the files. It loads them again when it is told, by `DEBUG LOADAOF`."""
    shutil.copytree(settings.VAR_DIR / "redis" / "appendonlydir", tmp_path / "redis" / "appendonlydir")
    process = Process("Redis", [*embedded_redis.command(tmp_path), "--enable-debug-command", "yes"])
    process.start()
    while not embedded_redis.socket_path(tmp_path).exists():
        time.sleep(0.02)
    client = redis.Redis.from_url(f"unix://{embedded_redis.socket_path(tmp_path)}")
    yield client
    client.shutdown(nosave=True)
    assert process.popen
    process.popen.wait()


def held_by(client: Any, sale: Sale) -> list[Any]:
    """Return all that a Redis holds of a sale, but for when a consumer was last seen: loading takes that for now."""
    stream = store.key(sale.id, "orders").encode()
    pipeline = client.pipeline(transaction=False)
    for name in sorted(client.keys(f"{{sale:{sale.id}}}:*")):
        pipeline.execute_command("DEBUG", "DIGEST-VALUE", name)
    return [*pipeline.xinfo_stream(stream).execute(), client.xrange(stream)]


def test_every_cut_leaves_whole_purchases_and_is_noticed(
    sold_sale: Sale, copied_redis: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = newest_file(tmp_path / "redis")
    whole = path.read_bytes()
    names = ("config", "stock", "purchases", "keys", "orders")
    config, stock, bought, keys, stream = (store.key(sold_sale.id, name) for name in names)
    total = int(store.client().hget(config, "total_stock"))
    in_sql = dict(Order.objects.values_list("user_id", "order_id"))
    monkeypatch.setattr("sales.store.blocking.get_redis_connection", lambda alias: copied_redis)
    sold_counts = set()
    loaded: list[Any] = []

    for cut in range(CUT_BYTES + 1):
        path.write_bytes(whole[: len(whole) - cut])
        with suppress(redis.ResponseError):  # so it tells that the file was cut, when it has loaded what is left
            copied_redis.execute_command("DEBUG", "LOADAOF")
        before, loaded = loaded, held_by(copied_redis, sold_sale)
        if loaded == before:  # as after most bytes: the one before was of the same command
            continue

        held = {user_id: value.split(b" ") for user_id, value in copied_redis.hgetall(bought).items()}
        entries = {entry_id for entry_id, _ in copied_redis.xrange(stream)}
        order_ids = {words[0] for words in held.values()}
        assert int(copied_redis.get(stock)) + len(held) == total
        assert copied_redis.smembers(keys) == {words[2] for words in held.values() if words[2]}
        assert entries <= order_ids
        assert max(order_ids) in entries
        is_whole = all(held.get(user_id.encode(), [b""])[0].decode() == in_sql[user_id] for user_id in in_sql)
        reason = continuity.confirm(sold_sale.id, copied_redis.info("server")["run_id"])
        assert is_whole == (not reason), f"cut by {cut} bytes: {reason}"
        sold_counts.add(len(held))

    assert (max(sold_counts), min(sold_counts) < len(in_sql)) == (40, True)
