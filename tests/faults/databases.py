"""The SQL databases of stages: a new one for each, made from one that is migrated once."""

import atexit
import os
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
from psycopg.sql import SQL, Identifier

from tests.faults.programs import PROJECT_DIR, environment, postgresql_dir, run_manage

_numbers = count(1)


class SQLite:
    """A database file under a stage's VAR_DIR."""

    def __init__(self, path: Path):
        self.path = path
        self.url = f"sqlite:///{path}"

    def query(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.path, timeout=10)) as connection:
            return connection.execute(sql.replace("%s", "?"), values).fetchall()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep every other process from writing."""
        with closing(sqlite3.connect(self.path, timeout=10, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield
            connection.execute("ROLLBACK")


class PostgreSQL:
    """A database of the tests' own PostgreSQL server."""

    def __init__(self, server: "PostgreSQLServer", name: str):
        self.server = server
        self.name = name
        self.url = f"postgres://flashsale@{str(server.directory).replace('/', '%2F')}/{name}"

    def query(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        with self.server.connect(self.name) as connection:
            return connection.execute(sql, values).fetchall()


class PostgreSQLServer:
    """A server with its data in a temporary directory, and no way in but a socket there."""

    def __init__(self) -> None:
        bin_dir = postgresql_dir()
        assert bin_dir
        self._bin_dir = bin_dir
        self.directory = Path(tempfile.mkdtemp(prefix="flashsale-pg-", dir="/tmp"))
        atexit.register(self._remove)
        self._data_dir = self.directory / "data"
        if os.geteuid() == 0:
            shutil.chown(self.directory, "postgres", "postgres")
            self.directory.chmod(0o755)
        self._call("initdb", "-D", self._data_dir, "-A", "trust", "-U", "flashsale", "--no-sync")
        self.start()

    def start(self) -> None:
        options = f"-k {self.directory} -c listen_addresses='' -c shared_buffers=16MB -c max_connections=50"
        self._call("pg_ctl", "start", "-w", "-D", self._data_dir, "-l", self.directory / "log", "-o", options)

    def stop_immediately(self) -> None:
        """Stop it as a crash would: the next start recovers from the write-ahead log."""
        self._call("pg_ctl", "stop", "-m", "immediate", "-D", self._data_dir)

    def connect(self, database: str = "postgres") -> psycopg.Connection[tuple[Any, ...]]:
        return psycopg.connect(host=str(self.directory), user="flashsale", dbname=database, autocommit=True)

    def is_running(self) -> bool:
        return (self._data_dir / "postmaster.pid").exists()

    def _call(self, program: str, *words: str | Path) -> None:
        """Run one of PostgreSQL's programs, which refuse to be root."""
        user: dict[str, Any] = (
            {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
        )
        command = [self._bin_dir / program, *words]
        # Not captured: the server would keep the pipe open.
        with (self.directory / "calls.log").open("ab") as log:
            status = subprocess.run(
                command, cwd=self.directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log, timeout=60, **user
            ).returncode
        assert status == 0, (self.directory / "calls.log").read_text()

    def _remove(self) -> None:
        if self.is_running():
            self.stop_immediately()
        shutil.rmtree(self.directory, ignore_errors=True)


@cache
def postgresql_server() -> PostgreSQLServer:
    return PostgreSQLServer()


@cache
def _migrated_postgresql() -> str:
    """Return the name of a migrated database, to be copied."""
    database = _create(f"migrated_{next(_numbers)}")
    with tempfile.TemporaryDirectory(prefix="flashsale-pg-") as var_dir:
        run_manage(PROJECT_DIR, environment(Path(var_dir), DATABASE_URL=database.url), "migrate", "--verbosity=0")
    return database.name


def _create(name: str, template: str = "template1") -> PostgreSQL:
    server = postgresql_server()
    with server.connect() as connection:
        connection.execute(SQL("CREATE DATABASE {} TEMPLATE {}").format(Identifier(name), Identifier(template)))
    return PostgreSQL(server, name)


def new_postgresql() -> PostgreSQL:
    server = postgresql_server()
    if not server.is_running():
        server.start()
    return _create(f"stage_{next(_numbers)}", template=_migrated_postgresql())


@cache
def prepared_var_dir() -> Path:
    """Return a VAR_DIR with a migrated SQLite database and the static files, to be copied."""
    var_dir = Path(tempfile.mkdtemp(prefix="flashsale-prepared-", dir="/tmp"))
    atexit.register(shutil.rmtree, var_dir, ignore_errors=True)
    settings = environment(var_dir)
    run_manage(PROJECT_DIR, settings, "migrate", "--verbosity=0")
    run_manage(PROJECT_DIR, settings, "collectstatic", "--noinput", "--verbosity=0")
    return var_dir


def new_sqlite(var_dir: Path) -> SQLite:
    path = var_dir / "db.sqlite3"
    shutil.copy(prepared_var_dir() / path.name, path)
    return SQLite(path)
