"""A master that was replaced and refuses, while everybody else names its successor: servers played by the test."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import hiredis
import pytest
from django.conf import settings

from flashsale.redis_address import parse_redis_address
from sales.store.cluster import Cluster
from sales.store.sentinel import WatchedServer
from sales.store.server import Command

FOUND_WITHIN_SECONDS = 30.0
REFUSALS = [
    "CLUSTERDOWN The cluster is down",
    "LOADING Redis is loading the dataset in memory",
    "MASTERDOWN Link with MASTER is down",
    "NOREPLICAS Not enough good replicas to write.",
    "READONLY You can't write against a read only replica.",
]
READ: Command = ("GET", "{sale:1}:stock")


class Played:
    """A server that answers GET with its name, or with the error that it is given; and says who the master is."""

    def __init__(self, name: bytes):
        self.name, self.error, self.port = name, "", 0
        self.master = self

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        commands = hiredis.Reader()
        while received := await reader.read(65_536):
            commands.feed(received)
            while command := commands.gets():
                writer.write(self.answer(command))
        writer.close()

    def answer(self, command: list[bytes]) -> bytes:
        port = self.master.port
        match command[0].upper():
            case b"INFO":
                return bulk(b"x\nrun_id:%b\r\nmaster_replid2:0\r\n" % self.name)
            case b"CLUSTER":
                return b"*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n%b:%d\r\n" % (bulk(b"127.0.0.1"), port)
            case b"SENTINEL":
                state = ["name", "watched", "ip", "127.0.0.1", "port", str(port), "flags", "master"]
                state += ["num-other-sentinels", "0", "quorum", "1"]
                return b"*1\r\n*%d\r\n%b" % (len(state), b"".join(bulk(word.encode()) for word in state))
            case b"GET":
                return b"-%b\r\n" % self.error.encode() if self.error else bulk(self.name)
            case _:
                return b"+OK\r\n"


def bulk(text: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(text), text)


@asynccontextmanager
async def played() -> AsyncIterator[tuple[Played, Played]]:
    servers = Played(b"old"), Played(b"new")
    listening = [await asyncio.start_server(server.serve, "127.0.0.1", 0) for server in servers]
    for server, listener in zip(servers, listening, strict=True):
        server.port = listener.sockets[0].getsockname()[1]
        server.master = servers[0]
    try:
        yield servers
    finally:
        for listener in listening:
            listener.close()


async def wait_for(answer: Callable[[], Awaitable[object]], wanted: object) -> None:
    async with asyncio.timeout(FOUND_WITHIN_SECONDS):
        while await answer() != wanted:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("refusal", REFUSALS)
@pytest.mark.parametrize("kind", ["cluster", "sentinel"])
async def test_the_successor_of_a_master_that_refuses_is_found(
    monkeypatch: pytest.MonkeyPatch, kind: str, refusal: str
):
    async with played() as (old, new):
        url = f"redis+{kind}://127.0.0.1:{old.port},127.0.0.1:{new.port}"
        address = parse_redis_address(url + ("/watched" if kind == "sentinel" else ""))
        monkeypatch.setattr(settings, "REDIS_ADDRESS", address)
        route = Cluster() if kind == "cluster" else WatchedServer()
        try:
            assert (await route.exchange([READ]))[0] == [b"old"]

            old.error, old.master, new.master = refusal, new, new

            async def answer() -> object:
                try:
                    return (await route.exchange([READ]))[0][0]
                except Exception as error:
                    return error

            await wait_for(answer, b"new")
        finally:
            await route.close()
