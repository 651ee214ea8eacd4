"""What /health and the log tell when Redis can be read, and takes no purchase; or when it is away."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx
import pytest

from sales import store
from sales.health import KEEP_SECONDS, report
from sales.models import Sale
from tests.conftest import MakeSale
from tests.servers import WebServer, free_port

REFUSING = {
    ("maxmemory", "1"): "command not allowed when used memory > 'maxmemory'",
    ("min-replicas-to-write", "1"): "NOREPLICAS Not enough good replicas to write",
}


@contextmanager
def refusing(name: str, value: str) -> Iterator[None]:
    """Have Redis take no purchase."""
    store.client().config_set(name, value)
    try:
        yield
    finally:
        store.client().config_set(name, 0)


def press(server: WebServer) -> httpx.Response:
    return httpx.post(f"{server.url}/api/sale/purchase", json={"userId": "ada"})


def look(server: WebServer) -> httpx.Response:
    """Ask a worker for its health that has not just looked."""
    time.sleep(KEEP_SECONDS + 0.1)
    return httpx.get(f"{server.url}/health")


def look_until(server: WebServer, is_so: Callable[[httpx.Response], bool]) -> httpx.Response:
    """Return the first answer that says so: on a busy machine a look may take longer than health gives it."""
    deadline = time.monotonic() + 60
    while not is_so(found := look(server)):
        assert time.monotonic() < deadline, found.text
    return found


def test_a_redis_that_takes_no_purchase_is_unavailable(own_server: WebServer, open_sale: Sale):
    """One that has no room, and one that has no replica."""
    for (name, value), told in REFUSING.items():
        look_until(own_server, lambda health: health.status_code == 200)
        with refusing(name, value):
            refused = [press(own_server).status_code for _ in range(5)]
            health = look_until(own_server, lambda health: "Redis refused" in health.text)
            metrics = httpx.get(f"{own_server.url}/metrics").text

        assert refused == [503] * 5
        assert (health.status_code, health.json()["redis"]["status"]) == (503, "unavailable")
        assert "Redis refused; the log says why" in health.json()["redis"]["reason"]
        assert 'flashsale_up{dependency="redis"} 0.0' in metrics
        # Each of the two workers says it, and the attempts' counts that Redis does not take either add no line.
        assert 1 <= own_server.log.read_text().count(f"Redis refused: {told}") <= 2


@pytest.mark.django_db(transaction=True)  # SQL is asked in another thread
def test_health_names_a_full_redis(open_sale: Sale):
    store.client().config_set("maxmemory", 1)
    try:
        told = asyncio.run(report())
    finally:
        store.client().config_set("maxmemory", 0)

    assert told["status"] == "unavailable"
    assert "Redis refused" in told["redis"]["reason"]


@pytest.mark.django_db(transaction=True)  # the server, another process, reads SQL
def test_a_redis_that_takes_purchases_again_is_ok(server: WebServer, open_sale: Sale):
    with refusing("maxmemory", "1"):
        away = look(server).status_code

    back = look_until(server, lambda health: health.status_code == 200)

    assert (away, back.status_code) == (503, 200)
    assert press(server).json()["code"] == "purchased"


def test_the_log_reports_a_missing_redis_without_health_checks(static_files: None, django_db_setup: None):
    with WebServer(
        {"PORT": str(free_port()), "REDIS_URL": f"redis://127.0.0.1:{free_port()}", "WEB_CONCURRENCY": "1"}
    ) as server:
        refused = [press(server).status_code for _ in range(5)]

    assert refused == [503] * 5
    assert server.log.read_text().count("no connection to Redis: ") == 1


@pytest.mark.django_db(transaction=True)
def test_an_ended_sale_does_not_offset_a_closed_one(server: WebServer, make_sale: MakeSale):
    make_sale(name="Old", starts_in=-7200, lasts=3600)
    active = make_sale()
    store.client().hset(store.key(active.id, "config"), "closed", "x data is missing")

    health = look_until(server, lambda health: active.slug in health.text)

    assert health.status_code == 503
    assert list(health.json()["redis"]) == ["status", "latencyMs", "reason"]
    assert active.slug in health.json()["redis"]["reason"]


@pytest.mark.django_db(transaction=True)
def test_an_ended_closed_sale_only_degrades_health(server: WebServer, make_sale: MakeSale):
    ended = make_sale(name="Old", starts_in=-7200, lasts=3600)
    make_sale()
    store.client().hset(store.key(ended.id, "config"), "closed", "x data is missing")

    health = look_until(server, lambda health: ended.slug in health.text)

    assert (health.status_code, health.json()["status"]) == (200, "degraded")
    assert list(health.json()["redis"]["closed"]) == [ended.slug]
