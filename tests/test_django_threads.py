"""Django's threads: what they answer is whole, and none waits for a client."""

import asyncio
import errno
import socket
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from flashsale import spools, stalls
from flashsale.django_threads import MOST_WAITING, DjangoThreads, Unanswered
from flashsale.lane import Lane
from flashsale.protocol import LaneProtocol
from flashsale.spools import Spool

pytestmark = pytest.mark.usefixtures("static_files")

THREADS = 2
LONG = bytes(range(256)) * 16 * 1024
assert len(LONG) > spools.LARGEST_IN_MEMORY_BYTES


class Application:
    """A WSGI application that answers with `parts`, and says what became of it."""

    def __init__(self, parts: Callable[[], Iterator[bytes]] = lambda: iter([b"hello"]), status: str = "200 OK"):
        self._parts, self._status = parts, status
        self.began = self.closed = 0

    def __call__(self, environ: dict[str, Any], start_response: Any) -> "Application":
        self.began += 1
        start_response(self._status, [("Content-Type", "text/plain")])
        return self

    def __iter__(self) -> Iterator[bytes]:
        return self._parts()

    def close(self) -> None:
        self.closed += 1


@asynccontextmanager
async def served(application: Application) -> AsyncIterator[tuple[DjangoThreads, httpx.AsyncClient, int]]:
    """Serve it behind a lane; give its threads, a client and the port."""
    django, listener = DjangoThreads(application, THREADS), socket.create_server(("127.0.0.1", 0))
    stalls.keep_little_in_the_kernel(listener)
    config = uvicorn.Config(Lane([], django), http=LaneProtocol, lifespan="off", log_level="critical")
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    port = listener.getsockname()[1]
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
        yield django, client, port
    server.should_exit = True
    await serving


async def ask(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Ask on a connection of which hardly anything is read, unless the test does."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    client.connect(("127.0.0.1", port))
    reader, writer = await asyncio.open_connection(sock=client, limit=2048)
    writer.write(b"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n")
    return reader, writer


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not is_so():
            await asyncio.sleep(0.01)


def spooled_bytes() -> int:
    return Spool._in_memory_bytes


@pytest.mark.pure
async def test_threads_are_free_while_nobody_reads_their_answers():
    application = Application(lambda: iter([LONG[:500_000]]))
    async with served(application) as (django, client, port):
        held = [await ask(port) for _ in range(5 * THREADS)]
        await until(lambda: application.closed == len(held))

        assert django.held == 0
        assert (await client.get("/")).content == LONG[:500_000]
        assert spooled_bytes() > 0
        for _, writer in held:
            writer.transport.abort()
        await until(lambda: spooled_bytes() == 0)


@pytest.mark.pure
@pytest.mark.parametrize("parts", [[], [b"a"], [b"a", b"", b"bc"], [LONG], [LONG[:300_000]] * 20])
async def test_an_answer_arrives_whole_and_with_its_length(parts: list[bytes]):
    application = Application(lambda: iter(parts))
    async with served(application) as (_, client, _):
        got, head = await client.get("/"), await client.head("/")

    assert got.content == b"".join(parts)
    assert got.headers["content-length"] == head.headers["content-length"] == str(len(got.content))
    assert "transfer-encoding" not in got.headers
    assert (head.content, application.closed, spooled_bytes()) == (b"", 2, 0)


@pytest.mark.pure
@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
async def test_an_answer_without_a_body_has_no_length(status: str):
    async with served(Application(lambda: iter([]), status)) as (_, client, _):
        response = await client.get("/")

    assert f"{response.status_code}" == status[:3]
    assert not {"content-length", "transfer-encoding"} & response.headers.keys()


@pytest.mark.pure
async def test_nobody_waits_where_there_is_no_room():
    django = DjangoThreads(lambda *_: [b""], 1)
    django.held = django._most

    with pytest.raises(Unanswered):
        await django({"type": "http"}, None, None)  # type: ignore[arg-type]


@pytest.mark.pure
async def test_requests_beyond_the_waiting_room_are_asked_to_retry():
    go_on = threading.Event()

    def when_told() -> Iterator[bytes]:
        go_on.wait(60)
        yield b"hello"

    application, most = Application(when_told), THREADS * (1 + MOST_WAITING)
    async with served(application) as (django, client, port):
        held = [await ask(port) for _ in range(most)]
        await until(lambda: django.held == most)

        refused, data = await client.get("/"), await client.get("/api/nothing")
        go_on.set()
        answers = [await reader.readuntil(b"hello") for reader, _ in held]
        after = await client.get("/")

    assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
    assert "Too many people" in refused.text
    assert (data.status_code, data.json()["code"]) == (503, "unavailable")
    assert all(answer.startswith(b"HTTP/1.1 200 ") for answer in answers)
    assert (after.status_code, application.closed) == (200, most + 1)


@pytest.mark.pure
async def test_a_full_disk_answers_503_without_partial_content(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(tempfile, "TemporaryFile", partial(Path("/dev/full").open, "w+b", buffering=0))
    application = Application(lambda: iter([LONG]))
    async with served(application) as (_, client, _):
        response = await client.get("/")

    assert (response.status_code, response.headers["retry-after"]) == (503, "5")
    assert "disk is full" in response.text
    assert (application.closed, spooled_bytes()) == (1, 0)
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "No space left on device" in caplog.text


@pytest.mark.pure
async def test_a_page_needs_no_disk(monkeypatch: pytest.MonkeyPatch):
    def fail() -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", fail)
    async with served(Application(lambda: iter([LONG[:500_000]]))) as (_, client, _):
        assert (await client.get("/")).status_code == 200


@pytest.mark.pure
async def test_memory_for_waiting_answers_is_bounded_in_total(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(spools, "MOST_IN_MEMORY_BYTES", 1_200_000)
    application = Application(lambda: iter([LONG[:500_000]]))
    async with served(application) as (_, client, port):
        held = [await ask(port) for _ in range(6)]
        await until(lambda: application.closed == len(held))

        assert spooled_bytes() == 1_000_000
        assert (await client.get("/")).content == LONG[:500_000]
        for _, writer in held:
            writer.transport.abort()
        await until(lambda: spooled_bytes() == 0)


@pytest.mark.pure
def test_an_answer_of_endless_length_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(spools, "LARGEST_BYTES", 3_000_000)
    with Spool() as spool:
        for _ in range(3):
            spool.write(bytes(1_000_000))
        with pytest.raises(spools.NoRoom):
            spool.write(b"x")


@pytest.mark.pure
async def test_a_file_cut_during_sending_ends_the_connection(monkeypatch: pytest.MonkeyPatch):
    opened: list[Any] = []
    make = tempfile.TemporaryFile

    def keep() -> Any:
        opened.append(make())
        return opened[-1]

    monkeypatch.setattr(tempfile, "TemporaryFile", keep)
    async with served(Application(lambda: iter([LONG]))) as (_, _, port):
        reader, _ = await ask(port)
        await until(lambda: bool(opened))
        await reader.readuntil(b"\r\n\r\n")
        opened[0].truncate(100_000)
        received = await reader.read(len(LONG))
        while part := await reader.read(65536):
            received += part

    assert 0 < len(received) < len(LONG)
