"""Fixtures: a real Redis, a real server, and sales in the states that tests need."""

import asyncio
import itertools
import os
import shutil
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import httpx
import pytest
from django.conf import settings
from django.contrib.auth.models import Group, Permission
from django.contrib.contenttypes.models import ContentType
from django.contrib.staticfiles.storage import staticfiles_storage
from django.core.management.commands import flush
from django.db import connection
from django.db.models import Model
from django.test.utils import setup_databases, teardown_databases
from django.utils import timezone, translation
from httpx._config import DEFAULT_TIMEOUT_CONFIG
from httpx._transports import default
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from playwright.sync_api import Browser, Page
from pytest_django import DjangoDbBlocker, Settings

from flashsale import embedded_redis
from flashsale.supervisor import Process
from sales import publishing, store
from sales.models import Sale
from tests import browsers, parts, patience
from tests.faults.databases import prepared_var_dir
from tests.mail_servers import MailServer
from tests.redis_servers import Node
from tests.servers import PATIENT, RedisServer, WebServer, free_port

# The contract's bound on the age of what a worker shows (docs/api.md).
STALE_AFTER_SECONDS = 0.25

# No two tests have the same: a web worker may still tell Redis what it has counted in the test before. Those between
# are for sales that a test makes in another way, a rehearsal for instance.
SALE_IDS = itertools.count(1000, 100)

# For each core, by the word that xdist is given: tests wait for servers while others work; pure ones hardly wait.
PROCESSES_EACH = {"auto": 2, "logical": 1}
MOST_PROCESSES = 16

# httpx gives up after 5 s otherwise, which is too soon for a busy machine.
for way in ("connect", "read", "write", "pool"):
    setattr(DEFAULT_TIMEOUT_CONFIG, way, 60)

# Each client of httpx would read all authorities' certificates, which takes longer than most tests.
default.create_ssl_context = cache(default.create_ssl_context)

