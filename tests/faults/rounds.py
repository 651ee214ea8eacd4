"""One round: a stage, load, one fault, and the checker. A round's seed says all that was chosen in it."""

import random
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.faults.check import Complaints, Loss, Purchase, complaints
from tests.faults.load import Load
from tests.faults.programs import PROJECT_DIR
from tests.faults.stage import SLUG, Plan, Stage

OPEN_AGAIN_WITHIN_SECONDS = 60.0
# How long Redis is left alone with what it has lost.
PAUSE_SECONDS = 1.5
NOTICED_WITHIN_SECONDS = 30.0
MOST_RESTORATIONS = 5
CANCELS_WITHIN_SECONDS = 60.0
FIRST_CANCELLED = 5
# How long an operator goes on cancelling once all is whole again.
GOES_ON_SECONDS = 0.5
SETTLED_WITHIN_SECONDS = 60.0

PLAIN = Plan()


@dataclass(frozen=True)
class Fault:
    """What is broken, and what to expect while it is.

    `run` breaks it and returns once it is whole again. One of `shows` must be among the answers meanwhile, so that a
    fault that misses its mark does not pass for one that was survived. `needs_purchases` keeps the sale from selling
    out before, as `shows` does. With `cancels` an operator cancels orders meanwhile.
    """

    run: Callable[[Stage, random.Random], None]
    plan: Plan = PLAIN
    shows: frozenset[str] = frozenset()
    needs_purchases: bool = False
    loses_data: bool = False
    drops_connections: bool = False
    cancels: bool = False
    is_short: bool = True


def play(name: str, fault: Fault, number: int, *, project_dir: Path = PROJECT_DIR) -> str:
    """Play one round and return what shoppers heard in it.

    Raises AssertionError, with the seed that replays it, when something is wrong after it.
    """
    rng = random.Random(f"{name}:{number}")
    is_plenty = not fault.cancels and (fault.shows or fault.needs_purchases or rng.random() < 0.7)
    total_stock = 10_000 if is_plenty else rng.randrange(50, 400)
    with Stage(fault.plan, total_stock, rng, project_dir) as stage:
        load = stage.load()
        found = _survive(fault, stage, load, rng)
        if found:
            words = "\n  ".join(found)
            logs = "\n".join(stage.log(log) for log in ("web.log", "writer.log", "redis/redis.log"))
            raise AssertionError(f"after {name}:\n  {words}\n{logs}\nreplay: make faults N=1 SEED={name}:{number}")
    heard = Counter(answer.code for answer in load.answers)
    longest = max(answer.seconds for answer in load.answers)
    return ", ".join(f"{count} {code}" for code, count in heard.most_common()) + f"; {longest:.1f} s at the longest"


def _survive(fault: Fault, stage: Stage, load: Load, rng: random.Random) -> Complaints:
    found, loss = Complaints(), None
    load.start()
    try:
        canceller = _start_canceller(stage) if fault.cancels else None
        time.sleep(rng.uniform(0.4, 0.8))
        began = time.monotonic()
        stage.has_shown = lambda: not fault.shows or bool(_codes(load, began) & fault.shows)
        fault.run(stage, rng)
        if fault.loses_data:
            loss = _find_loss(stage, load, found)
        found.unless(_is_open_again(load), f"the sale was not open again {OPEN_AGAIN_WITHIN_SECONDS} s after the fault")
        if found:
            return found
        if canceller:
            _settle(stage, canceller, found)
        opened = time.monotonic()
        time.sleep(rng.uniform(0.4, 0.8))
        # Every shopper may have been waiting for an answer that was lost before.
        while not _is_answered(load, opened) and time.monotonic() < opened + OPEN_AGAIN_WITHIN_SECONDS:
            time.sleep(0.05)
    finally:
        load.stop()
    found.unless(stage.has_shown(), f"the fault did not show: answers were {_codes(load, began)}")
    found.unless(_is_answered(load, opened), "nobody got an answer after the fault")
    return Complaints(found + complaints(stage, load, loss, may_drop=fault.drops_connections))


