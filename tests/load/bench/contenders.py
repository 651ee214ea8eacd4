"""Who is measured: this project as it runs, and the same purchase rules written as others write them."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import httpx
import psutil
import redis

from flashsale import embedded_redis
from tests.faults import programs
from tests.servers import free_port

READY_WITHIN_SECONDS = 30
PEERS_DIR = programs.PROJECT_DIR / "tests" / "load" / "peers"
BUILD_DIR = programs.PROJECT_DIR / "var" / "bench"
PLENTY = 1_000_000_000
NO_PERSISTENCE = ("--appendonly", "no")

PURCHASES = ("winning", "sold_out")


class Missing(Exception):
    """The tool chain of a contender is not there; the message names it."""


class Contender:
    """One server with a Redis of its own, both in a temporary directory. Use it as a context manager."""

    #: Which work it does, of winning, sold_out, status and page.
    works: Sequence[str] = (*PURCHASES, "status")
    redis_options: Sequence[str] = NO_PERSISTENCE
    purchase_path = "/api/sale/purchase"
    paths = {"status": "/api/sale/status", "page": "/"}

    def __enter__(self) -> Self:
        self.var_dir = Path(tempfile.mkdtemp(prefix="flashsale-bench-", dir="/tmp"))
        self.port = free_port()
        self._started: list[subprocess.Popen[bytes]] = []
        try:
            self.redis = redis.Redis(unix_socket_path=str(self.redis_socket), decode_responses=True)
            self.start_redis()
            _wait_for(self.redis.ping)
            self.prepare()
            self.server = self._start(self.command())
            self.start_others()
            _wait_for(self._answers)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: Any) -> None:
        for process in reversed(self._started):
            programs.kill(process)
        shutil.rmtree(self.var_dir, ignore_errors=True)

    @property
    def redis_socket(self) -> Path:
        return embedded_redis.socket_path(self.var_dir)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start_redis(self) -> None:
        self.redis_process = self._start([*embedded_redis.command(self.var_dir), *self.redis_options])

    def command(self) -> list[Any]:
        raise NotImplementedError

    def prepare(self) -> None:
        """Put a sale with plenty of stock into Redis."""
        now_ms = int(time.time() * 1000)
        self.redis.hset("peer:config", mapping={"starts_ms": now_ms, "ends_ms": now_ms + 86_400_000, "paused": "0"})
        self.redis.set("peer:stock", PLENTY)

    def start_others(self) -> None:
        """Start what else belongs to it."""

    def sell_out(self) -> None:
        """Have every further attempt refused."""
        self.redis.set("peer:stock", 0)

    def processes(self) -> list[psutil.Process]:
        """Return the processes of the server, without Redis."""
        server = psutil.Process(self.server.pid)
        return [server, *server.children(recursive=True)]

    def _environment(self) -> dict[str, str]:
        return programs.environment(self.var_dir) | {"PEER_REDIS_SOCKET": str(self.redis_socket)}

    def _start(self, command: Sequence[Any]) -> subprocess.Popen[bytes]:
        words = [str(word) for word in command]
        process = programs.start(words, self.var_dir / "log", self._environment(), programs.PROJECT_DIR)
        self._started.append(process)
        return process

    def _answers(self) -> None:
        assert self.server.poll() is None, (self.var_dir / "log").read_text()
        httpx.get(self.address + self.paths["status"], timeout=1).raise_for_status()


class FlashSale(Contender):
    """This project, as its Procfile runs it, with the settings of `make run` but for the limit per address."""

    works: Sequence[str] = (*PURCHASES, "status", "page")
    redis_options: Sequence[str] = ()

    def command(self) -> list[Any]:
        return [sys.executable, "-m", "gunicorn", "-c", "python:flashsale.gunicorn", "flashsale.asgi:application"]

    def prepare(self) -> None:
        self.manage("migrate", "--verbosity=0")
        self.create_sale("plenty", PLENTY)

    def sell_out(self) -> None:
        """Open a sale of one unit, which is sold."""
        self.create_sale("one", 1)
        time.sleep(0.5)  # every worker has seen by now which sale is the current one
        httpx.post(self.address + self.purchase_path, json={"userId": "first"}).raise_for_status()

    def create_sale(self, slug: str, stock: int) -> int:
        """Create a sale that is open now, and return its ID."""
        return json.loads(self.manage("create_sale", "--name", slug, "--slug", slug, "--stock", str(stock)))["id"]

    def manage(self, *words: str) -> str:
        return programs.run_manage(programs.PROJECT_DIR, self._environment(), *words)

    def _environment(self) -> dict[str, str]:
        url = f"unix://{self.redis_socket}"
        return super()._environment() | {"PORT": str(self.port), "USER_RATE": "10/10s", "REDIS_URL": url}


class FlashSaleWithWriter(FlashSale):
    """As `FlashSale`, and with the order writer at work beside it."""

    works = ("winning",)

    def start_others(self) -> None:
        self._start([sys.executable, "manage.py", "write_orders"])


class FlashSaleWithoutPersistence(FlashSale):
    """As `FlashSale`, but Redis keeps nothing: what the peers do."""

    works = PURCHASES
    redis_options = NO_PERSISTENCE


class Express(Contender):
    def command(self) -> list[Any]:
        return ["node", _express_dir() / "server.js", self.port, self.redis_socket, PEERS_DIR / "purchase.lua"]


class Go(Contender):
    def command(self) -> list[Any]:
        return [_go_binary(), self.port, self.redis_socket, PEERS_DIR / "purchase.lua"]


class DjangoView(Contender):
    def command(self) -> list[Any]:
        module = "tests.load.peers.django_view:application"
        gthread = ("--worker-class", "gthread", "--workers", "2", "--threads", "16", "--backlog", "4096")
        quiet = ("--log-level", "warning", "--no-control-socket", "--keep-alive", "75")
        connections = ("--worker-connections", "5000")
        bind = ("--bind", f"127.0.0.1:{self.port}")
        return [sys.executable, "-m", "gunicorn", *gthread, *connections, *quiet, *bind, module]


class Floor(Contender):
    """It answers any request with "ok", and asks Redis nothing."""

    works = ("winning", "status")

    def command(self) -> list[Any]:
        fast = ("--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning")
        address = ("--host", "127.0.0.1", "--port", self.port, "--backlog", 4096)
        return [sys.executable, "-m", "uvicorn", "tests.load.peers.floor:app", "--workers", 2, *fast, *address]


@dataclass(frozen=True)
class Entry:
    """A contender, what it is in words, and what this machine must have for it."""

    kind: type[Contender]
    words: str
    tool: str = "python"


CONTENDERS = {
    "flashsale": Entry(FlashSale, "this project, every purchase on disk before its answer"),
    "flashsale-writer": Entry(FlashSaleWithWriter, "the same, with the order writer at work"),
    "flashsale-memory": Entry(FlashSaleWithoutPersistence, "the same, Redis without persistence"),
    "go": Entry(Go, "Go, net/http + redigo", "go"),
    "express": Entry(Express, "Node, Express + ioredis, two processes", "npm"),
    "django-view": Entry(DjangoView, "a plain Django view, gunicorn gthread"),
    "floor": Entry(Floor, 'bare uvicorn that answers "ok"'),
}


def build(entry: Entry) -> None:
    """Make what a contender needs to start. Raises Missing."""
    if entry.tool != "python" and not shutil.which(entry.tool):
        raise Missing(f"{entry.tool} is not installed")
    if entry.kind is Express:
        _express_dir()
    if entry.kind is Go:
        _go_binary()


def _express_dir() -> Path:
    """Return the Express peer with its packages."""
    directory = BUILD_DIR / "express"
    shutil.copytree(PEERS_DIR / "express", directory, dirs_exist_ok=True)
    lock, installed = directory / "package-lock.json", directory / "node_modules" / ".package-lock.json"
    if not installed.exists() or installed.stat().st_mtime < lock.stat().st_mtime:
        _run(["npm", "ci", "--silent", "--no-audit", "--no-fund"], directory)
    return directory


def _go_binary() -> Path:
    directory = BUILD_DIR / "go"
    shutil.copytree(PEERS_DIR / "go", directory, dirs_exist_ok=True)
    binary, source = directory / "peer", PEERS_DIR / "go" / "main.go"
    if binary.exists() and binary.stat().st_mtime > source.stat().st_mtime:
        return binary
    debian = Path("/usr/share/gocode")  # golang-github-gomodule-redigo-dev puts redigo there
    if (debian / "src/github.com/gomodule/redigo").exists():
        _run(["go", "build", "-o", str(binary), "main.go"], directory, GO111MODULE="off", GOPATH=str(debian))
    else:
        _run(["go", "build", "-mod=mod", "-o", str(binary), "."], directory)
    return binary


def _run(command: list[str], directory: Path, **environment: str) -> None:
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, env={**os.environ, **environment})
    if done.returncode != 0:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise Missing(f"`{' '.join(command[:3])}` failed: {' '.join(last)}")


def _wait_for(attempt: Callable[[], Any]) -> None:
    deadline = time.monotonic() + READY_WITHIN_SECONDS
    while time.monotonic() < deadline:
        with suppress(redis.RedisError, httpx.HTTPError):
            attempt()
            return
        time.sleep(0.05)
    attempt()
