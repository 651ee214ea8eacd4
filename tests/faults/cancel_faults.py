"""What happens to those who cancel orders."""

import signal
import time
from collections.abc import Callable
from random import Random

from tests.faults.stage import Stage

DIES_WITHIN_SECONDS = 60.0


def nothing(stage: Stage, rng: Random) -> None:
    """Shoppers buy and operators cancel, and that is trouble enough."""
    time.sleep(rng.uniform(0.5, 1.5))


def canceller_killed_before(step: str) -> Callable[[Stage, Random], None]:
    """A second operator cancels, too, and dies half way: before Redis knows, or before SQL knows that Redis does."""

    def canceller_killed(stage: Stage, rng: Random) -> None:
        dying = stage.start_canceller(step, rng.randint(1, 6))
        assert dying.wait(timeout=DIES_WITHIN_SECONDS) == -signal.SIGKILL, stage.log("cancellations.log")

    return canceller_killed
