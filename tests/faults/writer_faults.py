"""What happens to the order writers, and what they are given."""

import signal
import time
from collections.abc import Callable
from random import Random

from tests.faults.stage import Stage

DIES_WITHIN_SECONDS = 60.0
SET_ASIDE_WITHIN_SECONDS = 60.0
WRITERS = "writers"
# Longer than the time after which one writer takes over what another has not acknowledged.
PAST_ITS_CLAIM_SECONDS = 5.5


def killed_before(step: str) -> Callable[[Stage, Random], None]:
    def writer_killed(stage: Stage, rng: Random) -> None:
        stage.stop_writers()
        dying = stage.start_dying_writer(step, rng.randint(1, 6))
        assert dying.wait(timeout=DIES_WITHIN_SECONDS) == -signal.SIGKILL, stage.log("writer.log")
        stage.start_writers()

    return writer_killed


def stopped_past_its_claim(stage: Stage, rng: Random) -> None:
    """Of two writers one stands still, with whatever it has in hand, and then goes on as if nothing had been."""
    stage.writers[0].send_signal(signal.SIGSTOP)
    time.sleep(PAST_ITS_CLAIM_SECONDS)
    stage.writers[0].send_signal(signal.SIGCONT)


def malformed_entries(stage: Stage, rng: Random) -> None:
    """Entries that are no purchases, in among those that are."""
    client, stream = stage.redis, stage.key("orders")
    while not (buyers := client.hkeys(stage.key("purchases"))):
        time.sleep(0.05)
    good = {"user_id": "stranger", "remaining_stock": 1, "key_digest": ""}
    entries: list[dict] = [
        {"user_id": "stranger"},
        {"something": "else"},
        good | {"remaining_stock": "many"},
        good | {"remaining_stock": -1},
        good | {"user_id": ""},
        good | {"user_id": b"\xff\xfe"},
        good | {"user_id": rng.choice(buyers)},
    ]
    rng.shuffle(entries)
    entry_ids = []
    for entry in entries:
        entry_ids.append(client.xadd(stream, entry))
        time.sleep(rng.uniform(0, 0.1))
    stage.malformed_entries = len(entry_ids)
    deadline = time.monotonic() + SET_ASIDE_WITHIN_SECONDS
    while client.xpending_range(stream, WRITERS, entry_ids[0], entry_ids[-1], 1) and time.monotonic() < deadline:
        # As if the time had passed after which the writer tries them again.
        client.xclaim(stream, WRITERS, "nobody", 0, entry_ids, idle=10_000, justid=True)
        time.sleep(0.2)
