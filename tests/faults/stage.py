"""One throw-away installation: Redis, SQL, web server and order writers of its own, and one sale that is open."""

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import redis

from flashsale import embedded_redis
from tests.faults import cancellations, programs
from tests.faults.databases import PostgreSQL, SQLite, new_postgresql, new_sqlite, prepared_var_dir
from tests.faults.load import Client, Load
from tests.faults.proxy import Proxy
from tests.servers import free_port
from tests.small_disks import SmallDisk

READY_WITHIN_SECONDS = 120.0
SHOWN_WITHIN_SECONDS = 30.0
SLUG = "widget"


Purchase = tuple[str, str]


@dataclass(frozen=True)
class Plan:
    """What a fault needs of its stage. `app_clock_seconds` is how far the clock of web server and writers is wrong."""

    database: str = "sqlite"
    proxied: bool = False
    writers: int = 1
    app_clock_seconds: int = 0
    shifts_redis_clock: bool = False
    small_disk: bool = False

    def lacks(self) -> str:
        """Return what of it this machine does not have, or ""."""
        return programs.what_lacks(
            needs_postgresql=self.database == "postgresql",
            needs_faketime=bool(self.app_clock_seconds) or self.shifts_redis_clock,
            needs_mount=self.small_disk,
        )


@dataclass
class Stage:
    """An installation as `plan` says, under a temporary directory. Use it as a context manager."""

    plan: Plan
    total_stock: int
    rng: random.Random
    project_dir: Path = programs.PROJECT_DIR
    redis_process: subprocess.Popen[bytes] = field(init=False)
    web: subprocess.Popen[bytes] = field(init=False)
    writers: list[subprocess.Popen[bytes]] = field(init=False, default_factory=list)
    # What a fault has done: when Redis came to hold less, and how many entries are no purchases.
    data_lost_at: float = field(init=False, default=0.0)
    malformed_entries: int = field(init=False, default=0)
    # From when on nothing was cancelled, nor came back to stock.
    settled_at: float = field(init=False, default=0.0)
    # Whether shoppers have heard of the fault that is under way; a round knows.
    has_shown: Callable[[], bool] = field(init=False, default=lambda: True)

    def __enter__(self) -> "Stage":
        prepared = prepared_var_dir()
        self.var_dir = Path(tempfile.mkdtemp(prefix="flashsale-stage-", dir="/tmp"))
        self._started: list[subprocess.Popen[bytes]] = []
        try:
            (self.var_dir / "static").symlink_to(prepared / "static")
            self._set_up()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _set_up(self) -> None:
        if self.plan.small_disk:
            self._mount_small_disk()
        self._clock_file.write_text("+0")
        is_sqlite = self.plan.database == "sqlite"
        self.database: SQLite | PostgreSQL = new_sqlite(self.var_dir) if is_sqlite else new_postgresql()
        self.start_redis()
        self.proxy = Proxy(embedded_redis.socket_path(self.var_dir)) if self.plan.proxied else None
        self.port = free_port()
        self.settings = programs.environment(
            self.var_dir,
            DATABASE_URL=self.database.url,
            PORT=str(self.port),
            REDIS_URL=f"redis://127.0.0.1:{self.proxy.port}" if self.proxy else "",
        )
        self._app_settings = self.settings
        if self.plan.app_clock_seconds:
            self._app_settings = self.settings | programs.shifted_clock(FAKETIME=f"{self.plan.app_clock_seconds:+d}")
        self.start_web(wait=False)
        self.start_writers()
        starts_at = datetime.now(UTC) - timedelta(hours=1)
        words = ("create_sale", "--name", "Widget", "--slug", SLUG, "--stock", str(self.total_stock))
        self.sale_id = int(json.loads(self.manage(*words, "--starts", starts_at.isoformat()))["id"])
        self.wait_for_web()

    def __exit__(self, *_: Any) -> None:
        for process in reversed(self._started):
            programs.kill(process)
        if proxy := getattr(self, "proxy", None):
            proxy.close()
        embedded_redis.remove_short_link(self.var_dir)
        shutil.rmtree(self.var_dir, ignore_errors=True)

    @property
    def redis_dir(self) -> Path:
        """Where Redis's files are for this process."""
        return self._disk.seen_by(self._disk_holder.pid) if self.plan.small_disk else self.var_dir / "redis"

    def _mount_small_disk(self) -> None:
        """Have a process hold a disk of 4 MB for Redis's files, which stays when Redis ends."""
        self._disk = SmallDisk(self.var_dir / "redis", 4096)
        self._disk_holder = self._start([*self._disk.wrap, "sleep", "infinity"], "disk.log", dict(os.environ))
        deadline = time.monotonic() + READY_WITHIN_SECONDS
        while not self._disk.is_mounted(self._disk_holder.pid):
            assert self._disk_holder.poll() is None, self.log("disk.log")
            assert time.monotonic() < deadline, self.log("disk.log")
            time.sleep(0.01)

    @property
    def redis(self) -> Any:
        """Return a new connection to Redis itself. Untyped, as `store.client` is."""
        url = f"unix://{embedded_redis.socket_path(self.var_dir)}"
        return redis.Redis.from_url(url, decode_responses=True, encoding_errors="replace", socket_timeout=60)

    def key(self, name: str) -> str:
        return f"{{sale:{self.sale_id}}}:{name}"

    def start_redis(self, *, wait: bool = True) -> None:
        settings = programs.environment(self.var_dir)
        if self.plan.shifts_redis_clock:
            # Time-outs are monotonic, and stay as they are. It looks at the file once a second.
            settings |= programs.shifted_clock(FAKETIME_TIMESTAMP_FILE=str(self._clock_file))
            settings |= {"FAKETIME_CACHE_DURATION": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
        joined = self._disk.join(self._disk_holder.pid) if self.plan.small_disk else []
        command = [*joined, *embedded_redis.command(self.var_dir)]
        self.redis_process = self._start(command, "redis-process.log", settings)
        deadline = time.monotonic() + READY_WITHIN_SECONDS
        while wait:
            try:
                self.redis.ping()
                return
            except redis.RedisError:
                assert self.redis_process.poll() is None, self.log("redis/redis.log")
                assert time.monotonic() < deadline, self.log("redis/redis.log")
                time.sleep(0.01)

    def wait_until_shown(self) -> None:
        """Return once shoppers have heard of the fault, or after half a minute: the round says so then."""
        deadline = time.monotonic() + SHOWN_WITHIN_SECONDS
        while not self.has_shown() and time.monotonic() < deadline:
            time.sleep(0.05)

    def kill_redis(self) -> None:
        programs.kill(self.redis_process)

    def start_web(self, *, wait: bool = True) -> None:
        command = [sys.executable, "-m", "gunicorn", "-c", "python:flashsale.gunicorn", "flashsale.asgi:application"]
        self.web = self._start(command, "web.log", self._app_settings)
        if wait:
            self.wait_for_web()

    def wait_for_web(self) -> None:
        client, deadline = Client(self.port, SLUG), time.monotonic() + READY_WITHIN_SECONDS
        while not client.sale_is_open():
            assert self.web.poll() is None, self.log("web.log")
            assert time.monotonic() < deadline, self.log("web.log")
            time.sleep(0.02)
        client.close()

    def web_workers(self) -> list[int]:
        return [child.pid for child in psutil.Process(self.web.pid).children()]

    def start_writers(self) -> None:
        command = [sys.executable, self.project_dir / "manage.py", "write_orders"]
        self.writers = [self._start(command, "writer.log", self._app_settings) for _ in range(self.plan.writers)]

    def stop_writers(self) -> None:
        for writer in self.writers:
            writer.terminate()
            writer.wait(timeout=60)

    def start_dying_writer(self, step: str, number: int) -> subprocess.Popen[bytes]:
        """Start an order writer that kills itself as it comes to `step` for the `number`th time."""
        script = Path(__file__).with_name("dying_writer.py")
        settings = {**self.settings, "PYTHONPATH": str(self.project_dir)}
        return self._start([sys.executable, script, step, str(number)], "writer.log", settings)

    def start_canceller(self, step: str = "", number: int = 0) -> subprocess.Popen[bytes]:
        """Start an operator who cancels orders; with a step, one who dies as `start_dying_writer`'s."""
        script = Path(__file__).with_name("canceller.py")
        settings = {**self.settings, "PYTHONPATH": str(self.project_dir)}
        words = [str(self.rng.randrange(1_000_000)), step, str(number)]
        return self._start([sys.executable, script, *words], "cancellations.log", settings)

    def told_cancellations(self) -> list[cancellations.Cancellation]:
        """Return what the cancellers have told so far, in their order."""
        return cancellations.read(self.var_dir / "cancellations.log")

    def cancelled_orders(self) -> dict[Purchase, bool]:
        """Return shopper and order_id of each cancelled order in SQL, and whether that shopper may buy again."""
        words = (
            "SELECT user_id, order_id, may_buy_again FROM sales_order WHERE sale_id = %s AND NOT cancelled_at IS NULL"
        )
        rows = self.database.query(words, self.sale_id)
        return {(user_id, order_id): bool(may_buy_again) for user_id, order_id, may_buy_again in rows}

    def units_left(self) -> int:
        return int(self.redis.get(self.key("stock")) or 0)

    def missing(self) -> set[Purchase]:
        """Return shopper and order_id of what workers have named as acknowledged and lost."""
        words = "SELECT user_id, order_id FROM sales_missingorder WHERE sale_id = %s"
        return {(user_id, order_id) for user_id, order_id in self.database.query(words, self.sale_id)}

    def cancellations_due(self) -> int:
        """Return how many cancellations Redis has not taken, as far as SQL knows."""
        return self.database.query("SELECT count(*) FROM sales_order WHERE cancellation_due")[0][0]

    def manage(self, *words: str, may_fail: bool = False) -> str:
        """Run a management command and return what it printed."""
        return programs.run_manage(self.project_dir, self.settings, *words, may_fail=may_fail)

    def audit(self) -> dict[str, Any]:
        """Return what the audit finds."""
        (found,) = json.loads(self.manage("audit_sale", SLUG, "--json", may_fail=True))
        return found

    def shift_redis_clock(self, seconds: int) -> None:
        """Shift Redis's time of day, and no other process's."""
        self._clock_file.write_text(f"{seconds:+d}")

    def orders(self) -> list[Purchase]:
        """Return shopper and order_id of each order that SQL holds and that is not cancelled."""
        words = "SELECT user_id, order_id FROM sales_order WHERE sale_id = %s AND cancelled_at IS NULL"
        rows = self.database.query(words, self.sale_id)
        return [(user_id, order_id) for user_id, order_id in rows]

    def load(self) -> Load:
        return Load(self.port, SLUG, self.rng)

    def log(self, name: str) -> str:
        """Return the end of one of the logs, for a person to read."""
        with suppress(OSError):
            path = self.redis_dir / "redis.log" if name == "redis/redis.log" else self.var_dir / name
            return f"{name}:\n" + path.read_text(errors="replace")[-3000:]
        return f"{name} is missing"

    @property
    def _clock_file(self) -> Path:
        return self.var_dir / "clock"

    def _start(self, command: list[Any], log: str, settings: dict[str, str]) -> subprocess.Popen[bytes]:
        process = programs.start(command, self.var_dir / log, settings, self.project_dir)
        self._started.append(process)
        return process
