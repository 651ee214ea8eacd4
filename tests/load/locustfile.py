"""A crowd for locust: shoppers who behave, bots who do not, and the shape in which they come.

`make load` starts it. By hand, against any server: `locust -f tests/load/locustfile.py --crowd rush --host URL`.
"""

import itertools
import os
import random
import secrets
import time
from argparse import Namespace
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import gevent
from locust import LoadTestShape, between, events, task
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from locust.exception import StopUser

from tests.load import contract
from tests.load.answers import Writer, path_in
from tests.load.contract import Reply
from tests.load.nonsense import NONSENSE
from tests.load.profiles import PROFILES, arrival_seconds
from tests.load.visitor import Play, Visitor, patiently, pause

FLUSH_EVERY_SECONDS = 0.5
# Names of one run differ from those of any other: it may be played against a sale that has sold to an earlier one.
RUN = secrets.token_hex(3)
# Identities that all bots share, and press with at once.
SHARED_BY_BOTS = [f"ring-{RUN}-{number}@example.com" for number in range(10)]

_numbers = itertools.count(1)


@events.init_command_line_parser.add_listener
def add_options(parser: LocustArgumentParser) -> None:
    parser.add_argument("--crowd", choices=list(PROFILES), default="rush", help="How the crowd comes")
    parser.add_argument("--answers", default="", metavar="<directory>", help="Where to keep every answer, if anywhere")


@events.init.add_listener
def prepare(environment: Environment, **_: Any) -> None:
    options = environment.parsed_options or Namespace(crowd="rush", answers="")
    Play.profile = PROFILES[options.crowd]
    Bot.weight = max(1, round(Play.profile.bots * 100))
    Shopper.weight = 100 - Bot.weight
    if options.answers:
        Play.answers = Writer(path_in(Path(options.answers), os.getpid()))
        gevent.spawn(_keep_flushing, Play.answers)


def _keep_flushing(answers: Writer) -> None:
    while True:
        answers.flush()
        gevent.sleep(FLUSH_EVERY_SECONDS)


@events.test_start.add_listener
def begin(**_: Any) -> None:
    Play.over.clear()


@events.test_stopping.add_listener
def finish(**_: Any) -> None:
    """Wake everybody who waits, and send them home; what is under way is still answered."""
    Play.over.set()


@events.quitting.add_listener
def keep_the_rest(**_: Any) -> None:
    if Play.answers:
        Play.answers.flush()


class Crowd(LoadTestShape):
    """All arrive within the profile's time. It is over when the time is, or when the last shopper has left."""

    use_common_options = True
    have_come = False

    def tick(self) -> tuple[int, float] | None:
        assert self.runner
        options = self.runner.environment.parsed_options
        seconds = (options and options.run_time) or Play.profile.seconds
        users = (options and options.num_users) or Play.profile.users
        arrival = arrival_seconds(Play.profile, seconds)
        shoppers = self.runner.user_classes_count.get(Shopper.__name__, 0)
        self.have_come = self.have_come or shoppers > 0
        have_left = self.have_come and not shoppers and self.get_run_time() > arrival + 2
        return None if have_left or self.get_run_time() > seconds else (users, users / arrival)


class Shopper(Visitor):
    """Somebody who behaves: looks, waits, polls as told, presses at the start, and repeats with the same key."""

    who = "shopper"

    def on_start(self) -> None:
        self.status: dict[str, Any] = {}
        self.server_ahead_seconds = 0.0
        super().on_start()

    @task
    def visit(self) -> None:
        """Look, wait for the start, buy, see whether it is true, and leave; or come again as somebody else."""
        user_id = f"shopper-{RUN}-{os.getpid()}-{next(_numbers)}@example.com"
        key = secrets.token_hex(8)
        self.look("page", "/", contract.page)
        self.wait_for_start()
        pause(0, Play.profile.press_within_seconds)
        reply = patiently(lambda: self.attempt(user_id, key))
        pause(0.5, Play.profile.reads_seconds)
        if reply.bought and random.random() < Play.profile.replays:
            self.press_again(user_id, key, reply)
        self.look("page", "/", contract.page)
        path = f"/api/sale/user/{quote(user_id)}"
        patiently(lambda: self.ask("user", "GET", path, contract.user, user_id=user_id))
        if not Play.profile.stays:
            raise StopUser
        pause(1, 3)

    def wait_for_start(self) -> None:
        """Return at the start by the server's clock; until then look at the status as often as it says."""
        while True:
            patiently(self.look_at_status)
            wait_seconds = self.seconds_to_start()
            poll_seconds = self.status.get("pollAfterMs", 2000) / 1000 * random.uniform(1, 1.2)
            pause(max(0.0, min(wait_seconds, poll_seconds)))
            if wait_seconds <= poll_seconds:
                return

    def look_at_status(self) -> Reply:
        """Look, and remember what was seen: a 304 says that it is still so."""
        began = time.monotonic()
        reply = self.look("status", "/api/sale/status", contract.status)
        if reply.status == 200 and not contract.status(reply):
            self.status = reply.body
            midway = (began + time.monotonic()) / 2
            self.server_ahead_seconds = _seconds(reply.body["serverTime"]) - midway
        return reply

    def seconds_to_start(self) -> float:
        """Return how long the server's clock has to go; 0 or less once the sale has started."""
        if not self.status:
            return 0.0
        return _seconds(self.status["startTime"]) - self.server_ahead_seconds - time.monotonic()

    def press_again(self, user_id: str, key: str, first: Reply) -> None:
        """Do what a double click does, and what a second window does."""
        for _ in range(random.randint(1, 3)):
            self.attempt(user_id, key, contract.replay_of(first))
            pause(0.1, 1)
        self.attempt(user_id, secrets.token_hex(8), contract.repeat_of(first))


class Bot(Visitor):
    """Somebody who does not: presses without waiting, under many names and spellings, and sends what makes no sense.

    A few requests a second each: it is the server that is measured, not locust.
    """

    who = "bot"
    wait_time = between(0.2, 0.5)

    def on_start(self) -> None:
        name = f"bot-{RUN}-{os.getpid()}-{next(_numbers)}"
        self.user_ids = [f"{name}-{number}@example.com" for number in range(3)] + random.sample(SHARED_BY_BOTS, 2)
        self.keys = [f"{name}-{number}" for number in range(2)]
        super().on_start()

    @task(7)
    def grab(self) -> None:
        user_id = random.choice(self.user_ids)
        spelling = random.choice((user_id, user_id.upper(), f" {user_id}\t", user_id.replace("e", "ｅ")))
        self.attempt(user_id, random.choice(("", *self.keys, secrets.token_hex(8))), spelling=spelling)

    @task(1)
    def stare(self) -> None:
        self.ask("status", "GET", "/api/sale/status", contract.status)

    @task(2)
    def send_nonsense(self) -> None:
        request = random.choice(NONSENSE)
        check = contract.exactly(request.status, request.code)
        self.ask("nonsense", request.method, request.path, check, headers=request.headers, body=request.body)


def _seconds(iso: str) -> float:
    return datetime.fromisoformat(iso).timestamp()
