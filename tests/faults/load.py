"""Shoppers who keep buying, and every answer that they got."""

import http.client
import json
import random
import threading
import time
from typing import NamedTuple

# Far more than the product lets anybody wait: a busy machine may be slow, and only what never answers is a defect.
TIMEOUT_SECONDS = 60.0
# A bound on what one round may ask of the machine.
MOST_ANSWERS = 60_000


class Answer(NamedTuple):
    """One attempt and what came of it. `code` is the answer's word, `unknown` when the connection broke (`status` is
    then 0); `began` is a time of `time.monotonic()`."""

    user_id: str
    key: str
    code: str
    status: int
    order_id: str
    began: float
    seconds: float


class Client:
    """One shopper's browser: a connection that is kept, and opened again when it broke."""

    def __init__(self, port: int, slug: str):
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_SECONDS)
        self._path = f"/api/sales/{slug}"

    def buy(self, user_id: str, key: str) -> Answer:
        headers = {"Content-Type": "application/json", "Idempotency-Key": key}
        began = time.monotonic()
        status, body = self._ask("POST", f"{self._path}/purchase", json.dumps({"userId": user_id}), headers)
        seconds = time.monotonic() - began
        return Answer(user_id, key, body.get("code", "no code"), status, body.get("orderId") or "", began, seconds)

    def sale_is_open(self) -> bool:
        return self._ask("GET", f"{self._path}/status")[0] == 200

    def close(self) -> None:
        self._connection.close()

    def _ask(self, method: str, path: str, body: str = "", headers: dict[str, str] | None = None) -> tuple[int, dict]:
        try:
            self._connection.request(method, path, body, headers or {})
            response = self._connection.getresponse()
            return response.status, json.loads(response.read())
        except (OSError, http.client.HTTPException):
            self._connection.close()
            return 0, {"code": "unknown"}
        except ValueError:
            return response.status, {"code": "not JSON"}


class Load:
    """Threads of shoppers. Most attempts are by a new shopper; some repeat an earlier one, with the same key or
    another, and some are by the few whom all threads share. Each thread has shoppers of its own, by its number."""

    def __init__(self, port: int, slug: str, rng: random.Random, threads: int = 10, first_thread: int = 0):
        self.answers: list[Answer] = []
        self.port, self.slug = port, slug
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._shop, args=(number, random.Random(rng.random())), daemon=True)
            for number in range(first_thread, first_thread + threads)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(TIMEOUT_SECONDS + 5)

    def client(self) -> Client:
        return Client(self.port, self.slug)

    def since(self, began: float) -> list[Answer]:
        """Return the answers to attempts that began at that time or later."""
        return [answer for answer in self.answers if answer.began >= began]

    def _shop(self, thread: int, rng: random.Random) -> None:
        client, made = self.client(), [(f"shopper-{thread}-first@example.com", f"{thread}-first")]
        while not self._stopping.is_set() and len(self.answers) < MOST_ANSWERS:
            attempt = _next_attempt(rng, thread, made)
            made.append(attempt)
            answer = client.buy(*attempt)
            self.answers.append(answer)
            if answer.code == "unknown" and rng.random() < 0.3:
                self.answers.append(client.buy(*attempt))
            self._stopping.wait(rng.uniform(0, 0.02) if answer.status in (200, 409) else 0.05)
        client.close()


def _next_attempt(rng: random.Random, thread: int, made: list[tuple[str, str]]) -> tuple[str, str]:
    kind, number = rng.random(), len(made)
    if kind < 0.1:
        shared = rng.randrange(30)
        return f"shared-{shared}@example.com", f"shared-{shared}-{rng.randrange(3)}"
    if kind < 0.2:
        return rng.choice(made)
    if kind < 0.25:
        return rng.choice(made)[0], f"{thread}-{number}"
    return f"shopper-{thread}-{number}@example.com", f"{thread}-{number}"
