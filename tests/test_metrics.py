"""/metrics: sums over the workers, what survives them, who may read it, and what it must not say."""

import ipaddress
import os
import re
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress

import httpx
import pytest
from django.utils import timezone
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from pytest_django import Settings

from sales import addresses, publishing, store
from sales.archiving import archive
from sales.health import KEEP_SECONDS
from sales.models import Sale
from sales.orders import consumer_name, run_once
from tests.conftest import MakeSale
from tests.servers import RedisServer, WebServer, free_port
from tests.test_events import Stream

# A worker gives what it has counted once a second, and Redis may have to answer it first: on a busy machine late.
TOLD_WITHIN_SECONDS = 60
BUY = "/api/sale/purchase"


class Scrape:
    """What /metrics says, by name and labels."""

    def __init__(self, server: WebServer, **headers: str):
        self.response = httpx.get(f"{server.url}/metrics", headers=headers, timeout=60)
        families: Iterable[Metric] = text_string_to_metric_families(self.response.text)
        self.samples = [sample for family in families for sample in family.samples]

    def value(self, name: str, **labels: str) -> float | None:
        """Return the sum of the samples with those labels among theirs; None when there is none."""
        found = [one.value for one in self.samples if one.name == name and labels.items() <= one.labels.items()]
        return sum(found) if found else None


def until(server: WebServer, is_told: Callable[[Scrape], bool]) -> Scrape:
    """Return the first scrape that tells it; or, when that takes too long, the last one."""
    deadline = time.monotonic() + TOLD_WITHIN_SECONDS
    while True:
        with suppress(httpx.TransportError):  # a worker may have just been killed
            scrape = Scrape(server)
            if is_told(scrape) or time.monotonic() > deadline:
                return scrape
        time.sleep(0.1)


def clients_of_both(server: WebServer, stack: ExitStack) -> dict[int, httpx.Client]:
    """Return a connection to each of the two workers, by process."""
    found: dict[int, httpx.Client] = {}
    while len(found) < 2:
        client = stack.enter_context(httpx.Client(base_url=server.url))
        with suppress(httpx.TransportError):
            found.setdefault(client.get("/health/live").json()["pid"], client)
    return found


def test_counts_add_up_across_workers_and_survive_a_kill(own_server: WebServer, open_sale: Sale):
    slug = open_sale.slug
    with ExitStack() as stack:
        clients = clients_of_both(own_server, stack)
        for pid, client in clients.items():
            for number in range(3):
                client.post(BUY, json={"userId": f"{pid}-{number}"})
            client.post(BUY, json={"userId": f"{pid}-0"})
        before = until(own_server, lambda scrape: scrape.value("flashsale_attempts_total", sale=slug) == 8)
        killed = next(iter(clients))
        os.kill(killed, signal.SIGKILL)
        after = until(own_server, lambda scrape: (scrape.value("flashsale_connections") or 0) > 0)
        clients[next(pid for pid in clients if pid != killed)].post(BUY, json={"userId": "one-more"})
        later = until(own_server, lambda scrape: scrape.value("flashsale_attempts_total", sale=slug) == 9)

    def attempts(scrape: Scrape, outcome: str) -> float | None:
        return scrape.value("flashsale_attempts_total", sale=slug, outcome=outcome)

    route = {"route": f"{BUY}", "status": "2xx"}
    assert (attempts(before, "purchased"), attempts(before, "already_purchased")) == (6, 2)
    assert before.value("flashsale_request_duration_seconds_count", **route) == 6
    assert before.value("flashsale_request_duration_seconds_count", route=BUY, status="4xx") == 2
    assert before.value("flashsale_batch_attempts_sum") == 8
    assert before.value("flashsale_script_duration_seconds_count") == before.value("flashsale_batch_attempts_count")
    assert (attempts(after, "purchased"), attempts(after, "already_purchased")) == (6, 2)
    assert attempts(later, "purchased") == 7
    assert later.value("flashsale_units_sold", sale=slug) == 7
    assert later.value("flashsale_remaining_stock", sale=slug) == 3


