"""`unavailable` against `unknown`: what a shopper hears when Redis fails."""

import signal
import threading
import time
from collections.abc import Callable, Iterator

import httpx
import pytest

from sales import store
from sales.models import Sale
from tests import openapi
from tests.redis_servers import wait_until
from tests.servers import LossyProxy, RedisServer, WebServer, free_port

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def proxy(redis_server: RedisServer) -> Iterator[LossyProxy]:
    proxy = LossyProxy()
    yield proxy
    proxy.close()


@pytest.fixture(scope="module")
def proxied_server(proxy: LossyProxy, static_files: None, django_db_setup: None) -> Iterator[WebServer]:
    """A web server whose way to Redis can lose answers."""
    with WebServer(
        {"PORT": str(free_port()), "REDIS_URL": f"redis://127.0.0.1:{proxy.port}", "WEB_CONCURRENCY": "1"}
    ) as server:
        yield server


def buy(url: str, user_id: str, key: str = "") -> httpx.Response:
    headers = {"Idempotency-Key": key} if key else {}
    return httpx.post(f"{url}/api/sale/purchase", json={"userId": user_id}, headers=headers, timeout=60)


def settle(url: str, user_id: str, key: str = "") -> httpx.Response:
    """Buy, and repeat it while the answer is a 503: after trouble some are, and on a busy machine."""
    answers: list[httpx.Response] = []

    def is_settled() -> bool:
        answers.append(buy(url, user_id, key))
        return answers[-1].status_code != 503

    wait_until(is_settled, f"{user_id} has an answer")
    return answers[-1]


def scripts_run() -> int:
    """Return how often the purchase script ran; of all that asks Redis anything, only it calls SMISMEMBER."""
    return store.client().info("commandstats")["cmdstat_smismember"]["calls"]


def assert_503(response: httpx.Response, code: str) -> None:
    openapi.check(response)
    assert response.status_code == 503
    assert response.headers["retry-after"] == "1"
    assert response.json()["code"] == code
    assert response.json()["success"] is False
    assert response.json()["remainingStock"] is None


def test_a_lost_answer_is_settled_by_repeating_its_key(
    proxied_server: WebServer, proxy: LossyProxy, open_sale: Sale, seen: Callable[[], None]
):
    seen()
    assert settle(proxied_server.url, "first").status_code == 200
    for number in range(20):  # a busy machine may refuse before it asks, or ask on a connection that is new
        user_id, key = f"ada-{number}", f"key-{number}"
        while proxy.connections() < 2:  # one for the purchase, and one for the status that is read beside it
            time.sleep(0.11)
            buy(proxied_server.url, "first")
        sent_before = scripts_run()
        proxy.mute()
        response = buy(proxied_server.url, user_id, key)
        if response.json()["code"] == "unknown":
            break
    wait_until(lambda: scripts_run() > sent_before, "the attempt is decided")
    assert scripts_run() == sent_before + 1
    settled = settle(proxied_server.url, user_id, key)

    assert_503(response, "unknown")
    assert settled.status_code == 200
    assert settled.headers["idempotent-replayed"] == "true"
    assert store.client().hexists(store.key(open_sale.id, "purchases"), user_id)


def test_a_refused_connection_is_unavailable(static_files: None, django_db_setup: None):
    with WebServer({"PORT": str(free_port()), "REDIS_URL": f"redis://127.0.0.1:{free_port()}"}) as server:
        response = buy(server.url, "ada")
        health = httpx.get(f"{server.url}/health")
        page = httpx.get(f"{server.url}/")

    assert_503(response, "unavailable")
    assert (health.status_code, health.json()["redis"]["status"]) == (503, "unavailable")
    for name in ("redis", "writer"):
        assert health.json()[name]["reason"]
        assert health.json()[name]["latencyMs"] >= 0
    assert health.json()["database"]["status"] == "ok"
    assert page.status_code == 503
    assert "Nothing was bought" in page.text


def test_an_empty_redis_is_unavailable_and_not_a_missing_sale(
    http: httpx.Client, open_sale: Sale, seen: Callable[[], None]
):
    store.client().flushall()
    seen()

    assert_503(http.post("/api/sale/purchase", json={"userId": "ada"}), "unavailable")
    assert_503(http.get("/api/sale/status"), "unavailable")
    assert http.get("/health").status_code == 503


def test_a_redis_that_hangs_is_answered_in_time(
    own_server: WebServer, redis_server: RedisServer, open_sale: Sale, seen: Callable[[], None]
):
    """Attempts that arrive all through the time in which Redis stands still: it goes on when all are answered."""
    seen()
    answers: list[httpx.Response] = []

    def attempt(number: int) -> None:
        time.sleep(number * 0.05)
        answers.append(buy(own_server.url, f"shopper-{number}", f"key-{number}"))

    threads = [threading.Thread(target=attempt, args=(number,)) for number in range(40)]
    httpx.get(f"{own_server.url}/api/sale/status")
    redis_server.signal(signal.SIGSTOP)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        redis_server.signal(signal.SIGCONT)

    assert len(answers) == len(threads)
    assert {response.status_code for response in answers} == {503}
    assert {response.json()["code"] for response in answers} <= {"unknown", "unavailable"}
    settled = [settle(own_server.url, f"shopper-{number}", f"key-{number}").json()["code"] for number in range(40)]
    assert settled.count("purchased") == 10
    assert store.client().hlen(store.key(open_sale.id, "purchases")) == 10


def test_a_redis_that_returns_is_used_again(
    transactional_db: None, own_server: WebServer, redis_server: RedisServer, open_sale: Sale, seen: Callable[[], None]
):
    seen()
    assert settle(own_server.url, "before").status_code == 200

    redis_server.kill()
    down = buy(own_server.url, "ada", "key")
    redis_server.start()
    up = settle(own_server.url, "ada", "key")
    before = settle(own_server.url, "before")

    assert_503(down, "unavailable")
    assert up.json()["code"] == "purchased"
    assert before.json()["code"] == "already_purchased"
