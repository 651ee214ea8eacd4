"""What /health and the log tell when Redis can be read, and takes no purchase; or when it is away."""

import asyncio
import time
from collections.abc import Iterator

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


@pytest.fixture(params=REFUSING.items(), ids=lambda pair: pair[0][0])
def told(request: pytest.FixtureRequest, own_server: WebServer, open_sale: Sale) -> Iterator[str]:
    """What a Redis says of purchases that has no room, or no replica."""
    (name, value), told = request.param
    httpx.get(f"{own_server.url}/health").raise_for_status()
    store.client().config_set(name, value)
    yield told
    store.client().config_set(name, 0)


def press(server: WebServer) -> httpx.Response:
    return httpx.post(f"{server.url}/api/sale/purchase", json={"userId": "ada"})


def look(server: WebServer) -> httpx.Response:
    """Ask a worker for its health that has not just looked."""
    time.sleep(KEEP_SECONDS + 0.1)
    return httpx.get(f"{server.url}/health")


def test_a_redis_that_takes_no_purchase_is_unavailable(own_server: WebServer, told: str):
    refused = [press(own_server).status_code for _ in range(5)]
    health = look(own_server)
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
    store.client().config_set("maxmemory", 1)
    try:
        away = look(server).status_code
    finally:
        store.client().config_set("maxmemory", 0)

    back = look(server)

    assert (away, back.status_code) == (503, 200)
    assert press(server).json()["code"] == "purchased"


def test_the_log_says_that_redis_is_away_though_nobody_asks_for_health(static_files: None, django_db_setup: None):
    with WebServer(
        {"PORT": str(free_port()), "REDIS_URL": f"redis://127.0.0.1:{free_port()}", "WEB_CONCURRENCY": "1"}
    ) as server:
        refused = [press(server).status_code for _ in range(20)]

    assert refused == [503] * 20
    assert server.log.read_text().count("no connection to Redis: ") == 1


@pytest.mark.django_db(transaction=True)
def test_a_closed_sale_is_not_made_up_for_by_one_that_has_ended(server: WebServer, make_sale: MakeSale):
    make_sale(name="Old", starts_in=-7200, lasts=3600)
    active = make_sale()
    store.client().hset(store.key(active.id, "config"), "closed", "x data is missing")

    health = look(server)

    assert health.status_code == 503
    assert list(health.json()["redis"]) == ["status", "latencyMs", "reason"]
    assert active.slug in health.json()["redis"]["reason"]


@pytest.mark.django_db(transaction=True)
def test_a_sale_that_has_ended_and_is_closed_does_not_stop_the_others(server: WebServer, make_sale: MakeSale):
    ended = make_sale(name="Old", starts_in=-7200, lasts=3600)
    make_sale()
    store.client().hset(store.key(ended.id, "config"), "closed", "x data is missing")

    health = look(server)

    assert (health.status_code, health.json()["status"]) == (200, "degraded")
    assert list(health.json()["redis"]["closed"]) == [ended.slug]
