"""Somebody at the sale, for locust: a connection, what may be asked, and a record of every answer."""

import random
import select
import time
from collections.abc import Callable
from typing import Any

import orjson
from gevent.event import Event
from gevent.monkey import get_original
from geventhttpclient.connectionpool import ConnectionPool
from locust import FastHttpUser
from locust.exception import StopUser

from tests.load import contract
from tests.load.answers import MOST_ANSWERS, Answer, Writer
from tests.load.contract import JSON, Check, Reply
from tests.load.profiles import PROFILES, Profile

# Longer than any answer should take, so that a slow one is seen as that.
TIMEOUT_SECONDS = 15.0
MOST_REPEATS = 12


class Play:
    """What all visitors of this process know of the run."""

    profile: Profile = PROFILES["rush"]
    answers: Writer | None = None
    over = Event()


def pause(least_seconds: float, most_seconds: float = 0.0) -> None:
    """Wait for so long, or a random time up to `most_seconds`. Ends the visit when the run is over meanwhile."""
    if Play.over.wait(random.uniform(least_seconds, max(least_seconds, most_seconds))):
        raise StopUser


class Visitor(FastHttpUser):
    """Somebody with one connection, who keeps what they were told."""

    abstract = True
    concurrency = 1
    connection_timeout = network_timeout = TIMEOUT_SECONDS
    who = ""

    def on_start(self) -> None:
        self.etags: dict[str, str] = {}
        pause(0, 1)  # locust sends all arrivals of a second at once

    def ask(
        self,
        asked: str,
        method: str,
        path: str,
        check: Check,
        *,
        user_id: str = "",
        key: str = "",
        headers: dict[str, str] | None = None,
        body: Any = b"",
    ) -> Reply:
        """Send one request, keep what came of it, and return the answer. One that breaks the contract is a failure."""
        if Play.over.is_set() or (Play.answers and Play.answers.written >= MOST_ANSWERS):
            raise StopUser
        reply, code, wrong, began = Reply(), "cut", "", time.monotonic()
        try:
            with self.client.request(
                method, path, name=f"{asked}, {self.who}s", headers=headers, data=body, catch_response=True
            ) as response:
                reply = Reply(response.status_code, response.headers, response.content or b"")
                code, wrong = _code(asked, reply), check(reply)
                response.failure(wrong) if wrong else response.success()
        finally:
            seconds = time.monotonic() - began
            self._keep(Answer(self.who, asked, reply.status, code, user_id, key, began, seconds, wrong), reply)
        return reply

    def look(self, asked: str, path: str, check: Check) -> Reply:
        """Ask for what changes rarely, with the ETag of what is known."""
        known = {"If-None-Match": self.etags[path]} if path in self.etags else {}
        reply = self.ask(asked, "GET", path, check, headers=known)
        if etag := reply.headers.get("etag"):
            self.etags[path] = etag
        return reply

    def attempt(self, user_id: str, key: str = "", check: Check = contract.purchase, spelling: str = "") -> Reply:
        """Try to buy as `user_id`, which may be spelled in another way that means the same."""
        headers = {**JSON, "Idempotency-Key": key} if key else JSON
        body = orjson.dumps({"userId": spelling or user_id})
        path = "/api/sale/purchase"
        return self.ask("purchase", "POST", path, check, user_id=user_id, key=key, headers=headers, body=body)

    def _keep(self, answer: Answer, reply: Reply) -> None:
        if Play.answers:
            order_id, purchase_time = reply.body.get("orderId") or "", reply.body.get("purchaseTime") or ""
            is_replay = contract.is_replay(reply)
            Play.answers.add(answer._replace(order_id=order_id, purchase_time=purchase_time, is_replay=is_replay))


def patiently(request: Callable[[], Reply]) -> Reply:
    """Repeat `request` after as long as its answer says, or when there was none; but not for ever."""
    for _ in range(MOST_REPEATS):
        reply = request()
        if reply.status not in (0, 429, 503) and reply.code != "not_started":
            break
        wait_seconds = reply.retry_after_seconds or 0.2
        pause(wait_seconds, wait_seconds * 1.5)
    return reply


def _code(asked: str, reply: Reply) -> str:
    if asked == "user" and reply.status == 200:
        return "has_purchased" if reply.body.get("hasPurchased") else "has_not_purchased"
    return str(reply.body.get("status", "")) if asked == "status" and reply.status == 200 else reply.code


def _is_open(pool: ConnectionPool, connection: Any) -> bool:
    """Return whether the server has left an idle connection open.

    geventhttpclient asks select(2), which knows no descriptor above 1023: it would open a new connection for every
    request of every visitor after the thousandth.
    """
    poll = get_original("select", "poll")()
    try:
        poll.register(connection.fileno(), select.POLLIN)
    except (AttributeError, OSError, ValueError):
        return False
    return not poll.poll(0)


ConnectionPool._is_socket_alive = _is_open  # type: ignore[method-assign, assignment]
