"""Who sells to the crowd: an installation of our own, or a server that runs already."""

import json
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from flashsale import embedded_redis
from tests.faults import programs
from tests.faults.load import Client
from tests.load.answers import Answer
from tests.load.checks import Books
from tests.load.profiles import Stock
from tests.servers import free_port

READY_WITHIN_SECONDS = 60.0
DRAINED_WITHIN_SECONDS = 60.0
# The contract's bound on the age of a status (docs/api.md), and then some.
STALE_AFTER_SECONDS = 1.0
STATUS_TRIES = 10
SLUG = "widget"


class Closed(Exception):
    """A program of the shop has ended, which none should; the message tells which."""


class Shop:
    """Redis, web server and order writer under a temporary directory, as `make run` starts them but for the limit per
    address: the whole crowd has one. `settings` are those that differ. Use it as a context manager."""

    def __init__(self, **settings: str):
        self._different = settings

    def __enter__(self) -> "Shop":
        self.var_dir = Path(tempfile.mkdtemp(prefix="flashsale-load-", dir="/tmp"))
        self.port = free_port()
        self._started: dict[str, subprocess.Popen[bytes]] = {}
        self._settings = programs.environment(self.var_dir, PORT=str(self.port), USER_RATE="10/10s", **self._different)
        try:
            self._start("Redis", embedded_redis.command(self.var_dir))
            self._manage("migrate", "--verbosity=0")
            self._start("writer", [sys.executable, "manage.py", "write_orders"])
            gunicorn = ["-m", "gunicorn", "-c", "python:flashsale.gunicorn", "flashsale.asgi:application"]
            self._start("web", [sys.executable, *gunicorn])
            self._wait_for(lambda: self._get("/health/live").is_success, READY_WITHIN_SECONDS)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: Any) -> None:
        for process in reversed(self._started.values()):
            programs.kill(process)
        embedded_redis.remove_short_link(self.var_dir)
        shutil.rmtree(self.var_dir, ignore_errors=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def open_sale(self, stock: Stock, in_seconds: float) -> list[Answer]:
        """Create the sale, and sell what is to be sold before the crowd comes. Return the answers to that."""
        starts_at = datetime.now(UTC) + timedelta(seconds=in_seconds)
        words = ("create_sale", "--name", "Limited Edition Widget", "--slug", SLUG, "--stock", str(stock.total))
        self._manage(*words, "--starts", starts_at.isoformat())
        self._wait_for(lambda: self._get("/api/sale/status").is_success, READY_WITHIN_SECONDS)
        client = Client(self.port, SLUG)
        told = [client.buy(f"early-{number}@example.com", f"early-{number}") for number in range(stock.sold_before)]
        client.close()
        return [
            Answer("early bird", "purchase", t.status, t.code, t.user_id, t.key, t.began, t.seconds, "", t.order_id)
            for t in told
        ]

    def books(self) -> Books:
        """Wait until the order writer has written everything, and return what Redis and SQL hold."""
        with suppress(TimeoutError):
            self._wait_for(lambda: self._backlog() == 0, DRAINED_WITHIN_SECONDS)
        (audit,) = json.loads(self._manage("audit_sale", SLUG, "--json", may_fail=True))
        status = self._get("/api/sale/status").json()
        return Books(
            total_stock=audit["total_stock"],
            remaining_stock=-1 if audit["remaining_stock"] is None else audit["remaining_stock"],
            starts_ms=_ms(status["startTime"]),
            orders=frozenset(self._orders()),
            audit=audit,
            backlog=self._backlog(),
        )

    def keep_logs(self, directory: Path) -> None:
        """Copy the logs to where they stay."""
        for name in ("web.log", "writer.log", "redis/redis.log"):
            with suppress(OSError):
                shutil.copy(self.var_dir / name, directory)

    def _backlog(self) -> int:
        return int(self._get("/health").json()["writer"].get("backlog", -1))

    def _orders(self) -> list[tuple[str, str]]:
        with closing(sqlite3.connect(self.var_dir / "db.sqlite3", timeout=10)) as connection:
            return connection.execute("SELECT user_id, order_id FROM sales_order").fetchall()

    def _get(self, path: str) -> httpx.Response:
        return httpx.get(self.url + path, timeout=5)

    def _manage(self, *words: str, may_fail: bool = False) -> str:
        return programs.run_manage(programs.PROJECT_DIR, self._settings, *words, may_fail=may_fail)

    def _start(self, name: str, command: Sequence[str | Path]) -> None:
        log = self.var_dir / f"{name}.log"
        self._started[name] = programs.start(command, log, self._settings, programs.PROJECT_DIR)

    def pid(self, name: str) -> int:
        """Return the process of one of its programs: Redis, writer, web."""
        return self._started[name].pid

    def _wait_for(self, is_so: Callable[[], bool], seconds: float) -> None:
        """Return once `is_so`. Raises TimeoutError, and Closed when one of the programs has ended."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for name, process in self._started.items():
                if process.poll() is not None:
                    last_words = (self.var_dir / f"{name}.log").read_text(errors="replace")[-2000:]
                    raise Closed(f"{name} has ended, exit status {process.returncode}. {last_words}".strip())
            with suppress(httpx.HTTPError, ValueError, KeyError):
                if is_so():
                    return
            time.sleep(0.1)
        raise TimeoutError(f"The shop was not ready within {seconds:.0f} s.")


class ForeignShop:
    """A server that runs already, and is not ours: all that is known of it is what it answers."""

    def __init__(self, url: str):
        self.url = url.rstrip("/")

    def status(self) -> dict[str, Any]:
        """Return the status of its current sale. Stops the process with one line when there is none to buy from."""
        for _ in range(STATUS_TRIES):
            try:
                response = httpx.get(f"{self.url}/api/sale/status", timeout=10)
                status = response.json()
            except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
                sys.exit(f"flashsale: {self.url}/api/sale/status does not answer as a flash sale does: {error}")
            if response.is_success:
                return status
            if "retry-after" not in response.headers:
                break
            time.sleep(1)
        sys.exit(f"flashsale: {self.url} has no sale: {response.status_code} {status.get('message', '')}")

    def seconds_to_start(self) -> float:
        """Return how long its clock has to go to the start of the sale; 0 or less when it has started."""
        status = self.status()
        return (_ms(status["startTime"]) - _ms(status["serverTime"])) / 1000

    def books(self) -> Books:
        time.sleep(STALE_AFTER_SECONDS)
        status = self.status()
        return Books(status["totalStock"], status["remainingStock"], _ms(status["startTime"]))


def _ms(iso: str) -> int:
    return round(datetime.fromisoformat(iso).timestamp() * 1000)
