"""The SQL databases of stages: a new one for each, made from one that is migrated once."""

import atexit
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

from psycopg.sql import SQL, Identifier

from tests.faults.programs import PROJECT_DIR, environment, run_manage
from tests.postgresql import PostgresServer
from tests.prepared import made_once

_numbers = count(1)


class SQLite:
    """A database file under a stage's VAR_DIR."""

    def __init__(self, path: Path):
        self.path = path
        self.url = f"sqlite:///{path}"

    def query(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.path, timeout=60)) as connection:
            return connection.execute(sql.replace("%s", "?"), values).fetchall()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep every other process from writing."""
        with closing(sqlite3.connect(self.path, timeout=60, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield
            connection.execute("ROLLBACK")


class PostgreSQL:
    """A database of the tests' own PostgreSQL server."""

    def __init__(self, server: PostgresServer, name: str):
        self.server = server
        self.name = name
        self.url = server.url(name)

    def query(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        with self.server.connect(self.name) as connection:
            return connection.execute(sql, values).fetchall()


@cache
def postgresql_server() -> PostgresServer:
    server = PostgresServer()
    atexit.register(server.remove)
    server.start()
    return server


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


def prepared_var_dir() -> Path:
    """Return a VAR_DIR with a migrated SQLite database and the static files, to be copied."""
    return made_once("var", _prepare)


def _prepare(var_dir: Path) -> None:
    settings = environment(var_dir)
    run_manage(PROJECT_DIR, settings, "migrate", "--verbosity=0")
    run_manage(PROJECT_DIR, settings, "collectstatic", "--noinput", "--verbosity=0")


def new_sqlite(var_dir: Path) -> SQLite:
    path = var_dir / "db.sqlite3"
    shutil.copy(prepared_var_dir() / path.name, path)
    return SQLite(path)
