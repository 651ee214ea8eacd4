"""What a container leaves: cores, memory, file descriptors."""

import resource
import socket
from contextlib import ExitStack
from math import inf
from pathlib import Path

import httpx
import pytest

from flashsale import machine
from flashsale.machine import WORKER_BYTES
from sales.models import Sale
from tests.servers import PATIENT, RedisServer, WebServer, free_port

GROUP = "a.slice/b.service"


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The limits of a process in a group of a group."""
    (tmp_path / "own").write_text(f"12:cpu:/v1\n0::/{GROUP}\n")
    (tmp_path / "groups" / GROUP).mkdir(parents=True)
    monkeypatch.setattr(machine, "GROUPS", tmp_path / "groups")
    monkeypatch.setattr(machine, "OWN_GROUP", tmp_path / "own")
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)))
    return tmp_path / "groups"


@pytest.mark.pure
def test_without_limits_each_core_has_a_worker(groups: Path):
    (groups / GROUP / "memory.max").write_text("max\n")
    (groups / GROUP / "cpu.max").write_text("max 100000\n")

    assert (machine.cores(), machine.memory_bytes(), machine.web_workers()) == (8, inf, 8)


@pytest.mark.pure
def test_a_share_of_cores_limits_workers(groups: Path):
    (groups / GROUP / "cpu.max").write_text("250000 100000\n")

    assert machine.web_workers() == 3


@pytest.mark.pure
def test_memory_of_an_outer_group_limits_workers(groups: Path):
    (groups / "a.slice" / "memory.max").write_text(f"{2 * WORKER_BYTES + 1}\n")
    (groups / GROUP / "memory.max").write_text(f"{9 * WORKER_BYTES}\n")

    assert machine.web_workers() == 2


@pytest.mark.pure
def test_the_smallest_memory_has_one_worker(groups: Path):
    (groups / GROUP / "memory.max").write_text("1000\n")

    assert machine.web_workers() == 1


@pytest.mark.pure
def test_without_cgroups_the_cores_decide(groups: Path):
    machine.OWN_GROUP.unlink()

    assert machine.web_workers() == 8


@pytest.mark.long
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n",
        b"GET /api/openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ],
    ids=["nothing", "half a head", "an answer that nobody reads"],
)
def test_open_connections_keep_nobody_out(sent: bytes, redis_server: RedisServer, open_sale: Sale, static_files: None):
    """More connections than the worker has file descriptors, on which nothing is asked."""
    limited = ["prlimit", "--nofile=256:256"]
    with (
        WebServer({"PORT": str(free_port()), "WEB_CONCURRENCY": "1"}, PATIENT, wrap=limited) as server,
        ExitStack() as stack,
    ):
        address = ("127.0.0.1", httpx.URL(server.url).port or 0)
        for _ in range(400):
            client = stack.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            client.connect(address)
            client.sendall(sent)
        for turn in range(10):
            assert httpx.get(f"{server.url}/", timeout=120).status_code == 200
            assert httpx.get(f"{server.url}/admin/login/", timeout=120).status_code == 200
            answer = httpx.post(f"{server.url}/api/sale/purchase", json={"userId": f"ada-{turn}"}, timeout=120)
            assert answer.json()["code"] in ("purchased", "sold_out")

        assert "Too many open files" not in server.log.read_text()


@pytest.mark.pure
def test_a_worker_leaves_descriptors_for_itself():
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)

    assert soft // 2 <= machine.most_connections() <= soft - min(machine.RESERVED_DESCRIPTORS, soft // 2)