def test_the_killed_worker_is_in_no_gauge(own_server: WebServer, open_sale: Sale):
    with ExitStack() as stack:
        streams = [Stream(own_server) for _ in range(6)]
        listening = until(own_server, lambda scrape: scrape.value("flashsale_event_streams") == 6)
        before = listening.value("flashsale_connections") or 0
        for pid in clients_of_both(own_server, stack):
            os.kill(pid, signal.SIGKILL)
        gone = until(own_server, lambda scrape: scrape.value("flashsale_event_streams") == 0)
        for stream in streams:
            stream.socket.close()

    assert before >= 6
    assert gone.value("flashsale_event_streams") == 0
    assert (gone.value("flashsale_connections") or 0) < 6
    assert 10e6 < (gone.value("flashsale_resident_memory_bytes") or 0) < 1e9


def test_redis_and_the_writer_are_measured(server: WebServer, make_sale: MakeSale, seen: Callable[[], None]):
    sale = make_sale(stock=5)
    seen()
    httpx.post(f"{server.url}{BUY}", json={"userId": "ada"})

    def is_whole(scrape: Scrape) -> bool:
        """Return whether all that is asked has answered in time."""
        away = [one for one in scrape.samples if one.name == "flashsale_up" and one.value != 1]
        return not away and scrape.value("flashsale_writer_backlog_orders") == 1

    scrape = until(server, is_whole)

    assert scrape.response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert [
        scrape.value(f"flashsale_{name}", sale=sale.slug)
        for name in ("remaining_stock", "units_sold", "total_stock", "drift_units", "sale_active", "sale_closed")
    ] == [4, 1, 5, 0, 1, 0]
    assert scrape.value("flashsale_writer_backlog_orders") == 1
    assert (scrape.value("flashsale_writer_lag_seconds") or 0) > 0
    assert 0 < (scrape.value("flashsale_redis_memory_used_bytes") or 0) < 1e9
    assert (scrape.value("flashsale_redis_memory_max_bytes") or 0) > 1e6
    assert [scrape.value("flashsale_up", dependency=name) for name in ("redis", "writer", "database")] == [1, 1, 1]
    assert (scrape.value("flashsale_latency_seconds", dependency="redis") or 0) > 0


def test_weak_settings_and_a_changed_stock_show(server: WebServer, open_sale: Sale, seen: Callable[[], None]):
    seen()
    before = until(server, lambda scrape: scrape.value("flashsale_redis_durable") == 4)
    client = store.client()
    client.config_set("appendfsync", "everysec")
    try:
        client.incrby(store.key(open_sale.id, "stock"), 2)
        scrape = until(server, lambda scrape: scrape.value("flashsale_drift_units", sale=open_sale.slug) == 2)
    finally:
        client.config_set("appendfsync", "always")

    assert before.value("flashsale_redis_durable") == 4
    assert scrape.value("flashsale_redis_durable", setting="appendfsync") == 0
    assert scrape.value("flashsale_redis_durable") == 3
    assert scrape.value("flashsale_drift_units", sale=open_sale.slug) == 2


def test_paused_closed_and_coming_sales_are_not_active(
    server: WebServer, make_sale: MakeSale, seen: Callable[[], None]
):
    paused, closed, lost = (make_sale(slug=slug) for slug in ("paused", "closed", "lost"))
    make_sale(slug="coming", starts_in=600)
    paused.paused = True
    paused.save()
    publishing.publish(paused)
    store.client().hset(store.key(closed.id, "config"), "closed", f"{store.run_id_blocking()} Data is missing.")
    store.client().delete(store.key(lost.id, "stock"))
    seen()

    scrape = until(server, lambda scrape: scrape.value("flashsale_sale_active", sale="coming") == 0)

    slugs = ("paused", "closed", "lost", "coming")
    assert [scrape.value("flashsale_sale_active", sale=slug) for slug in slugs] == [0, 0, None, 0]
    assert [scrape.value("flashsale_sale_closed", sale=slug) for slug in slugs] == [0, 1, 1, 0]


