"""Disks that fill up: an answer that needs no disk is given, and the log says once what to do."""

import logging
import time
from pathlib import Path

import httpx
import pytest
from prometheus_client.mmap_dict import mmap_key
from prometheus_client.multiprocess import MultiProcessCollector

from sales import counts_files
from sales.counts_files import Counts
from tests import small_disks
from tests.conftest import MakeSale
from tests.servers import RedisServer, WebServer, free_port
from tests.small_disks import SmallDisk
from tests.test_metrics import BUY, until
from tests.test_metrics_files import attempts, workers

SEEN = mmap_key("seen", "seen_total", ["sale"], ["widget"], "Seen.")


def test_a_full_metrics_folder_stops_no_answer(
    redis_server: RedisServer, make_sale: MakeSale, transactional_db: None, static_files: None, tmp_path: Path
):
    small_disks.need()
    disk, sale = SmallDisk(tmp_path / "metrics", 4096), make_sale(100)
    with WebServer({"PORT": str(free_port()), "METRICS_DIR": str(tmp_path / "metrics")}, disk=disk) as server:
        before = workers(server)
        for turn in range(20):  # some of them later than the second in which the numbers are written
            bought = httpx.post(f"{server.url}{BUY}", json={"userId": f"ada-{turn}"}, timeout=10)
            assert bought.json()["code"] == "purchased"
            assert httpx.get(f"{server.url}/", timeout=10).status_code == 200
            time.sleep(0.1)

        assert workers(server) == before, "a worker died"
        lines = [line for line in server.log.read_text().splitlines() if "No space left on device" in line]
        assert len(lines) == len(before), "each worker says it once"
        assert all("Free some space" in line for line in lines)

        disk.make_room(min(before))
        assert attempts(until(server, lambda scrape: attempts(scrape, sale) == 20), sale) == 20


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
