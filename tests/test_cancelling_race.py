"""Orders are cancelled while a crowd buys: each unit comes back once, and a control that the harness sees when not."""

import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from django.contrib.auth.models import User
from django.db import connection

from sales import cancelling, store
from sales.audit import audit
from sales.models import Order, Sale
from sales.orders import consumer_name, run_once
from tests.conftest import MakeSale
from tests.servers import WebServer

# How soon they meet depends on what else the machine does.
pytestmark = [pytest.mark.long, pytest.mark.django_db(transaction=True)]

STOCK = 40
BUYERS = 4
# Fewer than attempts, so that many come back after their order was cancelled.
NAMES = 120
CANCELLERS = 2
# Each unit was cancelled and sold again by then.
CANCELLATIONS = 2 * STOCK
ENDS_WITHIN_SECONDS = 600.0
# Lets the others at SQLite, whose lock goes to whoever asks at the right moment.
PAUSE_SECONDS = 0.01
CONTROL_ROUNDS = 20


class Race:
    """Shoppers buy, operators cancel, and an order writer writes, until so many orders are cancelled."""

    def __init__(self, server: WebServer, sale: Sale):
        self._url, self._sale = server.url, sale
        self._deadline = 0.0
        self.codes: set[str] = set()
        self.sold: set[str] = set()
        self.cancelled: set[str] = set()
        self.barred: set[str] = set()

    def run(self) -> None:
        users = [User.objects.create_superuser(f"operator {number}") for number in range(CANCELLERS)]
        self._deadline = time.monotonic() + ENDS_WITHIN_SECONDS
        with ThreadPoolExecutor(BUYERS + CANCELLERS + 1) as threads:
            done = [threads.submit(self._shop, number) for number in range(BUYERS)]
            done += [threads.submit(self._cancel, user) for user in users]
            done += [threads.submit(self._write)]
        for thread in done:
            thread.result()
        User.objects.all().delete()

    def _is_on(self) -> bool:
        return len(self.cancelled) < CANCELLATIONS and time.monotonic() < self._deadline

    def _shop(self, number: int) -> None:
        rng = random.Random(number)
        with httpx.Client(base_url=self._url) as client:
            while self._is_on():
                attempt = {"userId": f"shopper-{rng.randrange(NAMES)}"}
                body = client.post(f"/api/sales/{self._sale.slug}/purchase", json=attempt).json()
                self.codes.add(body["code"])
                if body["code"] == "purchased":
                    self.sold.add(body["orderId"])

    def _cancel(self, user: User) -> None:
        rng = random.Random(user.pk)
        while self._is_on():
            order = self._sale.valid_orders().order_by("?").first()
            if order is None:
                continue
            may_buy_again = rng.random() < 0.9
            try:
                cancelling.cancel(order, user, may_buy_again=may_buy_again)
            except cancelling.AlreadyCancelled:
                continue
            cancelling.enforce(order.sale)
            assert order.order_id not in self.cancelled
            self.cancelled.add(order.order_id)
            if not may_buy_again:
                self.barred.add(order.user_id)
        connection.close()

    def _write(self) -> None:
        while self._is_on():
            run_once("the race's writer")
            time.sleep(PAUSE_SECONDS)
        connection.close()


def held(sale: Sale) -> dict[str, str]:
    purchases = store.client().hgetall(store.key(sale.id, "purchases"))
    return {user_id.decode(): purchase.decode().split(" ")[0] for user_id, purchase in purchases.items()}


def free(sale: Sale) -> int:
    return int(store.client().get(store.key(sale.id, "stock")))


def test_each_cancelled_unit_is_sold_again_once(server: WebServer, make_sale: MakeSale, seen: Callable[[], None]):
    sale = make_sale(stock=STOCK)
    seen()
    race = Race(server, sale)

    race.run()

    while run_once(consumer_name()):
        pass
    purchases = held(sale)
    assert len(race.cancelled) >= CANCELLATIONS, "too few were cancelled for this to be a race"
    assert {"purchased", "already_purchased", "order_cancelled"} <= race.codes
    assert set(purchases.values()) == race.sold - race.cancelled
    assert free(sale) + len(purchases) == STOCK
    assert race.barred & set(purchases) == set()
    assert set(Order.objects.filter(cancelled_at=None).values_list("order_id", flat=True)) == set(purchases.values())
    assert audit(sale).drift == {}


def take_out_in_steps(name: str, keys: Sequence[str], args: Sequence[str]) -> tuple[bytes, int]:
    """A twin of the script that reads, then decides, then writes."""
    client, (_, stock, purchases, *_), freed = store.client(), keys, 0
    for user_id, order_id in zip(args[1::3], args[2::3], strict=True):
        if (client.hget(purchases, user_id) or b"").decode().split(" ")[0] == order_id:
            units = int(client.get(stock))
            time.sleep(PAUSE_SECONDS)
            client.hdel(purchases, user_id)
            client.set(stock, units + 1)
            freed += 1
    return b"cancelled", freed


def test_control_a_cancellation_in_several_steps_loses_count(
    server: WebServer, make_sale: MakeSale, seen: Callable[[], None], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(store, "run_script_blocking", take_out_in_steps_of_cancelling(store.run_script_blocking))
    for number in range(CONTROL_ROUNDS):
        sale = make_sale(stock=STOCK, name=f"control {number}")
        seen()

        Race(server, sale).run()

        if free(sale) + len(held(sale)) != STOCK:
            return
    pytest.fail("the harness did not see a race that is there")


def take_out_in_steps_of_cancelling(run_script: Callable[..., object]) -> Callable[..., object]:
    """Return what runs the twin in the script's place, and every other script as it is."""
    return lambda name, keys, args: (take_out_in_steps if name == "cancel" else run_script)(name, keys, args)
