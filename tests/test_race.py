"""The race for the last units: 64 shoppers at once over two web workers, and a control that the harness sees a race."""

import collections
import threading
import time
from collections.abc import Callable, Iterator

import httpx
import pytest

from sales import store
from sales.audit import audit
from sales.models import Sale
from sales.orders import consumer_name, run_once
from tests.conftest import MakeSale
from tests.servers import WebServer, free_port

SHOPPERS = 64
STOCK = 10
CONTROL_ROUNDS = 100


def at_once(attempt: Callable[[int], None], count: int = SHOPPERS) -> None:
    """Let `count` threads make their attempt at the same moment."""
    barrier = threading.Barrier(count)

    def run(number: int) -> None:
        barrier.wait()
        attempt(number)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def race(server: WebServer, path: str) -> list[tuple[str, dict]]:
    """Let 64 connections, spread over both workers, buy at once; return each shopper with the answer.

    Every shopper has two connections, and each of them asks twice.
    """
    connections = spread(server)
    answers: list[tuple[str, dict]] = []

    def attempt(number: int) -> None:
        user_id = f"shopper-{number // 2}"
        for _ in range(2):
            answers.append((user_id, connections[number].post(path, json={"userId": user_id}).json()))

    at_once(attempt)
    for connection in connections:
        connection.close()
    return answers


def spread(server: WebServer) -> list[httpx.Client]:
    """Return 64 connections, of which each of the two workers has a quarter at least, however busy one of them is."""
    of_worker: dict[int, list[httpx.Client]] = collections.defaultdict(list)
    deadline = time.monotonic() + 120
    while sum(map(len, of_worker.values())) < SHOPPERS:
        assert time.monotonic() < deadline, "one worker takes all connections"
        connection = httpx.Client(base_url=server.url)
        found = of_worker[connection.get("/health/live").json()["pid"]]
        if len(found) < SHOPPERS * 3 // 4:
            found.append(connection)
        else:
            connection.close()
    return [connection for found in of_worker.values() for connection in found]


def test_64_shoppers_over_two_workers_get_what_there_is(
    server: WebServer, make_sale: MakeSale, seen: Callable[[], None]
):
    sale = make_sale(stock=STOCK)
    seen()

    answers = race(server, f"/api/sales/{sale.slug}/purchase")

    outcomes = collections.Counter(body["code"] for _, body in answers)
    winners = [user_id for user_id, body in answers if body["code"] == "purchased"]
    assert outcomes["purchased"] == len(set(winners)) == STOCK
    assert set(outcomes) == {"purchased", "already_purchased", "sold_out"}
    # Each of the ten asked four times and won once; the 22 others were refused four times.
    assert outcomes["already_purchased"] == 3 * STOCK
    assert_sold(sale, STOCK)


def assert_sold(sale: Sale, units: int) -> None:
    while run_once(consumer_name()):
        pass
    result = audit(sale)
    assert result.drift == {}
    assert (result.purchases, result.remaining_stock) == (units, sale.total_stock - units)


@pytest.fixture
def non_atomic_server(server: WebServer) -> Iterator[WebServer]:
    with WebServer({"PORT": str(free_port())}, "tests.broken_views:application") as twin:
        yield twin


def test_control_a_purchase_in_several_steps_oversells(
    non_atomic_server: WebServer, make_sale: MakeSale, seen: Callable[[], None]
):
    """The same race, over a twin of the purchase that reads, then decides, then writes."""
    for number in range(CONTROL_ROUNDS):
        sale = make_sale(stock=STOCK, name=f"control {number}")
        seen()

        answers = race(non_atomic_server, f"/non-atomic/{sale.slug}")

        told = sum(body["code"] == "purchased" for _, body in answers)
        if told > STOCK or int(store.client().get(store.key(sale.id, "stock"))) < 0:
            return
    pytest.fail("the harness did not see a race that is there")
