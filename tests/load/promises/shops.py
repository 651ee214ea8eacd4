"""The servers on which rounds are played, and what shoppers, operators and pages do there."""

import itertools
import json
import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

import httpx

from tests.faults.load import Answer, Client
from tests.faults.stage import SLUG, Plan, Stage
from tests.forms import posted_to
from tests.load.promises.promise import Missing
from tests.redis_servers import wait_until

STOCK = 10_000_000
GIVEN_UP_AFTER_SECONDS = 120.0
ATTEMPT_EVERY_SECONDS = 0.05
_numbers = itertools.count(1)

_SIGN_IN = """
from django.contrib.auth.models import User
from django.test import Client
client = Client()
client.force_login(User.objects.create_superuser("olga"))
print(client.cookies["sessionid"].value)
"""


def new_shopper() -> str:
    return f"shopper-{next(_numbers)}@example.com"


def seconds_until(is_so: Callable[[], object], since: float | None = None) -> float:
    """Return the seconds from `since`, or now, until it is so. Raises TimeoutError when that takes too long."""
    began = time.monotonic() if since is None else since
    while not is_so():
        if time.monotonic() - began > GIVEN_UP_AFTER_SECONDS:
            raise TimeoutError(f"not within {GIVEN_UP_AFTER_SECONDS:.0f} s")
        time.sleep(0.002)
    return time.monotonic() - began


class Operator:
    """Somebody who has signed in to the admin of a stage."""

    def __init__(self, stage: Stage):
        self.session = stage.manage("shell", "--no-imports", "-c", _SIGN_IN).strip()
        cookies = {"sessionid": self.session}
        self._http = httpx.Client(base_url=f"http://127.0.0.1:{stage.port}", cookies=cookies, timeout=30)

    def take(self, sale_id: int, step: str, **values: str) -> float:
        """Take a step, as from the sale's page, and return when it was answered."""
        return self.send(f"/admin/sales/sale/{sale_id}/{step}-sale/", **values)

    def send(self, path: str, **values: str) -> float:
        """Send the form of a page with these values, and return when it was answered."""
        form = posted_to(self._http.get(path, params=values).text, path)
        answer = self._http.post(form.action, data={**form.fields, **values}, headers={"Sec-Fetch-Site": "same-origin"})
        answered = time.monotonic()
        assert answer.status_code == 302, f"{path} is answered {answer.status_code}"
        return answered


class Shop(Stage):
    """A stage with an operator, further sales, and connections to each web worker."""

    @cached_property
    def operator(self) -> Operator:
        return Operator(self)

    @cached_property
    def _sale_ids(self) -> dict[str, int]:
        return {SLUG: self.sale_id}

    def sale(self, slug: str, *words: str, stock: int = STOCK, starts_in: float = -3600) -> int:
        """Return the ID of a sale, which is made when it is first asked for."""
        if slug not in self._sale_ids:
            starts_at = datetime.now(UTC) + timedelta(seconds=starts_in)
            named = ("--name", slug, "--slug", slug, "--stock", str(stock), "--starts", starts_at.isoformat())
            self._sale_ids[slug] = json.loads(self.manage("create_sale", *named, *words))["id"]
            wait_until(lambda: self.is_open(slug), f"{slug} is shown")
        return self._sale_ids[slug]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def buy(self, slug: str = SLUG, user_id: str = "") -> Answer:
        """Buy as somebody new, unless told as whom."""
        client = Client(self.port, slug)
        try:
            return client.buy(user_id or new_shopper(), "")
        finally:
            client.close()

    def sell(self, slug: str = SLUG, user_id: str = "") -> Answer:
        """Buy likewise. Raises AssertionError when nothing was bought."""
        answer = self.buy(slug, user_id)
        assert answer.code == "purchased", answer
        return answer

    def is_open(self, slug: str = SLUG) -> bool:
        client = Client(self.port, slug)
        try:
            return client.sale_is_open()
        finally:
            client.close()

    def sells_after(self) -> float:
        """Return the seconds until each worker sells."""

        def buys(worker: httpx.Client) -> bool:
            return worker.post(f"/api/sales/{SLUG}/purchase", json={"userId": new_shopper()}).is_success

        with self.each_worker() as workers:
            return seconds_until(lambda: set(map(buys, workers)) == {True})

    @contextmanager
    def attempts(self, seconds: float) -> Iterator[list[Answer]]:
        """Have new shoppers press one after the other for so long; all have their answers when this is left."""
        numbers = range(round(seconds / ATTEMPT_EVERY_SECONDS))
        answers: list[Answer] = []

        def press(number: int) -> None:
            time.sleep(number * ATTEMPT_EVERY_SECONDS)
            answers.append(self.buy())

        with ThreadPoolExecutor(len(numbers)) as threads:
            pressed = threads.map(press, numbers)
            yield answers
            list(pressed)

    @contextmanager
    def each_worker(self) -> Iterator[list[httpx.Client]]:
        """Connect to each of the two web workers."""
        found: dict[int, httpx.Client] = {}
        with ExitStack() as stack:
            while len(found) < 2:
                client = stack.enter_context(httpx.Client(base_url=self.url, timeout=30))
                found.setdefault(client.get("/health/live").json()["pid"], client)
            yield list(found.values())

    @contextmanager
    def pages(self, slug: str, count: int = 10) -> Iterator[list["Page"]]:
        """Open pages that listen to a sale's events, and have heard the first."""
        with ExitStack() as stack:
            url = f"{self.url}/api/sales/{slug}/events"
            pages = [Page(stack.enter_context(httpx.stream("GET", url, timeout=30))) for _ in range(count)]
            yield pages


class Page:
    """A page of a sale that listens to its events."""

    def __init__(self, response: httpx.Response):
        self._lines = response.iter_lines()
        self.hears()

    def hears(self, *statuses: str) -> None:
        """Return once it hears one of these statuses, or anything where there are none."""
        for line in self._lines:
            if line.startswith("data: ") and (not statuses or json.loads(line[6:]).get("status") in statuses):
                return
        raise AssertionError(f"the stream ended, and nothing was heard of {statuses}")


def status(client: httpx.Client, slug: str = SLUG) -> dict[str, Any]:
    """Return a sale's status, as one worker tells it."""
    return client.get(f"/api/sales/{slug}/status").json()


@contextmanager
def _shop(plan: Plan) -> Iterator[Shop]:
    if reason := plan.lacks():
        raise Missing(reason)
    shop = Shop(plan, STOCK, random.Random(1))
    with shop:
        yield shop


@contextmanager
def plain() -> Iterator[Shop]:
    """One Redis, two web workers, an order writer, and SQLite."""
    with _shop(Plan()) as shop:
        yield shop


@contextmanager
def proxied() -> Iterator[Shop]:
    """The same, with a way to Redis that can lose answers."""
    with _shop(Plan(proxied=True)) as shop:
        yield shop


@contextmanager
def on_postgresql() -> Iterator[Shop]:
    """The same, on PostgreSQL."""
    with _shop(Plan(database="postgresql")) as shop:
        yield shop
