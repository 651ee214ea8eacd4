"""The race for the last units: 64 shoppers at once over two web workers, and a control that the harness sees a race."""

import collections
import threading
import time
from collections.abc import Callable

import httpx

from sales import store
from sales.audit import audit
from sales.models import Sale
from sales.orders import consumer_name, run_once
from tests.conftest import MakeSale
from tests.servers import WebServer

SHOPPERS = 64
STOCK = 10
CONTROL_ROUNDS = 20


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


def test_64_shoppers_over_two_workers_get_what_there_is(
    server: WebServer, make_sale: MakeSale, seen: Callable[[], None]
):
    sale = make_sale(stock=STOCK)
    seen()
    connections = [httpx.Client(base_url=server.url) for _ in range(SHOPPERS)]
    workers = {connection.get("/health/live").json()["pid"] for connection in connections}
    answers: list[tuple[str, dict]] = []

    def attempt(number: int) -> None:
        # Every shopper asks twice, and two connections ask for the same shopper.
        user_id = f"shopper-{number // 2}"
        for _ in range(2):
            response = connections[number].post("/api/sale/purchase", json={"userId": user_id})
            answers.append((user_id, response.json()))

    at_once(attempt)
    for connection in connections:
        connection.close()

    outcomes = collections.Counter(body["code"] for _, body in answers)
    winners = [user_id for user_id, body in answers if body["code"] == "purchased"]
    assert len(workers) == 2
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


def test_control_a_purchase_in_several_steps_oversells(make_sale: MakeSale):
    """The same harness on a twin of the script that reads, then decides, then writes."""
    oversold = 0
    for _ in range(CONTROL_ROUNDS):
        sale = make_sale(stock=STOCK, name=f"control {time.monotonic_ns()}")

        at_once(lambda number, sale=sale: non_atomic_purchase(sale, f"shopper-{number}"))  # type: ignore[misc]

        oversold = max(oversold, store.client().hlen(store.key(sale.id, "purchases")) - STOCK)
        if oversold:
            break

    assert oversold > 0


def non_atomic_purchase(sale: Sale, user_id: str) -> None:
    client, purchases, stock = store.client(), store.key(sale.id, "purchases"), store.key(sale.id, "stock")
    if client.hexists(purchases, user_id) or int(client.get(stock)) <= 0:
        return
    client.hset(purchases, user_id, "order")
    client.decr(stock)
