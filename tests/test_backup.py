"""docs/operations.md on the data of `make run`: its steps bring back what was copied, and nothing that came after."""

import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from flashsale import embedded_redis

# What a server does that is killed: it opens the file as the settings do, writes, and never closes it.
WRITE_AND_DIE = """
import os, sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.executescript("PRAGMA journal_mode=WAL; CREATE TABLE IF NOT EXISTS orders (user_id TEXT)")
database.executemany("INSERT INTO orders VALUES (?)", [(f"{sys.argv[2]}{number}",) for number in range(200)])
os._exit(9)
"""


def steps(project_dir: Path, marker: str) -> list[str]:
    """Return the commands of the one block of the guide in which this stands."""
    blocks = re.findall(r"^```console\n(.*?)^```", (project_dir / "docs/operations.md").read_text(), re.M | re.S)
    (block,) = [block for block in blocks if marker in block]
    return [line.removeprefix("$ ") for line in block.splitlines()]


def write_and_die(directory: Path, name: str) -> None:
    subprocess.run([sys.executable, "-c", WRITE_AND_DIE, str(directory / "var/db.sqlite3"), name], check=False)


def orders(database: Path) -> set[str]:
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return {user_id for (user_id,) in connection.execute("SELECT user_id FROM orders")}


@contextmanager
def embedded_server(var_dir: Path) -> Iterator[redis.Redis]:
    """A server on `var_dir` that is killed at the end."""
    server = subprocess.Popen(embedded_redis.command(var_dir))
    path = str(embedded_redis.socket_path(var_dir))
    try:
        yield redis.Redis(unix_socket_path=path, decode_responses=True, retry=Retry(ConstantBackoff(0.1), 600))
    finally:
        server.kill()
        server.wait()
        embedded_redis.remove_short_link(var_dir)


def run(directory: Path, commands: list[str]) -> None:
    subprocess.run(["sh", "-euc", "\n".join(commands)], cwd=directory, check=True)


@pytest.fixture
def copied(tmp_path: Path, project_dir: Path) -> Path:
    """A directory with the data of a run that went on after its copy was taken, and was killed."""
    (tmp_path / "var").mkdir()
    (tmp_path / "var/local.env").write_text("SECRET_KEY=first\n")
    with embedded_server(tmp_path / "var") as client:
        client.set("before", 1)
        write_and_die(tmp_path, "before")
        by_hand = [line for line in steps(project_dir, "sqlite3 var/db") if not line.startswith("sqlite3")]
        run(tmp_path, by_hand)
        with closing(sqlite3.connect(tmp_path / "var/db.sqlite3")) as source:
            source.backup(sqlite3.connect(tmp_path / "db.sqlite3"))  # what `.backup` of its shell is
        client.set("after", 1)
    write_and_die(tmp_path, "after")
    (tmp_path / "var/local.env").write_text("SECRET_KEY=second\n")
    return tmp_path


def test_the_steps_bring_back_what_was_copied(copied: Path, project_dir: Path):
    assert (copied / "var/db.sqlite3-wal").stat().st_size > 0, "the server was killed"

    run(copied, steps(project_dir, "rm -rf var/db.sqlite3"))

    assert orders(copied / "var/db.sqlite3") == {f"before{number}" for number in range(200)}
    assert (copied / "var/local.env").read_text() == "SECRET_KEY=first\n"
    with embedded_server(copied / "var") as client:
        assert (client.get("before"), client.get("after")) == ("1", None)


def test_control_without_the_first_step_the_copy_is_overwritten(copied: Path, project_dir: Path):
    """The control: this test sees what the first step is for."""
    _, *others = steps(project_dir, "rm -rf var/db.sqlite3")

    run(copied, others)

    try:
        found = orders(copied / "var/db.sqlite3")
    except (AssertionError, sqlite3.DatabaseError):
        return
    assert found != {f"before{number}" for number in range(200)}
