"""A shop of several web servers, on a Redis and an SQL database that the test brings along, with several sales."""

import itertools
import json
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families
from redis.crc import key_slot

from tests.faults import cancellations, programs
from tests.faults.check import Complaints, Loss, complaints
from tests.faults.databases import PostgreSQL, SQLite, new_sqlite, prepared_var_dir
from tests.faults.load import Answer, Client, Load
from tests.redis_servers import Node, RedisCluster, WatchedMaster, client_of, wait_until
from tests.servers import free_port

Purchase = tuple[str, str]
Installation = RedisCluster | WatchedMaster | Node

# Of each sale, before a test breaks something.
BUSY_PURCHASES = 20
# A busy machine takes its time.
PATIENCE_SECONDS = 60.0

_MAKE_SALES = """
import json
from datetime import timedelta
from django.utils import timezone
from sales import publishing
from sales.models import Sale
starts_at = timezone.now() - timedelta(hours=1)
for number in range({count}):
    slug = f"sale-{{number}}"
    sale = Sale.objects.create(name=slug, slug=slug, total_stock={stock}, starts_at=starts_at,
                               ends_at=starts_at + timedelta(days=1))
    publishing.publish(sale)
print(json.dumps(dict(Sale.objects.values_list("slug", "id"))))
"""


@dataclass
class Shop:
    """Web servers and an order writer. Use it as a context manager."""

    redis_url: str
    count: int = 1
    stock: int = 2_000
    web_servers: int = 1
    settings: dict[str, str] = field(default_factory=dict)
    database: SQLite | PostgreSQL | None = None

    def __enter__(self) -> "Shop":
        self.var_dir = Path(tempfile.mkdtemp(prefix="flashsale-shop-", dir="/tmp"))
        self._started: list[Any] = []
        try:
            (self.var_dir / "static").symlink_to(prepared_var_dir() / "static")
            self.database = self.database or new_sqlite(self.var_dir)
            self.environment = programs.environment(
                self.var_dir,
                DATABASE_URL=self.database.url,
                REDIS_URL=self.redis_url,
                # It limits nobody here, but says that addresses are known: without one, no form is limited by address.
                ADDRESS_RATE="1000000/s",
                **self.settings,
            )
            self.ports = [free_port() for _ in range(self.web_servers)]
            self.web = [self.start_web(port) for port in self.ports]
            self.writer = self.start_python([str(programs.PROJECT_DIR / "manage.py"), "write_orders"], "writer")
            self.sale_ids: dict[str, int] = json.loads(
                self.manage("shell", "--no-imports", "-c", _MAKE_SALES.format(count=self.count, stock=self.stock))
            )
            self.wait_until_open(self.sale_ids)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in reversed(self._started):
            programs.kill(process)
        shutil.rmtree(self.var_dir, ignore_errors=True)

    def start_web(self, port: int) -> Any:
        command = ["-m", "gunicorn", "-c", "python:flashsale.gunicorn", "flashsale.asgi:application"]
        return self.start_python(command, f"web-{port}", PORT=str(port))

    def start_python(self, words: Sequence[str], log: str, **settings: str) -> Any:
        return self.start([sys.executable, *words], log, **settings)

    def start(self, command: Sequence[str], log: str, **settings: str) -> Any:
        path = self.var_dir / f"{log}.log"
        process = programs.start(command, path, self.environment | settings, programs.PROJECT_DIR)
        self._started.append(process)
        return process

    def manage(self, *words: str, may_fail: bool = False) -> str:
        return programs.run_manage(programs.PROJECT_DIR, self.environment, *words, may_fail=may_fail)

    def run_manage(self, *words: str) -> tuple[int, str]:
        """Run a management command; return its exit status and what it printed."""
        return programs.run(programs.PROJECT_DIR, self.environment, *words)

    def sold_sales(self, installation: Installation) -> "list[SoldSale]":
        return [SoldSale(self, slug, installation) for slug in self.sale_ids]

    def is_open(self, slug: str, port: int = 0) -> bool:
        client = Client(port or self.ports[0], slug)
        try:
            return client.sale_is_open()
        finally:
            client.close()

    def wait_until_open(self, slugs: Iterable[str]) -> None:
        """Return once every web server sells each of the sales."""
        asked = [(slug, port) for slug in slugs for port in self.ports]
        wait_until(lambda: all(itertools.starmap(self.is_open, asked)), f"open: {asked}")

    def sign_in(self, account: str, times: int) -> list[int]:
        """Return what the admin answers to wrong passwords, one after the other."""
        with httpx.Client(base_url=f"http://127.0.0.1:{self.ports[0]}", timeout=PATIENCE_SECONDS) as client:
            client.get("/admin/login/")
            form = {"username": account, "password": "wrong", "csrfmiddlewaretoken": client.cookies["csrftoken"]}
            return [client.post("/admin/login/", data=form).status_code for _ in range(times)]

    def restore(self, sales: Iterable[str]) -> None:
        """Run restore_sale for each of the sales."""
        calls = "".join(f'call_command("restore_sale", "{slug}")\n' for slug in sales)
        self.manage("shell", "--no-imports", "-c", f"from django.core.management import call_command\n{calls}")

    def health(self, port: int = 0) -> dict[str, Any]:
        return httpx.get(f"http://127.0.0.1:{port or self.ports[0]}/health", timeout=PATIENCE_SECONDS).json()

    def metrics(self) -> dict[str, dict[str, float]]:
        """Return what /metrics tells, by name and by the value of the label."""
        text = httpx.get(f"http://127.0.0.1:{self.ports[0]}/metrics", timeout=PATIENCE_SECONDS).text
        found: dict[str, dict[str, float]] = {}
        for family in text_string_to_metric_families(text):
            for name, labels, value, *_ in family.samples:
                found.setdefault(name, {})[",".join(labels.values())] = value
        return found

    def logs(self) -> str:
        """Return the end of each log, for a person to read."""
        return "\n".join(f"{path.name}:\n{path.read_text()[-2000:]}" for path in self.var_dir.glob("*.log"))

    def audits(self) -> dict[str, Any]:
        """Return what the audit finds of each sale."""
        return {found["slug"]: found for found in json.loads(self.manage("audit_sale", "--json", may_fail=True))}


