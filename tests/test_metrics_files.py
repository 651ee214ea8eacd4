"""What dead workers have counted: it stays in the sums, in one file, however many read at once."""

import fcntl
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from django.conf import settings
from prometheus_client.mmap_dict import MmapedDict, mmap_key

from flashsale import embedded_redis
from sales import metrics, metrics_files
from sales.models import Sale
from tests.servers import PATIENT, RedisServer, WebServer, free_port
from tests.test_metrics import BUY, Scrape, clients_of_both, until

REQUESTS = "flashsale_request_duration_seconds"
# No process of Linux has a number as high.
NOBODY = 5_000_000


def count(directory: Path, process: int, value: float) -> None:
    """Write what a worker of that number would leave: a counter, and a histogram of two buckets."""
    counter = MmapedDict(str(directory / f"counter_{process}.db"))
    counter.write_value(mmap_key("seen", "seen_total", ["sale"], ["widget"], "Seen."), value, 0.0)
    counter.close()
    histogram = MmapedDict(str(directory / f"histogram_{process}.db"))
    for bound in ("1.0", "+Inf"):
        histogram.write_value(mmap_key("took", "took_bucket", ["le"], [bound], "Took."), value, 0.0)
    histogram.write_value(mmap_key("took", "took_sum", [], [], "Took."), value, 0.0)
    histogram.close()


def attempts(scrape: Scrape, sale: Sale) -> float | None:
    return scrape.value("flashsale_attempts_total", sale=sale.slug)


def sums(directory: Path) -> dict[str, float]:
    samples = [sample for metric in metrics_files.read_sums(directory) for sample in metric.samples]
    return {f"{sample.name}{sample.labels.get('le', '')}": sample.value for sample in samples}


def owners(directory: Path) -> set[str]:
    return {path.stem.rpartition("_")[2] for path in directory.glob("*.db")}


@pytest.mark.pure
def test_files_of_dead_processes_merge_and_still_count(tmp_path: Path):
    alive = os.getpid()
    for process in (alive, NOBODY, NOBODY + 1):
        count(tmp_path, process, 3)

    first = sums(tmp_path)
    count(tmp_path, NOBODY + 2, 5)
    second, third = sums(tmp_path), sums(tmp_path)

    assert first == {"seen_total": 9, "took_bucket1.0": 9, "took_bucket+Inf": 18, "took_count": 18, "took_sum": 9}
    assert second == {"seen_total": 14, "took_bucket1.0": 14, "took_bucket+Inf": 28, "took_count": 28, "took_sum": 14}
    assert third == second
    assert owners(tmp_path) == {str(alive), "dead"}


@pytest.mark.pure
def test_simultaneous_readers_count_everything_exactly_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(metrics_files, "LOCKED_WITHIN_SECONDS", 60)
    found = []
    for turn in range(10):
        for process in range(20):
            count(tmp_path, NOBODY + 20 * turn + process, 1)
        with ThreadPoolExecutor(8) as readers:
            found.append([reading["seen_total"] for reading in readers.map(sums, [tmp_path] * 8)])

    assert found == [[20 * (turn + 1)] * 8 for turn in range(10)]


