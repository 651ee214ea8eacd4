"""DATABASE_URL leads everything to PostgreSQL: a real server that is started here."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import settings

from sales import purchases, store
from tests import parts
from tests.postgresql import MISSING, PostgresServer, find_binaries
from tests.servers import RedisServer

pytestmark = pytest.mark.long

# The tests of what the kind of database decides: locks, constraints, bulk writes, time zones and aggregation.
FILES = [
    f"tests/test_{name}.py"
    for name in (
        *("orders", "audit", "publishing", "commands", "cancelling", "archiving", "invitations"),
        *("attempt_counts", "analytics", "order_admin", "desk_race", "directory_mirror", "query_costs", "texts"),
        "order_codes",
    )
]
# What these hold to memory is Python's.
NOT_AGAIN = "not memory_of_a_page and not hundred_thousand and not long_sale_takes"


@pytest.fixture(scope="module")
def postgresql() -> Iterator[PostgresServer]:
    if not find_binaries():
        parts.lack(MISSING)
    server = PostgresServer(is_durable=False)
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture(scope="module")
def migrated(postgresql: PostgresServer) -> str:
    """The name of a database that is migrated, and that another can be made of."""
    postgresql.execute("CREATE DATABASE migrated")
    run(Path(settings.BASE_DIR), "manage.py", "migrate", DATABASE_URL=postgresql.url("migrated"))
    return "migrated"


def run(project_dir: Path, *arguments: str, **environment: str) -> str:
    """Run Python with these arguments and return what it prints."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=project_dir,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=1800,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_tests_pass_on_postgresql(postgresql: PostgresServer, migrated: str, project_dir: Path):
    postgresql.execute(f"CREATE DATABASE test_suite TEMPLATE {migrated}")

    run(
        project_dir,
        *("-m", "pytest", "-p", "no:cacheprovider", "--reuse-db", "-k", NOT_AGAIN, *FILES),
        FLASHSALE_TEST_DATABASE_URL=postgresql.url("suite"),
    )

    # What was rolled back counts, too.
    ((inserted,),) = postgresql.execute(
        "SELECT n_tup_ins FROM pg_stat_user_tables WHERE relname = 'sales_order'", database="test_suite"
    )
    assert inserted > 100


def test_changes_of_the_directory_take_turns(postgresql: PostgresServer, migrated: str, project_dir: Path):
    postgresql.execute(f"CREATE DATABASE test_directory TEMPLATE {migrated}")

    run(
        project_dir,
        *("-m", "pytest", "-p", "no:cacheprovider", "--reuse-db"),
        "tests/test_directory_mirror.py::test_changes_during_a_rebuild_are_in_the_directory[extend]",
        FLASHSALE_TEST_DATABASE_URL=postgresql.url("directory"),
    )


def test_a_sale_from_migration_to_restoration(
    postgresql: PostgresServer, migrated: str, redis_server: RedisServer, project_dir: Path
):
    postgresql.execute(f"CREATE DATABASE flashsale TEMPLATE {migrated}")

    def manage(*arguments: str) -> str:
        return run(
            project_dir,
            *("manage.py", *arguments),
            DATABASE_URL=postgresql.url("flashsale"),
            REDIS_URL=settings.REDIS_URL,
        )

    def buy(*user_ids: str) -> list[str]:
        async def all_of_them() -> list[str]:
            return [(await purchases.buy(sale["id"], user_id)).outcome for user_id in user_ids]

        return asyncio.run(all_of_them())

    sale = json.loads(manage("create_sale", "--name", "Widget", "--stock", "3"))
    assert buy("ada", "žofie", "ada") == ["purchased", "purchased", "already_purchased"]
    assert manage("write_orders", "--once") == "2 orders written.\n"
    assert "no drift" in manage("audit_sale")
    store.client().flushall()
    assert "1 of 3 remaining" in manage("restore_sale", sale["slug"])
    assert buy("ada", "eve", "kim") == ["already_purchased", "purchased", "sold_out"]
    assert manage("write_orders", "--once") == "1 orders written.\n"
    assert "no drift" in manage("audit_sale")

    rows = postgresql.execute("SELECT user_id, remaining_stock FROM sales_order ORDER BY order_id", "flashsale")
    assert rows == [("ada", 2), ("žofie", 1), ("eve", 0)]