@dataclass
class SoldSale:
    """One sale of a shop, as the checker of the faults looks at it."""

    shop: Shop
    slug: str
    installation: Installation
    malformed_entries: int = 0
    settled_at: float = 0.0
    loss: Loss | None = None
    found_by_audit: dict[str, Any] | None = None
    # Of all that have bought so far; the latest load carries all answers.
    load: Load = field(init=False)

    def __post_init__(self) -> None:
        self.load = Load(0, self.slug, random.Random(0), threads=0)
        self._threads = 0

    def start(self, port: int = 0, threads: int = 2) -> None:
        """Let shoppers buy, at one of the web servers."""
        answers, rng = self.load.answers, random.Random(f"{self.slug}:{self._threads}")
        self.load = Load(port or self.shop.ports[0], self.slug, rng, threads, first_thread=self._threads)
        self.load.answers = answers
        self._threads += threads
        self.load.start()

    def bought_since(self, began: float) -> list[Answer]:
        """Return the purchases by attempts that began at that time or later; a repetition of an earlier one is none."""
        earlier = {answer.order_id for answer in list(self.load.answers) if answer.began < began}
        found = [answer for answer in self.load.since(began) if answer.code == "purchased"]
        return [answer for answer in found if answer.order_id not in earlier]

    def find_loss(self, killed_at: float) -> None:
        """Note what Redis has lost of what was known when a master was killed."""
        told = {
            (answer.user_id, answer.order_id)
            for answer in list(self.load.answers)
            if answer.order_id and answer.began < killed_at
        }
        in_sql = set(self.orders())
        if lost := (told | in_sql) - self.purchases():
            known = self.loss or Loss(set(), set())
            self.loss = Loss(known.lost | lost, known.in_sql | in_sql)

    def missing(self) -> set[Purchase]:
        """Return what SQL names as acknowledged and lost, whatever has become of it since."""
        words = "SELECT user_id, order_id FROM sales_missingorder WHERE sale_id = %s"
        return {(user_id, order_id) for user_id, order_id in self.database.query(words, self.sale_id)}

    def check_named(self) -> None:
        """Hold what is missing against what was lost: all that SQL did not have is named, once each worker has told."""
        assert self.loss
        acknowledged = self.loss.lost - self.loss.in_sql
        wait_until(lambda: acknowledged <= self.missing() | set(self.orders()), f"all of {self.slug} is named")

    @property
    def sale_id(self) -> int:
        return self.shop.sale_ids[self.slug]

    @property
    def total_stock(self) -> int:
        return self.shop.stock

    @property
    def database(self) -> Any:
        return self.shop.database

    @property
    def slot(self) -> int:
        return key_slot(f"sale:{self.sale_id}".encode())

    @property
    def node(self) -> Node:
        """Return the master that holds the sale."""
        if isinstance(self.installation, RedisCluster):
            return self.installation.master_of(self.slot)
        return self.installation.master() if isinstance(self.installation, WatchedMaster) else self.installation

    @property
    def redis(self) -> Any:
        return client_of(self.node.port)

    def key(self, name: str) -> str:
        return f"{{sale:{self.sale_id}}}:{name}"

    def purchases(self) -> set[Purchase]:
        held = self.redis.hgetall(self.key("purchases"))
        return {(user_id, value.split(" ")[0]) for user_id, value in held.items()}

    def orders(self) -> list[Purchase]:
        words = "SELECT user_id, order_id FROM sales_order WHERE sale_id = %s AND cancelled_at IS NULL"
        return [(user_id, order_id) for user_id, order_id in self.database.query(words, self.sale_id)]

    def cancelled_orders(self) -> dict[Purchase, bool]:
        return {}

    def told_cancellations(self) -> list[cancellations.Cancellation]:
        return []

    def audit(self) -> dict[str, Any]:
        assert self.found_by_audit is not None
        return self.found_by_audit


@contextmanager
def shoppers(sales: Sequence[SoldSale], threads: int = 2) -> Iterator[None]:
    """Let shoppers buy at all sales, until the test has ended or stops them."""
    began = time.monotonic()
    for sale in sales:
        sale.start(threads=threads)
    wait_until(lambda: all(len(sale.bought_since(began)) >= BUSY_PURCHASES for sale in sales), "all sell")
    yield
    stop(sales)


def stop(sales: Iterable[SoldSale]) -> None:
    for sale in sales:
        sale.load.stop()


def check(sales: Sequence[SoldSale], *, may_drop: bool = False) -> None:
    """Hold what was answered against what is there, once nobody buys any more. Fails with all that is wrong."""
    found: dict[str, Complaints] = {}
    shop = sales[0].shop
    wait_until(lambda: all(set(sale.orders()) == sale.purchases() for sale in sales), "all is written to SQL")
    audits = shop.audits()
    for sale in sales:
        sale.found_by_audit = audits[sale.slug]
        if wrong := complaints(sale, sale.load, sale.loss, may_drop=may_drop):
            found[sale.slug] = wrong
    assert not found, f"{found}\n{shop.logs()}"