@pytest.mark.pure
def test_a_stopped_reader_does_not_block_others_forever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(metrics_files, "LOCKED_WITHIN_SECONDS", 0.1)
    count(tmp_path, os.getpid(), 3)
    with (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(TimeoutError):
            sums(tmp_path)

    assert sums(tmp_path)["seen_total"] == 3


def test_while_another_reader_does_not_end_a_scrape_is_unavailable(server: WebServer):
    directory = settings.VAR_DIR / "metrics" / server.url.rpartition(":")[2]
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        refused = httpx.get(f"{server.url}/metrics", timeout=60)

    assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
    assert httpx.get(f"{server.url}/metrics", timeout=60).status_code == 200


def workers(server: WebServer) -> set[int]:
    with ExitStack() as stack:
        return set(clients_of_both(server, stack))


def test_workers_that_end_leave_all_their_numbers_and_no_files(own_server: WebServer, open_sale: Sale):
    assert_what_may_come_is_told(own_server, open_sale)
    directory = settings.VAR_DIR / "metrics" / own_server.url.rpartition(":")[2]
    told = []
    for turn in range(2):
        with ExitStack() as stack:
            clients = clients_of_both(own_server, stack)
            for pid, client in clients.items():
                client.post(BUY, json={"userId": f"{turn}-{pid}"})
            told.append(until(own_server, lambda scrape, of=2 * turn + 2: attempts(scrape, open_sale) == of))  # type: ignore[misc]
            for pid in clients:
                os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + 60
        while workers(own_server) & set(clients) and time.monotonic() < deadline:
            time.sleep(0.05)
    last = Scrape(own_server)

    assert [attempts(scrape, open_sale) for scrape in [*told, last]] == [2, 4, 4]
    assert owners(directory) == {"dead", *map(str, workers(own_server))}
    took = [scrape.value(f"{REQUESTS}_sum", route=BUY) or 0 for scrape in [*told, last]]
    assert took == sorted(took), "Prometheus takes a sum that is less than before for a restart"


@pytest.mark.pure
def test_sums_do_not_depend_on_the_order_of_addition():
    told = []
    for seconds in (0.1, 0.2, 0.3):
        labels = f"of {seconds}", "2xx"
        spread = metrics.Spread(metrics.REQUESTS, metrics.REQUEST_SECONDS, *labels)
        spread.add(seconds)
        spread.flush()
        told.append(metrics.REQUESTS.labels(*labels)._sum.get())

    assert 0.1 + 0.2 + 0.3 != 0.3 + 0.2 + 0.1
    assert told[0] + told[1] + told[2] == told[2] + told[1] + told[0]
    assert told == pytest.approx([0.1, 0.2, 0.3], abs=1e-6)


def assert_what_may_come_is_told(own_server: WebServer, open_sale: Sale) -> None:
    """Otherwise Prometheus sees no rise in the first seconds of a sale."""
    scrape = until(own_server, lambda scrape: attempts(scrape, open_sale) == 0)
    of_purchases = {"route": BUY, "le": "+Inf"}

    assert {
        outcome: scrape.value("flashsale_attempts_total", sale=open_sale.slug, outcome=outcome)
        for outcome in ("purchased", "already_purchased", "sold_out", "unavailable", "unknown", "replayed")
    } == {
        **dict.fromkeys(("purchased", "already_purchased", "sold_out", "unavailable", "unknown"), 0),
        "replayed": None,
    }
    assert [
        scrape.value(f"{REQUESTS}_bucket", status=status, **of_purchases) for status in ("2xx", "4xx", "5xx", "3xx")
    ] == [0, 0, 0, None]


@pytest.mark.long
def test_gathering_static_files_creates_no_worker(redis_server: RedisServer, transactional_db: None, tmp_path: Path):
    redis_url = f"unix://{embedded_redis.socket_path(settings.VAR_DIR)}"
    with WebServer({"PORT": str(free_port()), "VAR_DIR": str(tmp_path), "REDIS_URL": redis_url}, PATIENT) as server:
        found = workers(server)
        until(server, lambda scrape: bool(scrape.value("flashsale_resident_memory_bytes")))

    assert owners(tmp_path / "metrics" / server.url.rpartition(":")[2]) - {"dead"} <= set(map(str, found))


def test_an_unwritable_place_is_one_clear_line(tmp_path: Path, static_files: None, db: None):
    """A place that nobody can make: root may write everywhere else."""
    (tmp_path / "file").touch()
    server = WebServer({"PORT": str(free_port()), "METRICS_DIR": str(tmp_path / "file")})
    with pytest.raises(AssertionError):
        server.start()

    (line,) = server.log.read_text().splitlines()
    assert line == (
        f"flashsale: cannot write to {tmp_path}/file/{server.url.rpartition(':')[2]} (Not a directory). "
        "Make it writable, or set METRICS_DIR."
    )
