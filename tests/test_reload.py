"""A reload under load: old workers hand over to new ones, and no request is lost, refused or wrongly answered."""

import asyncio
import itertools
import math
import os
import random
import re
import shutil
import signal
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx
import orjson
import psutil
import pytest
from django.conf import settings

from flashsale.closing import LINGER_SECONDS
from sales import store
from tests.conftest import MakeSale
from tests.servers import PATIENT, WebServer, free_port

T = TypeVar("T")

RELOADS = 4
REPLACED_WITHIN_SECONDS = 180


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The project in a place where it may be changed."""
    for name in ("flashsale", "sales", "static", "templates"):
        shutil.copytree(settings.BASE_DIR / name, tmp_path / name)
    for name in ("manage.py", "requirements.txt"):
        shutil.copy2(settings.BASE_DIR / name, tmp_path / name)
    return tmp_path


def port_of(server: WebServer) -> int:
    return int(server.url.rpartition(":")[2])


def workers_of(server: WebServer) -> set[int]:
    assert server.popen
    return {child.pid for child in psutil.Process(server.popen.pid).children()}


def hang_up(server: WebServer) -> None:
    assert server.popen
    os.kill(server.popen.pid, signal.SIGHUP)


def wait_for(look: Callable[[], T | None], server: WebServer) -> T:
    """Return what `look` finds, as soon as it is something."""
    deadline = time.monotonic() + REPLACED_WITHIN_SECONDS
    while not (found := look()):
        assert time.monotonic() < deadline, server.log.read_text()
        time.sleep(0.02)
    return found


def reload(server: WebServer) -> None:
    """Send a HUP, and wait until other workers have taken the old ones' place."""
    old = workers_of(server)
    hang_up(server)
    wait_for(lambda: len(now := workers_of(server)) == 2 and not now & old, server)