def test_a_sale_that_has_ended_is_dropped(server: WebServer, make_sale: MakeSale, seen: Callable[[], None]):
    sale = make_sale(slug="going", starts_in=-7200, lasts=7200 + 3600)
    seen()
    httpx.post(f"{server.url}/api/sales/going/purchase", json={"userId": "ada"})
    there = until(server, lambda scrape: scrape.value("flashsale_attempts_total", sale="going") == 1)
    sale.ends_at = sale.starts_at.replace(microsecond=0)
    sale.starts_at = sale.ends_at.replace(year=sale.ends_at.year - 1)
    sale.save()
    publishing.publish(sale)
    seen()

    gone = until(server, lambda scrape: not [one for one in scrape.samples if one.labels.get("sale") == "going"])

    assert there.value("flashsale_attempts_total", sale="going") == 1
    assert there.value("flashsale_units_sold", sale="going") == 1
    assert not [sample for sample in gone.samples if sample.labels.get("sale") == "going"]


def test_a_sale_that_is_archived_has_sold_what_it_sold(
    server: WebServer, make_sale: MakeSale, seen: Callable[[], None]
):
    sale = make_sale(stock=5)
    seen()
    httpx.post(f"{server.url}/api/sales/{sale.slug}/purchase", json={"userId": "ada"})
    run_once(consumer_name())
    sale.ends_at = timezone.now()
    sale.save()
    publishing.publish(sale)
    archive(sale)
    seen()

    scrape = until(server, lambda scrape: scrape.value("flashsale_sale_active", sale=sale.slug) == 0)

    names = ("remaining_stock", "units_sold", "total_stock", "drift_units", "sale_active", "sale_closed")
    assert [scrape.value(f"flashsale_{name}", sale=sale.slug) for name in names] == [4, 1, 5, 0, 0, 0]


def test_request_contents_never_appear_in_the_metrics(server: WebServer, open_sale: Sale):
    with httpx.Client(base_url=server.url) as http:
        http.post(BUY, json={"userId": "secret-ada"})
        for path in ("/api/sale/user/secret-bob", "/receipts/secret-token/", "/secret-page", "/static/secret.css"):
            http.get(path)
        http.get("/secret-host", headers={"Host": "secret.example"})

    def count(scrape: Scrape, route: str) -> float | None:
        return scrape.value("flashsale_request_duration_seconds_count", route=route)

    def is_whole(scrape: Scrape) -> bool:
        routes = ("/api/sale/user/<any:user_id>", "/receipts/<str:token>/", "/static/<any:name>")
        return all(count(scrape, route) for route in routes) and (count(scrape, "other") or 0) >= 2

    scrape = until(server, is_whole)

    assert count(scrape, "/api/sale/user/<any:user_id>")
    assert count(scrape, "/receipts/<str:token>/")
    assert count(scrape, "/static/<any:name>")
    assert (count(scrape, "other") or 0) >= 2
    assert "secret" not in scrape.response.text
    routes = {sample.labels["route"] for sample in scrape.samples if "route" in sample.labels}
    assert all(re.match(r"/|other$", route) for route in routes)


@pytest.fixture
def hasty_server(redis_server: RedisServer, static_files: None, transactional_db: None) -> Iterator[WebServer]:
    """Two workers that wait for Redis no longer than in production."""
    with WebServer({"PORT": str(free_port())}) as server:
        yield server


@pytest.mark.long
def test_without_redis_the_known_numbers_remain(hasty_server: WebServer, redis_server: RedisServer, open_sale: Sale):
    with ExitStack() as stack:
        for pid, client in clients_of_both(hasty_server, stack).items():
            client.post(BUY, json={"userId": str(pid)})
        until(hasty_server, lambda scrape: scrape.value("flashsale_attempts_total", sale=open_sale.slug) == 2)
        redis_server.signal(signal.SIGSTOP)
        time.sleep(KEEP_SECONDS)
        try:
            stopped = Scrape(hasty_server)
        finally:
            redis_server.signal(signal.SIGCONT)
        redis_server.kill()
        try:
            killed = Scrape(hasty_server)
        finally:
            redis_server.start()

    for scrape in (stopped, killed):
        assert scrape.response.status_code == 200
        assert scrape.value("flashsale_up", dependency="redis") == 0
        assert scrape.value("flashsale_up", dependency="database") == 1
        assert scrape.value("flashsale_attempts_total", sale=open_sale.slug, outcome="purchased") == 2
        assert scrape.value("flashsale_remaining_stock") is None