def _codes(load: Load, since: float) -> set[str]:
    """Return the codes of the answers that came at that time or later."""
    return {answer.code for answer in list(load.answers) if answer.began + answer.seconds > since}


def _start_canceller(stage: Stage) -> subprocess.Popen[bytes]:
    """Return the process of an operator who has cancelled some orders by now."""
    canceller, deadline = stage.start_canceller(), time.monotonic() + CANCELS_WITHIN_SECONDS
    while sum(told.word == "enforced" for told in stage.told_cancellations()) < FIRST_CANCELLED:
        assert canceller.poll() is None, stage.log("cancellations.log")
        assert time.monotonic() < deadline, stage.log("cancellations.log")
        time.sleep(0.02)
    return canceller


def _settle(stage: Stage, canceller: subprocess.Popen[bytes], found: Complaints) -> None:
    """Stop the canceller, wherever it is, and wait until what it has left half done is done."""
    time.sleep(GOES_ON_SECONDS)
    canceller.terminate()
    canceller.wait()
    deadline = time.monotonic() + SETTLED_WITHIN_SECONDS
    while (due := stage.cancellations_due()) and time.monotonic() < deadline:
        time.sleep(0.05)
    found.unless(due == 0, f"{due} cancellations are still not in Redis")
    stage.settled_at = time.monotonic()


def _is_open_again(load: Load) -> bool:
    client, deadline = load.client(), time.monotonic() + OPEN_AGAIN_WITHIN_SECONDS
    while not (is_open := client.sale_is_open()) and time.monotonic() < deadline:
        time.sleep(0.05)
    client.close()
    return is_open


def _is_answered(load: Load, since: float) -> bool:
    return any(answer.status in (200, 409) for answer in load.since(since))


def _find_loss(stage: Stage, load: Load, found: Complaints) -> Loss:
    """Return what Redis has lost. It must have been noticed: nothing sold, and the sale closed until it is restored."""
    time.sleep(PAUSE_SECONDS)
    told = {
        (answer.user_id, answer.order_id)
        for answer in list(load.answers)
        if answer.order_id and answer.began < stage.data_lost_at
    }
    in_sql = set(stage.orders())
    # Read after them: where nothing was lost, shoppers go on buying.
    held = {(user, value.split(" ")[0]) for user, value in stage.redis.hgetall(stage.key("purchases")).items()}
    lost = (told | in_sql) - held - set(stage.cancelled_orders())
    client, deadline = load.client(), time.monotonic() + NOTICED_WITHIN_SECONDS
    while (is_open := client.sale_is_open()) and lost and time.monotonic() < deadline:
        time.sleep(0.05)
    client.close()
    if not is_open:
        stage.wait_until_shown()
    sold = [answer for answer in load.since(stage.data_lost_at) if answer.status == 200]
    found.unless(not (lost and is_open), f"{len(lost)} purchases are lost, and the sale is open", *lost)
    found.unless(not (lost and sold), f"{len(lost)} purchases are lost, and {len(sold)} were sold after", *sold)
    if not is_open:
        _restore(stage, load, lost - in_sql)
    return Loss(lost, in_sql)


def _restore(stage: Stage, load: Load, acknowledged: set[Purchase]) -> None:
    """Restore the sale, and once more when workers have closed it again, by what only they knew, after the first."""
    client = load.client()
    for _ in range(MOST_RESTORATIONS):
        # It fails when a worker names something after it has looked.
        stage.manage("restore_sale", SLUG, may_fail=True)
        deadline = time.monotonic() + NOTICED_WITHIN_SECONDS
        while not acknowledged <= stage.missing() | set(stage.orders()) and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(PAUSE_SECONDS)
        if client.sale_is_open():
            break
    client.close()
