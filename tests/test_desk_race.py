"""Operators against a crowd: whatever they do while shoppers buy, nothing is sold twice and nothing drifts."""

import collections
import threading
import time
from collections.abc import Callable

import httpx
import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client

from sales import store
from sales.audit import audit
from sales.models import Sale
from sales.orders import consumer_name, run_once
from tests.conftest import MakeSale
from tests.servers import WebServer

pytestmark = [pytest.mark.usefixtures("static_files"), pytest.mark.django_db(transaction=True)]

STOCK = 200
BUYERS = 4
# Of each operator, at least; and until the crowd has met every state.
ROUNDS = 2
STATES = {"purchased", "paused", "ended"}
MET_WITHIN_SECONDS = 600.0
ROUND = ("pause", "add-stock", "resume", "end", "extend", "add-stock")
VALUES = {"add-stock": {"units": 3}, "extend": {"minutes": 5}}
ADDED = "is given more stock"


class Crowd:
    """Shoppers who ask without a break, and what they were told."""

    def __init__(self, url: str, path: str):
        self._url, self._path = url, path
        self._is_over = threading.Event()
        self.outcomes: collections.Counter[str] = collections.Counter()
        self.winners: list[str] = []
        self._threads = [threading.Thread(target=self._shop, args=(number,)) for number in range(BUYERS)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join()

    def _shop(self, number: int) -> None:
        with httpx.Client(base_url=self._url) as client:
            attempt = 0
            while not self._is_over.is_set():
                user_id = f"shopper-{number}-{attempt}"
                code = client.post(self._path, json={"userId": user_id}).json()["code"]
                self.outcomes[code] += 1
                if code == "purchased":
                    self.winners.append(user_id)
                attempt += 1


def operate(name: str, sale: Sale, crowd: Crowd, added: list[int]) -> None:
    """Take the steps of a round, again and again; note the units that were added."""
    client = Client()
    client.force_login(User.objects.create_superuser(name))
    deadline, rounds = time.monotonic() + MET_WITHIN_SECONDS, 0
    while (rounds < ROUNDS or not crowd.outcomes.keys() >= STATES) and time.monotonic() < deadline:
        for step in ROUND:
            values = VALUES.get(step, {})
            page = client.post(f"/admin/sales/sale/{sale.id}/{step}-sale/", values, follow=True).content.decode()
            if ADDED in page:
                added.append(values["units"])
        rounds += 1
    connection.close()


def test_operators_changes_during_a_rush_never_oversell(
    server: WebServer, make_sale: MakeSale, seen: Callable[[], None]
):
    sale = make_sale(stock=STOCK)
    seen()
    crowd = Crowd(server.url, f"/api/sales/{sale.slug}/purchase")
    added: list[int] = []
    operators = [threading.Thread(target=operate, args=(name, sale, crowd, added)) for name in ("olga", "otto")]

    crowd.start()
    for operator in operators:
        operator.start()
    for operator in operators:
        operator.join()
    crowd.stop()

    sale.refresh_from_db()
    sold = store.client().hlen(store.key(sale.id, "purchases"))
    assert sale.total_stock == STOCK + sum(added)
    assert sold == len(crowd.winners) <= sale.total_stock
    assert added
    # What a busy machine cannot decide in time is unavailable; that moves nothing.
    assert STATES <= set(crowd.outcomes) <= {*STATES, "sold_out", "unavailable"}
    while run_once(consumer_name()):
        pass
    result = audit(sale)
    assert result.drift == {}
    assert (result.purchases, result.remaining_stock) == (sold, sale.total_stock - sold)
