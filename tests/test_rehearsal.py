"""The rehearsal: what it proves, what it finds, that nobody else sees it, and that nothing of it stays."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from django.conf import settings
from django.utils import timezone
from pytest_django import Settings

from sales import crowd, deployment, publishing, rehearsal, store
from sales.audit import audit
from sales.findings import Finding
from sales.models import AttemptCount, Order, Quarantine, Sale, ShopperCount
from tests.conftest import MakeSale
from tests.servers import RedisServer, WebServer, database_url, free_port
from tests.writers import OrderWriter

pytestmark = pytest.mark.django_db(transaction=True)

PROVEN = ["answers", "never oversold", "one per shopper", "every unit sold", "no drift", "no trace"]


@pytest.fixture(autouse=True)
def _small_crowd(monkeypatch: pytest.MonkeyPatch) -> None:
    """A crowd of 60 finds what one of 200 does, and sooner; a busy machine may take long for it."""
    monkeypatch.setattr(rehearsal, "SHOPPERS", 60)
    monkeypatch.setattr(crowd, "WITHIN_SECONDS", 300.0)
    monkeypatch.setattr(crowd, "ANSWER_WITHIN_SECONDS", 60.0)
    monkeypatch.setattr("sales.audit.WRITER_HAS_SECONDS", 60.0)


@pytest.fixture
def writer(open_sale: Sale) -> Iterator[OrderWriter]:
    with OrderWriter() as writer:
        writer.wait_until_it_reads(open_sale)
        yield writer


@pytest.fixture
def serve(static_files: None, redis_server: RedisServer) -> Iterator[Callable[..., WebServer]]:
    """Start a web server with other settings, or another application."""
    servers: list[WebServer] = []

    def start(application: str = "flashsale.asgi:application", **environment: str) -> WebServer:
        servers.append(WebServer({"PORT": str(free_port()), **environment}, application))
        servers[-1].start()
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


def by_name(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.name: finding for finding in findings}


def trace() -> tuple[dict[bytes, bytes], list[tuple[int, str]], list[int]]:
    """Return all that Redis and SQL hold, but for what the order writer leaves in streams of real sales, and for the
    web workers' signs of life."""
    names = {key for key in store.client().scan_iter() if not key.endswith(b":orders")} - {store.WORKERS.encode()}
    keys = {key: store.client().dump(key) for key in names}
    rows = [model.objects.count() for model in (Order, Quarantine, AttemptCount, ShopperCount)]
    return keys, list(Sale.objects.values_list("id", "slug")), rows


