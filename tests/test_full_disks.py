"""Disks that fill up: an answer that needs no disk is given, and the log says once what to do."""

import logging
import signal
import sys
import time
from collections.abc import Callable
from itertools import count, islice
from pathlib import Path

import httpx
import psutil
import pytest
from prometheus_client.mmap_dict import mmap_key
from prometheus_client.multiprocess import MultiProcessCollector

from sales import counts_files
from sales.counts_files import Counts
from tests import small_disks
from tests.conftest import MakeSale
from tests.faults import programs
from tests.servers import PATIENT, RedisServer, WebServer, free_port
from tests.small_disks import SmallDisk
from tests.test_metrics import BUY
from tests.test_metrics_files import workers

pytestmark = pytest.mark.long

SEEN = mmap_key("seen", "seen_total", ["sale"], ["widget"], "Seen.")


def test_a_full_metrics_folder_stops_no_answer(
    redis_server: RedisServer, make_sale: MakeSale, transactional_db: None, static_files: None, tmp_path: Path
):
    """A folder that has no room for what a worker counts."""
    small_disks.need()
    make_sale(100)
    disk = SmallDisk(tmp_path / "metrics", 64)
    with WebServer(
        {"PORT": str(free_port()), "METRICS_DIR": str(tmp_path / "metrics")}, PATIENT, wrap=disk.wrap
    ) as server:
        before = workers(server)
        for turn in range(20):  # some of them later than the second in which the numbers are written
            bought = httpx.post(f"{server.url}{BUY}", json={"userId": f"ada-{turn}"})
            assert bought.json()["code"] == "purchased"
            assert httpx.get(f"{server.url}/").status_code == 200
            time.sleep(0.1)
        after = workers(server)
        lines = [line for line in server.log.read_text().splitlines() if "No space left on device" in line]

    assert after == before, "a worker died"
    assert len(lines) == len(before), "each worker says it once"
    assert all("Free some space" in line for line in lines)


def test_a_full_data_folder_loses_no_purchase(tmp_path: Path):
    """All data's place is full while a sale runs: Redis and SQL refuse, and go on when there is room."""
    small_disks.need()
    names = (f"ada-{turn}" for turn in count())
    with LocalServer(tmp_path) as server:
        processes = server.web_workers()
        codes = {name: server.buy(name) for name in islice(names, 5)}

        server.disk.fill(server.popen.pid)
        while set(codes.values()) == {"purchased"}:  # what Redis's file has room for
            name = next(names)
            codes[name] = server.buy(name)
        paths = "/health/live", "/admin/login/", "/shopper/"
        needs_no_disk = {path: server.get(path).status_code for path in paths}
        page, health = server.get("/"), server.get("/health")

        server.disk.make_room(server.popen.pid)
        server.wait_until(lambda: server.buy("late") in ("purchased", "already_purchased"))
        server.wait_until(lambda: server.get("/health").json()["writer"].get("backlog") == 0)

        assert needs_no_disk == dict.fromkeys(paths, 200)
        assert {page.status_code, health.status_code} <= {200, 503}  # 200 while a Redis that was started again can read
        assert server.web_workers() == processes, "a worker died"
        told = [name for name, code in codes.items() if code == "purchased"]
        assert all(server.has_bought(name) for name in [*told, "late"])
        bought = 1 + sum(server.has_bought(name) for name in codes)
        server.wait_until(lambda: server.sold() == bought)  # a worker shows what was a moment ago


def test_counts_are_read_as_the_client_reads_them(tmp_path: Path):
    counts = Counts(tmp_path / "counter_7.db")
    for value in (1.0, 2.0):
        counts.write_value(SEEN, value, 0.0)
        counts.save()
        assert seen(tmp_path) == value


def test_counts_that_cannot_be_written_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(counts_files._Kept, "counts", [])
    counts = counts_files.keep(str(tmp_path / "away" / "counter_7.db"))
    for value in (1.0, 2.0):
        counts.write_value(SEEN, value, 0.0)
        counts_files.save()

    (tmp_path / "away").mkdir()
    counts_files.save()

    assert seen(tmp_path / "away") == 2.0
    assert [record.levelno for record in caplog.records] == [logging.ERROR, logging.WARNING]


def seen(directory: Path) -> float:
    (metric,) = MultiProcessCollector(None, directory).collect()
    return metric.samples[0].value


class LocalServer:
    """What `make run` starts, with all its data on a small disk."""

    def __init__(self, directory: Path):
        self.disk = SmallDisk(directory / "var", 200_000)
        self._var_dir, self._log = directory / "var", directory / "log"
        self._client = httpx.Client(base_url=f"http://127.0.0.1:{(port := free_port())}", timeout=120)
        command = [*self.disk.wrap, sys.executable, "-m", "flashsale.local"]
        self.popen = programs.start(
            command, self._log, programs.environment(self._var_dir, PORT=str(port)), programs.PROJECT_DIR
        )

    def __enter__(self) -> "LocalServer":
        self.wait_until(lambda: "Ctrl-C" in self._log.read_text())
        return self

    def __exit__(self, *_: object) -> None:
        self.popen.send_signal(signal.SIGINT)
        self.popen.wait(timeout=60)

    def wait_until(self, is_so: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 120
        while not is_so():
            assert time.monotonic() < deadline, self._log.read_text()
            assert self.popen.poll() is None, self._log.read_text()
            time.sleep(0.1)

    def get(self, path: str) -> httpx.Response:
        return self._client.get(path)

    def buy(self, name: str) -> str:
        return str(self._client.post(BUY, json={"userId": name}).json()["code"])

    def web_workers(self) -> set[int]:
        """The web server's processes that answer, without the one that starts them."""
        children = psutil.Process(self.popen.pid).children(recursive=True)
        return {one.pid for one in children if "gunicorn" in " ".join(one.parent().cmdline())}

    def has_bought(self, name: str) -> bool:
        return bool(self.get(f"/api/sale/user/{name}").json()["hasPurchased"])

    def sold(self) -> int:
        status = self.get("/api/sale/status?fresh").json()
        return int(status["totalStock"] - status["remainingStock"])