class Connection:
    """A client's connection that reads one answer to each request, and nothing between them."""

    def __init__(self, port: int):
        self.port = port
        self.is_open = False

    async def open(self) -> None:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.is_open = True

    async def ask(self, request: bytes) -> tuple[int, dict[str, Any]]:
        """Return status and body. Raises OSError or EOFError when the answer does not come whole."""
        if not self.is_open:
            await self.open()
        self.writer.write(request)
        head = (await self.reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        body = orjson.loads(await self.reader.readexactly(length))
        if b"connection: close" in head:
            self.close()
        return int(head.split(b" ", 2)[1]), body

    def close(self) -> None:
        if self.is_open:
            self.is_open = False
            self.writer.close()


@dataclass
class Log:
    """What became of all requests, and whether no further one is to be sent."""

    answers: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    longest_wait_seconds: float = 0.0
    names: Iterator[int] = field(default_factory=itertools.count)
    is_over: bool = False

    async def grows_by(self, answers: int) -> None:
        """Return once so many more answers have come."""
        enough = self.answers.total() + answers
        async with asyncio.timeout(180):
            while self.answers.total() < enough:
                await asyncio.sleep(0.05)


async def shop(port: int, log: Log, longest_pause_seconds: float, *, keeps_alive: bool) -> None:
    """Buy and ask for the status in turns."""
    connection, asked_last = Connection(port), math.inf
    while not log.is_over:
        name = f"shopper-{next(log.names)}"
        for request, judge in ((purchase(name), judge_purchase), (STATUS, judge_status)):
            started = time.monotonic()
            try:
                log.answers[judge(*await connection.ask(request))] += 1
            except (OSError, EOFError) as error:
                # Who asks later than that, on a busy machine, may meet a connection that was closed in peace.
                if keeps_alive and started - asked_last > LINGER_SECONDS:
                    log.answers["too late"] += 1
                else:
                    words = f"{type(error).__name__} after {time.monotonic() - started:.3f} s: {request[:30]!r}"
                    log.lost.append(words)
                connection.close()
            asked_last = started
            log.longest_wait_seconds = max(log.longest_wait_seconds, time.monotonic() - started)
            if not keeps_alive:
                connection.close()
            await asyncio.sleep(random.uniform(0, longest_pause_seconds))
    connection.close()


STATUS = b"GET /api/sale/status HTTP/1.1\r\nHost: localhost\r\n\r\n"


def purchase(name: str) -> bytes:
    body = orjson.dumps({"userId": name})
    head = f"Host: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return b"POST /api/sale/purchase HTTP/1.1\r\n" + head.encode() + body


def judge_purchase(status: int, body: dict[str, Any]) -> str:
    return str(body["code"]) if status == 200 else f"wrong: {status} {body}"


def judge_status(status: int, body: dict[str, Any]) -> str:
    return "status" if (status, body.get("status")) == (200, "active") else f"wrong: {status} {body}"


@asynccontextmanager
async def shoppers(port: int) -> AsyncIterator[Log]:
    """Shoppers who hurry and who dawdle, on connections that stay open and on one for each request.

    At the end each hears what it has asked.
    """
    log = Log()
    kinds = [(0.02, True), (0.02, False), (0.8 * LINGER_SECONDS, True)]
    async with asyncio.TaskGroup() as crowd:
        for pause, keeps in kinds * 15:
            crowd.create_task(shop(port, log, pause, keeps_alive=keeps))
        yield log
        log.is_over = True


@pytest.fixture
def patient_server(redis_server: object, static_files: None, transactional_db: None) -> Iterator[WebServer]:
    """Two workers that nobody else asks, and that no busy machine makes refuse."""
    with WebServer({"PORT": str(free_port())}, PATIENT) as server:
        yield server


@pytest.mark.long
async def test_a_reload_loses_no_request(patient_server: WebServer, make_sale: MakeSale, seen: Callable[[], None]):
    sale = make_sale(1_000_000)
    seen()

    async with shoppers(port_of(patient_server)) as log:
        await log.grows_by(100)
        for _ in range(RELOADS):
            await asyncio.to_thread(reload, patient_server)
            await log.grows_by(100)

    print(f"{log.answers}, longest wait {log.longest_wait_seconds * 1000:.0f} ms")
    assert log.lost == []
    assert set(log.answers) - {"too late"} == {"purchased", "status"}
    assert log.answers["purchased"] == store.client().hlen(store.key(sale.id, "purchases"))
    assert log.answers["purchased"] > 200


@pytest.mark.long
async def test_a_restart_loses_no_request_where_systemd_holds_the_port(
    static_files: None, redis_server: object, transactional_db: None, make_sale: MakeSale
):
    make_sale(1_000_000)
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as listener:
        port = listener.getsockname()[1]
        server = WebServer({"PORT": str(port)}, PATIENT, listener=listener)
        server.start()
        async with shoppers(port) as log:
            await log.grows_by(100)
            await asyncio.to_thread(server.stop)
            await asyncio.to_thread(server.start)
            await log.grows_by(100)
        server.stop()

    print(f"{log.answers}, longest wait {log.longest_wait_seconds * 1000:.0f} ms")
    assert log.lost == []
    assert set(log.answers) - {"too late"} == {"purchased", "status"}


@pytest.mark.long
def test_old_workers_serve_until_the_new_ones_do(own_server: WebServer):
    old = workers_of(own_server)

    hang_up(own_server)
    new = wait_for(lambda: found if len(found := workers_of(own_server) - old) == 2 else None, own_server)
    for worker in new:
        os.kill(worker, signal.SIGSTOP)
    time.sleep(1)
    answered = [httpx.get(f"{own_server.url}/health/live").status_code for _ in range(5)]
    for worker in new:
        os.kill(worker, signal.SIGCONT)

    assert answered == [200] * 5
    assert wait_for(lambda: workers_of(own_server) == new, own_server)


async def test_a_request_that_meets_a_stopping_server_is_answered(own_server: WebServer):
    assert own_server.popen
    for _ in range(20):
        connection, idle, fresh = (Connection(port_of(own_server)) for _ in range(3))
        for each in (connection, idle):
            await each.ask(STATUS)
        await fresh.open()

        stopped = time.monotonic()
        own_server.popen.terminate()
        await asyncio.sleep(0.5)
        with suppress(OSError, EOFError):
            answers = [await each.ask(STATUS) for each in (connection, fresh)]
        if time.monotonic() < stopped + LINGER_SECONDS:
            break
        await asyncio.to_thread(own_server.stop)  # a busy machine was too late to ask: once more
        await asyncio.to_thread(own_server.start)

    assert [body["code"] for _, body in answers] == ["no_sale", "no_sale"]
    assert not connection.is_open, "the answer says that the connection closes"
    assert not fresh.is_open
    assert await idle.reader.read() == b"", "closed in peace, not reset"
    assert await asyncio.to_thread(own_server.popen.wait, 60) == 0


@pytest.mark.long
def test_a_reload_takes_new_settings_code_and_files(copy: Path, static_files: None, transactional_db: None):
    with WebServer({"PORT": str(free_port())}, directory=copy) as server:
        before = httpx.get(f"{server.url}/admin/login/")
        with (copy / "flashsale/settings.py").open("a") as file:
            file.write('X_FRAME_OPTIONS = "SAMEORIGIN"\n')
        with (copy / "static/sales/sale.css").open("a") as file:
            file.write("/* another */\n")
        reload(server)
        after, page = httpx.get(f"{server.url}/admin/login/"), httpx.get(f"{server.url}/sales/")
        sheet = re.search(r'href="(/static/sales/sale\.[^"]+\.css)"', page.text)

        assert (before.headers["x-frame-options"], after.headers["x-frame-options"]) == ("DENY", "SAMEORIGIN")
        assert sheet
        assert "/* another */" in httpx.get(f"{server.url}{sheet[1]}").text