def wait_for(condition: Callable[[], object], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it does not come about"
        time.sleep(0.01)


def rehearsals() -> list[int]:
    """Return the IDs of the rehearsals that Redis knows of."""
    return [int(line.split()[0]) for line in store.client().hvals(store.REHEARSALS)]


def is_selling() -> bool:
    return any(store.client().hlen(store.key(sale_id, "purchases")) for sale_id in rehearsals())


def staged(ends_in: timedelta = timedelta(minutes=2)) -> Sale:
    """Make a rehearsal as a process leaves it that is killed."""
    now = timezone.now()
    slug = f"rehearsal-{'0123456789abcdef' * 2}"
    sale = Sale.objects.create(
        name="Rehearsal",
        slug=slug,
        total_stock=20,
        published=False,
        starts_at=now - timedelta(minutes=5),
        ends_at=now + ends_in,
    )
    publishing.stage(sale)
    return sale


def test_a_rehearsal_proves_the_sale_and_leaves_no_trace(server: WebServer, open_sale: Sale, writer: OrderWriter):
    before = trace()

    found = rehearsal.rehearse(server.url)

    assert [(finding.name, finding.verdict) for finding in found] == [(name, "ok") for name in PROVEN]
    assert by_name(found)["never oversold"].reason == "20 orders of 20 units were told, and Redis holds 20."
    assert trace() == before
    assert audit(open_sale).drift == {}
    assert writer.popen.poll() is None


def test_a_rehearsal_is_found_only_by_its_address(http: httpx.Client, make_sale: MakeSale, seen: Callable[[], None]):
    make_sale(slug="real", starts_in=-3600)
    sale = staged()
    seen()

    known = http.get(f"/api/sales/{sale.slug}/status")
    current = http.get("/api/sale/status")
    pages = [http.get("/"), http.get("/health"), http.get("/admin/login/")]

    assert known.json()["status"] == "active"
    assert current.json()["slug"] == "real"
    assert http.get(f"/sales/{sale.slug}/").status_code == 404
    assert http.post(f"/sales/{sale.slug}/", data={"userId": "ada"}).status_code == 404
    assert not any(sale.slug in page.text for page in pages)
    assert store.client().hkeys(store.DIRECTORY) == [b"real"]


def test_without_any_sale_a_rehearsal_is_not_the_current_one(http: httpx.Client, db: None, seen: Callable[[], None]):
    staged()
    seen()

    response = http.get("/api/sale/status")

    assert (response.status_code, response.json()["code"]) == (404, "no_sale")


def test_a_closed_rehearsal_is_not_found(http: httpx.Client, open_sale: Sale, seen: Callable[[], None]):
    sale = staged()
    seen()
    address = f"/api/sales/{sale.slug}/purchase"
    bought = http.post(address, json={"userId": "ada"})

    publishing.unstage(sale)
    seen()

    assert bought.json()["code"] == "purchased"
    assert http.post(address, json={"userId": "bob"}).json()["code"] == "no_sale"


def test_publishing_every_sale_does_not_touch_a_rehearsal(open_sale: Sale):
    sale = staged()

    publishing.publish_all()

    assert store.client().hkeys(store.DIRECTORY) == [open_sale.slug.encode()]
    assert rehearsals() == [sale.id]
    assert publishing.standing(sale).config["published"] == "1"


@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=pytest.mark.long), signal.SIGTERM])
def test_a_rehearsal_that_is_stopped_leaves_no_trace(
    server: WebServer, open_sale: Sale, writer: OrderWriter, number: signal.Signals
):
    before = trace()
    command = [sys.executable, "manage.py", "preflight", open_sale.slug, "--rehearse", "--address", server.url]
    environment = {**os.environ, "DATABASE_URL": database_url()}
    with subprocess.Popen(
        command, cwd=settings.BASE_DIR, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        wait_for(is_selling)
        process.send_signal(number)
        printed, errors = process.communicate(timeout=300)

    assert process.returncode == 1
    assert "The rehearsal was stopped: nothing is proven." in printed
    assert "Nothing of the rehearsal is left in Redis and SQL." in printed
    assert "Traceback" not in errors
    assert trace() == before


def test_a_killed_rehearsals_traces_are_removed_by_the_next(server: WebServer, open_sale: Sale, writer: OrderWriter):
    before = trace()
    left = staged(ends_in=timedelta(seconds=-1))
    store.client().xadd(store.key(left.id, "orders"), {"user_id": "ada", "remaining_stock": 19, "key_digest": ""})
    wait_for(lambda: left.orders.exists())

    rehearsal.rehearse(server.url)

    assert trace() == before


@pytest.mark.long
def test_a_rehearsal_that_is_under_way_is_left_alone(server: WebServer, open_sale: Sale, writer: OrderWriter):
    other = staged()

    found = rehearsal.rehearse(server.url)

    assert {finding.verdict for finding in found} == {"ok"}
    assert rehearsals() == [other.id]
    assert publishing.standing(other).remaining_stock == 20
    assert Sale.objects.filter(pk=other.pk).exists()


@pytest.mark.long
def test_a_real_sale_with_a_rehearsals_number_is_kept(server: WebServer, open_sale: Sale, writer: OrderWriter):
    store.client().hset(store.REHEARSALS, f"rehearsal-{'0' * 32}", f"{open_sale.id} 0 1")

    rehearsal.rehearse(server.url)

    assert publishing.standing(open_sale).is_mirrored(open_sale)
    assert audit(open_sale).drift == {}
    assert rehearsals() == []


@pytest.mark.parametrize(
    ("defect", "failed"),
    [
        ("oversells", {"never oversold", "no drift"}),
        pytest.param("sells_twice", {"one per shopper", "no drift"}, marks=pytest.mark.long),
        pytest.param("undersells", {"every unit sold"}, marks=pytest.mark.long),
        pytest.param("forgets_the_stream", {"no drift"}, marks=pytest.mark.long),
    ],
)
def test_a_defect_is_found(
    serve: Callable[..., WebServer],
    open_sale: Sale,
    writer: OrderWriter,
    defect: str,
    failed: set[str],
    monkeypatch: pytest.MonkeyPatch,
):
    before = trace()
    monkeypatch.setattr("sales.audit.WRITER_HAS_SECONDS", 3.0)  # the writer lets an order that conflicts lie
    server = serve("tests.defective:application", DEFECT=defect)

    found = rehearsal.rehearse(server.url)

    assert failed <= {finding.name for finding in found if finding.verdict == "failure"}
    assert by_name(found)["no trace"].verdict == "ok"
    assert trace() == before


def test_without_an_order_writer_the_orders_are_missed(
    server: WebServer, open_sale: Sale, monkeypatch: pytest.MonkeyPatch
):
    before = trace()
    monkeypatch.setattr("sales.audit.WRITER_HAS_SECONDS", 0.5)
    monkeypatch.setattr(rehearsal, "WRITER_WRITES_SECONDS", 0.5)

    found = by_name(rehearsal.rehearse(server.url))

    assert found["no drift"].verdict == "failure"
    assert "purchases without order, like shopper-" in found["no drift"].reason
    assert found["no drift"].remedy.startswith("Start manage.py write_orders")
    assert found["every unit sold"].verdict == "ok"
    assert trace() == before


@pytest.mark.long
def test_the_limit_of_its_address_only_makes_it_wait(
    serve: Callable[..., WebServer], open_sale: Sale, writer: OrderWriter
):
    server = serve(ADDRESS_RATE="100/s", USER_RATE="1/2s")

    found = rehearsal.rehearse(server.url)

    assert [finding.verdict for finding in found] == ["ok"] * len(PROVEN)


@pytest.mark.long
def test_a_limit_that_lets_too_few_through_is_a_warning(
    serve: Callable[..., WebServer], open_sale: Sale, writer: OrderWriter, monkeypatch: pytest.MonkeyPatch
):
    server = serve(ADDRESS_RATE="10/m", WEB_CONCURRENCY="1")
    monkeypatch.setattr(crowd, "WITHIN_SECONDS", 1.0)

    found = by_name(rehearsal.rehearse(server.url))

    assert {finding.verdict for finding in found.values()} == {"ok", "warning"}
    assert "higher ADDRESS_RATE" in found["answers"].remedy
    assert "not every shopper was heard" in found["every unit sold"].reason


@pytest.mark.parametrize("address", ["http://127.0.0.1:{port}", "localhost:{port}", "http://localhost:port"])
def test_without_a_web_server(open_sale: Sale, address: str):
    before, address = trace(), address.format(port=free_port())

    found = by_name(rehearsal.rehearse(address))

    assert found["rehearsal"].verdict == "failure"
    assert f"No web server answers at {address}: " in found["rehearsal"].reason
    assert "--address" in found["rehearsal"].remedy
    assert found["no trace"].verdict == "ok"
    assert trace() == before


def remember(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, address: str) -> None:
    """Leave behind what a `make run` with its web server at the address does."""
    (tmp_path / "web_address").write_text(address)
    monkeypatch.setattr(deployment, "WEB_ADDRESS", tmp_path / "web_address")


def test_the_web_server_of_make_run_is_found(
    serve: Callable[..., WebServer], writer: OrderWriter, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    remember(monkeypatch, tmp_path, serve().url)

    assert list(by_name(rehearsal.rehearse())) == PROVEN


@pytest.mark.long
def test_an_address_left_by_a_crash_is_passed_over(
    serve: Callable[..., WebServer],
    writer: OrderWriter,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
):
    remember(monkeypatch, tmp_path, f"http://127.0.0.1:{free_port()}")
    settings.BIND, settings.PORT = "127.0.0.1", int(serve().url.rpartition(":")[2])

    assert list(by_name(rehearsal.rehearse())) == PROVEN


def test_every_address_that_was_tried_is_named(
    open_sale: Sale, settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    gone = f"http://127.0.0.1:{free_port()}"
    remember(monkeypatch, tmp_path, gone)
    settings.BIND, settings.PORT = "127.0.0.1", free_port()

    reason = by_name(rehearsal.rehearse())["rehearsal"].reason

    for address in (gone, f"http://127.0.0.1:{settings.PORT}"):
        assert f"No web server answers at {address}: " in reason


def test_a_web_server_on_other_data(
    serve: Callable[..., WebServer], open_sale: Sale, tmp_path_factory: pytest.TempPathFactory
):
    server = serve(REDIS_URL=f"unix://{settings.VAR_DIR / 'redis.sock'}?db=1")

    found = by_name(rehearsal.rehearse(server.url))

    assert found["rehearsal"].verdict == "failure"
    assert "REDIS_URL" in found["rehearsal"].remedy


@pytest.mark.long
def test_a_web_server_is_addressed_by_its_own_name(
    serve: Callable[..., WebServer], open_sale: Sale, writer: OrderWriter, settings: Settings
):
    port = free_port()
    serve(PORT=str(port), ALLOWED_HOSTS="shop.example.com,127.0.0.1")
    settings.PORT, settings.BIND, settings.ALLOWED_HOSTS = port, "0.0.0.0", ["shop.example.com"]

    assert rehearsal._own_host() == "shop.example.com"
    assert {finding.verdict for finding in rehearsal.rehearse()} == {"ok"}


@pytest.mark.long
def test_the_next_rehearsal_cleans_up_after_a_redis_crash(
    server: WebServer, open_sale: Sale, writer: OrderWriter, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
):
    before_in_sql = trace()[1:]
    monkeypatch.setattr(crowd, "WITHIN_SECONDS", 2.0)

    def kill() -> None:
        wait_for(is_selling)
        redis_server.kill()

    killer = threading.Thread(target=kill)
    killer.start()
    broken = by_name(rehearsal.rehearse(server.url))
    killer.join()
    redis_server.start()
    (left,) = rehearsals()
    ended = datetime.now(UTC) - timedelta(seconds=1)
    ((slug, _),) = store.client().hgetall(store.REHEARSALS).items()
    store.client().hset(store.REHEARSALS, slug, f"{left} 0 {int(ended.timestamp() * 1000)}")

    again = rehearsal.rehearse(server.url)

    assert broken["rehearsal"].reason.startswith("The rehearsal broke off: ")
    assert broken["no trace"].verdict == "failure"
    assert "Something of the rehearsal stays" in broken["no trace"].reason
    assert {finding.verdict for finding in again} == {"ok"}
    assert trace()[1:] == before_in_sql
    assert [key for key in store.client().scan_iter() if f"{{sale:{left}}}".encode() in key] == []
