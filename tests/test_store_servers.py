"""What the lane makes of servers that fail, send a command on, or lose an answer: most are played by the test."""

from itertools import count

import pytest
from django.conf import settings as project
from pytest_django import Settings

from flashsale.redis_address import parse_redis_address
from sales import store
from sales.store import server
from sales.store.cluster import Cluster
from sales.store.keys import key, slot
from sales.store.server import Command
from tests.servers import LossyProxy, RedisServer
from tests.test_successor import Played, bulk, played

SLOTS = 16_384


def stock_in(slots: range) -> Command:
    """Return the command that reads the stock of a sale in one of these slots."""
    return "GET", next(name for number in count() if slot(name := key(number, "stock")) in slots)


LOWER, UPPER = stock_in(range(SLOTS // 2)), stock_in(range(SLOTS // 2, SLOTS))


def arrange(first: Played, second: Played, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """Return a cluster of two servers, of which each holds half of the slots."""
    halves = [(0, SLOTS // 2 - 1, first), (SLOTS // 2, SLOTS - 1, second)]
    node = b"*3\r\n:%d\r\n:%d\r\n*2\r\n%b:%d\r\n"
    slots = b"*2\r\n" + b"".join(node % (low, high, bulk(b"127.0.0.1"), one.port) for low, high, one in halves)
    answer = Played.answer

    def answer_with_slots(one: Played, command: list[bytes]) -> bytes:
        return slots if command[0].upper() == b"CLUSTER" else answer(one, command)

    monkeypatch.setattr(Played, "answer", answer_with_slots)
    monkeypatch.setattr(project, "REDIS_ADDRESS", parse_redis_address(f"redis+cluster://127.0.0.1:{first.port}"))
    return Cluster()


async def test_a_server_that_fails_leaves_the_others_answers(monkeypatch: pytest.MonkeyPatch):
    async with played() as (old, new):
        cluster = arrange(old, new, monkeypatch)
        assert (await cluster.exchange([LOWER, UPPER]))[0] == [b"old", b"new"]

        async def fail(*_: object) -> None:
            raise store.Unavailable("no connection")

        monkeypatch.setattr(cluster._servers["127.0.0.1", new.port], "exchange", fail)
        replies, _ = await cluster.exchange([LOWER, UPPER])
        await cluster.close()

    assert replies[0] == b"old"
    assert isinstance(replies[1], store.Unavailable)


async def test_a_command_follows_its_slot_to_another_server(monkeypatch: pytest.MonkeyPatch):
    async with played() as (old, new):
        cluster = arrange(old, new, monkeypatch)
        old.error = f"MOVED {slot(LOWER[1])} 127.0.0.1:{new.port}"

        replies, run_ids = await cluster.exchange([LOWER])
        await cluster.close()

    assert (replies, run_ids) == ([b"new"], ["new"])


async def test_a_lost_answer_of_redis_is_unknown(
    redis_server: RedisServer, settings: Settings, monkeypatch: pytest.MonkeyPatch
):
    settings.REDIS_READ_TIMEOUT_SECONDS = 0.5
    monkeypatch.setattr(server, "BELIEVED_SECONDS", 60)  # so that nothing but the command is asked
    proxy = LossyProxy()
    lossy = server.Server(f"redis://127.0.0.1:{proxy.port}")
    await lossy.exchange([("PING",)])

    proxy.mute()
    with pytest.raises(store.Unknown):
        await lossy.exchange([("PING",)])

    await lossy.close()
    proxy.close()