# Who may read it


@pytest.fixture(scope="module")
def guarded_server(redis_server: RedisServer, static_files: None, django_db_setup: None) -> Iterator[WebServer]:
    with WebServer({"PORT": str(free_port()), "WEB_CONCURRENCY": "1", "METRICS_TOKEN": "let-me-read"}) as server:
        yield server


@pytest.fixture(scope="module")
def proxied_server(redis_server: RedisServer, static_files: None, django_db_setup: None) -> Iterator[WebServer]:
    with WebServer({"PORT": str(free_port()), "WEB_CONCURRENCY": "1", "TRUSTED_PROXIES": "127.0.0.1/32"}) as server:
        yield server


def test_a_token_lets_in_and_nothing_else_does(guarded_server: WebServer):
    right = Scrape(guarded_server, Authorization="Bearer let-me-read").response
    refused = [
        httpx.get(f"{guarded_server.url}/metrics", headers=headers)
        for headers in ({}, {b"Authorization": "Bearer wröng".encode()}, {b"Authorization": b"Basic bGV0"})
    ]

    assert (right.status_code, "flashsale_up" in right.text) == (200, True)
    for response in refused:
        assert (response.status_code, response.json()["code"]) == (401, "unauthorized")
        assert "METRICS_TOKEN" in response.json()["message"]
        assert response.headers["www-authenticate"].startswith("Bearer")
        assert "flashsale_" not in response.text


@pytest.mark.parametrize(
    ("forwarded", "status"),
    [("", 200), ("10.1.2.3", 200), ("192.168.7.7", 200), ("198.51.100.7", 403), ("10.1.2.3, 198.51.100.7", 403)],
)
def test_without_a_token_private_networks_may_read(proxied_server: WebServer, forwarded: str, status: int):
    response = httpx.get(f"{proxied_server.url}/metrics", headers={"X-Forwarded-For": forwarded} if forwarded else {})

    assert response.status_code == status
    assert status == 200 or "METRICS_NETWORKS" in response.json()["message"]


def test_requests_through_an_unnamed_proxy_are_refused(server: WebServer):
    response = httpx.get(f"{server.url}/metrics", headers={"X-Forwarded-For": "10.1.2.3"})

    assert response.status_code == 403


@pytest.mark.pure
@pytest.mark.parametrize(
    ("peer", "is_inside"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("::ffff:10.0.0.7", True),
        ("172.31.0.1", True),
        ("172.32.0.1", False),
        ("fd12::7", True),
        ("2001:db8::1", False),
        ("", False),
        ("nonsense", False),
    ],
)
def test_networks(settings: Settings, peer: str, is_inside: bool):
    assert addresses.is_from(settings.METRICS_NETWORKS, {"REMOTE_ADDR": peer}) == is_inside


@pytest.mark.pure
def test_other_networks(settings: Settings):
    networks = [ipaddress.ip_network("2001:db8:7::/48")]

    assert addresses.is_from(networks, {"REMOTE_ADDR": "2001:db8:7::1"})
    assert not addresses.is_from(networks, {"REMOTE_ADDR": "127.0.0.1"})


def test_head_and_other_methods(server: WebServer):
    head = httpx.head(f"{server.url}/metrics")

    assert (head.status_code, head.content) == (200, b"")
    assert httpx.post(f"{server.url}/metrics").status_code == 405


def test_inside_readers_may_use_http_despite_https(https_server: WebServer):
    assert httpx.get(f"{https_server.url}/metrics").status_code == 200
