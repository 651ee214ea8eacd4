"""What happens to SQL. Shoppers must not notice: purchases wait in Redis."""

import time
from collections.abc import Callable
from random import Random

from tests.faults.databases import PostgreSQL, SQLite
from tests.faults.stage import Stage


def sqlite_locked_for(seconds: float) -> Callable[[Stage, Random], None]:
    def locked(stage: Stage, rng: Random) -> None:
        assert isinstance(stage.database, SQLite)
        with stage.database.locked():
            time.sleep(seconds)

    return locked


def postgresql_stopped(stage: Stage, rng: Random) -> None:
    assert isinstance(stage.database, PostgreSQL)
    for _ in range(rng.randint(1, 2)):
        stage.database.server.stop_immediately()
        time.sleep(rng.uniform(0.2, 1.2))
        stage.database.server.start()
        time.sleep(rng.uniform(0, 0.5))


def postgresql_backends_terminated(stage: Stage, rng: Random) -> None:
    for _ in range(rng.randint(5, 20)):
        stage.database.query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        time.sleep(rng.uniform(0, 0.1))


def redis_killed_while_sql_is_away(stage: Stage, rng: Random) -> None:
    """A Redis that starts again is checked against SQL: until SQL is back, the sale is closed."""
    assert isinstance(stage.database, PostgreSQL)
    stage.database.server.stop_immediately()
    stage.kill_redis()
    stage.start_redis()
    time.sleep(rng.uniform(0.5, 1.5))
    stage.wait_until_shown()
    stage.database.server.start()