# The same examples in each run. How long one takes says nothing on a busy machine.
hypothesis_settings.register_profile(
    "patient", deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
hypothesis_settings.load_profile("patient")

MakeSale = Callable[..., Sale]
OpenPage = Callable[..., Page]


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    return min(MOST_PROCESSES, PROCESSES_EACH[config.option.numprocesses] * len(os.sched_getaffinity(0)))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say why tests were skipped, and what would bring them."""
    skipped = [report.longrepr for report in terminalreporter.stats.get("skipped", [])]
    for line in parts.told(str(reason[-1]) for reason in skipped):
        terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    assert settings.REDIS_IS_EMBEDDED, "tests empty their Redis: they must have one of their own"
    server = RedisServer(Process("Redis", embedded_redis.command(settings.VAR_DIR)))
    server.start()
    yield server
    server.stop()


@pytest.fixture(autouse=True)
def _empty_redis(request: pytest.FixtureRequest) -> None:
    """Start every test with an empty Redis; but `pure` ones with none, so that they fail if they ask for it."""
    if request.node.get_closest_marker("pure"):
        return
    request.getfixturevalue("redis_server")
    store.client().flushall()
    store.client().set(store.CHECKED_RUN, store.run_id_blocking())


@pytest.fixture(autouse=True)
def _patience(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the tests' own process wait for Redis and SQL as long as a busy machine takes."""
    settings.REDIS_CONNECT_TIMEOUT_SECONDS = settings.REDIS_READ_TIMEOUT_SECONDS = patience.SECONDS
    for module, name, value in patience.LIMITS:
        monkeypatch.setattr(module, name, value)


@pytest.fixture(autouse=True)
def _one_window(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no period of django-ratelimit end while a test counts: they end at fixed times, however long a test takes."""
    now = time.time()
    monkeypatch.setattr("django_ratelimit.core.time", SimpleNamespace(time=lambda: now))


@pytest.fixture(scope="session")
def static_files() -> None:
    """The static files as they are gathered for production, in this process's own place."""
    shutil.copytree(prepared_var_dir() / "static", settings.STATIC_ROOT, dirs_exist_ok=True)
    storage: Any = staticfiles_storage
    storage.hashed_files, storage.manifest_hash = storage.load_manifest()  # it may have looked before


@pytest.fixture(scope="session")
def django_db_keepdb(request: pytest.FixtureRequest) -> bool:
    return connection.vendor == "sqlite" or request.config.getvalue("reuse_db")


@pytest.fixture(scope="session")
def django_db_modify_db_settings() -> None:
    """Begin with the database that one of the run's processes has migrated."""
    if connection.vendor == "sqlite":
        shutil.copy(prepared_var_dir() / "db.sqlite3", connection.settings_dict["TEST"]["NAME"])


@pytest.fixture(scope="session")
def django_db_setup(
    django_test_environment: None,
    django_db_blocker: DjangoDbBlocker,
    django_db_keepdb: bool,
    django_db_modify_db_settings: None,
) -> Iterator[None]:
    """Set the database up, also where only a web server reads it: pytest-django's own fixture looks for tests that do.

    When a test has emptied the database, what migrations ship is put back, row by row: what runs after it in the same
    process is not fixed. Django finds out anew what there is to put back, at the price of a small test.
    """
    models: list[type[Model]] = [ContentType, Permission, Group, Group.permissions.through]
    with django_db_blocker.unblock():
        made = setup_databases(verbosity=0, interactive=False, keepdb=django_db_keepdb)
        shipped = [(model, list(model._base_manager.all())) for model in models]

    def put_back(*_: object) -> None:
        for model, rows in shipped:
            model._base_manager.bulk_create(rows)

    with patch.object(flush, "emit_post_migrate_signal", put_back):
        yield
    if not django_db_keepdb:
        with django_db_blocker.unblock():
            teardown_databases(made, verbosity=0)


@pytest.fixture(scope="session")
def server(redis_server: RedisServer, static_files: None, django_db_setup: None) -> Iterator[WebServer]:
    """Two web workers as in production, but with patience."""
    with WebServer({"PORT": str(free_port())}, PATIENT) as server:
        yield server


@pytest.fixture
def own_server(redis_server: RedisServer, static_files: None, transactional_db: None) -> Iterator[WebServer]:
    """Two workers that nobody else asks."""
    with WebServer({"PORT": str(free_port())}, PATIENT) as server:
        yield server


@pytest.fixture
def redis_node(tmp_path: Path) -> Iterator[Node]:
    """A Redis on a port of its own, which a test may break."""
    node = Node(tmp_path)
    yield node
    node.kill()


@pytest.fixture(scope="session")
def broken_server(static_files: None, redis_server: object, django_db_setup: None) -> Iterator[WebServer]:
    """A server with views that fail, and a limit on each address."""
    with WebServer(
        {"PORT": str(free_port()), "WEB_CONCURRENCY": "1", "ADDRESS_RATE": "100/h"}, "tests.broken_views:application"
    ) as server:
        yield server


@pytest.fixture(scope="session")
def https_server(server: WebServer) -> Iterator[WebServer]:
    """A web worker behind a proxy that ends TLS."""
    with WebServer({"PORT": str(free_port()), "HTTPS": "on", "WEB_CONCURRENCY": "1"}, PATIENT) as found:
        yield found


@pytest.fixture
def http(server: WebServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url) as client:
        yield client


@pytest.fixture(autouse=True)
def in_english() -> Iterator[None]:
    """Forget the language in which a test's own client was answered: the thread keeps it."""
    yield
    translation.deactivate()


@pytest.fixture
def make_sale(db: None) -> MakeSale:
    """Make a sale and publish it. It is open now unless told otherwise."""

    def make(stock: int = 10, *, starts_in: float = -60, lasts: float = 3600, **fields: Any) -> Sale:
        starts_at = timezone.now() + timedelta(seconds=starts_in)
        ends_at = starts_at + timedelta(seconds=lasts)
        fields = {"id": next(SALE_IDS), "name": "Limited Edition Widget", **fields}
        sale = Sale.objects.create(total_stock=stock, starts_at=starts_at, ends_at=ends_at, **fields)
        publishing.publish(sale)
        return sale

    return make


@pytest.fixture
def open_sale(make_sale: MakeSale) -> Sale:
    return make_sale()


@pytest.fixture
def verified_sale(make_sale: MakeSale, seen: Callable[[], None]) -> Sale:
    sale = make_sale(identity="verified")
    seen()
    return sale


@pytest.fixture
def seen() -> Callable[[], None]:
    """Wait until every worker's snapshot is younger than what the test has published."""
    return lambda: time.sleep(STALE_AFTER_SECONDS)


@pytest.fixture(scope="session")
def driven_chromium() -> Iterator[tuple[Browser, asyncio.AbstractEventLoop]]:
    """One browser for all tests, and the loop that drives it, which is put aside while no test uses the browser:
    from its start to its end it counts as running in this thread, where asynchronous tests run loops of their own."""
    with browsers.chromium() as browser:
        loop = asyncio.get_running_loop()
        asyncio._set_running_loop(None)
        yield browser, loop
        asyncio._set_running_loop(loop)


@pytest.fixture
def chromium(driven_chromium: tuple[Browser, asyncio.AbstractEventLoop]) -> Iterator[Browser]:
    browser, loop = driven_chromium
    asyncio._set_running_loop(loop)
    yield browser
    asyncio._set_running_loop(None)


@pytest.fixture
def visitor(chromium: Browser, server: WebServer) -> Iterator[browsers.Visitor]:
    """Somebody at a browser; a script error or a refused resource fails the test."""
    visitor = browsers.Visitor(chromium, server.url)
    yield visitor
    visitor.close()
    assert visitor.errors == []


@pytest.fixture
def own_visitor(chromium: Browser, server: WebServer, transactional_db: None) -> Iterator[browsers.Visitor]:
    """Somebody at a server that has seen no other test: it keeps the numbers by which the history names things."""
    with WebServer({"PORT": str(free_port()), "WEB_CONCURRENCY": "1"}) as own:
        visitor = browsers.Visitor(chromium, own.url)
        yield visitor
        visitor.close()


@pytest.fixture
def open_page(visitor: browsers.Visitor, seen: Callable[[], None]) -> OpenPage:
    """Open a page that shows what the test has published."""

    def open_it(path: str = "/", **options: Any) -> Page:
        seen()
        seen()  # a page is shown for as long again, once it is rendered
        return visitor.open(path, **options)

    return open_it


@pytest.fixture
def mail_server(settings: Settings) -> Iterator[MailServer]:
    """A mail server to which this process sends."""
    with MailServer() as server:
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", server.port
        yield server


@pytest.fixture
def project_dir() -> Path:
    return Path(settings.BASE_DIR)
