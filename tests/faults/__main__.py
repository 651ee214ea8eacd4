"""`python -m tests.faults N SEED`: play N rounds, of all faults in turn. SEED: a number, or that of a failed round.

Exit status 1 when a round failed.
"""

import random
import sys
import time
from collections.abc import Iterator

from tests.faults.rounds import play
from tests.faults.table import FAULTS


def main(rounds: int, seed: str) -> int:
    failed = 0
    for number, (name, own_seed) in zip(range(1, rounds + 1), _picks(seed), strict=False):
        started = time.monotonic()
        _say(f"{number}/{rounds} {name}:{own_seed} … ")
        try:
            reason = FAULTS[name].plan.lacks()
            heard = f"skipped: {reason}" if reason else play(name, FAULTS[name], own_seed)
            _say(f"{time.monotonic() - started:.1f} s, {heard}\n")
        except Exception as error:
            failed += 1
            _say(f"FAILED: {error!r}\n{error}\nreplay: make faults N=1 SEED={name}:{own_seed}\n")
    _say(f"{failed} of {rounds} rounds failed\n")
    return 1 if failed else 0


def _picks(seed: str) -> Iterator[tuple[str, int]]:
    """Yield the fault and the number of each round: the same ones for the same seed."""
    name, _, number = seed.rpartition(":")
    while name:
        yield name, int(number)
    rng = random.Random(int(seed))
    while True:
        for name in rng.sample(sorted(FAULTS), len(FAULTS)):
            yield name, rng.randrange(1_000_000)


def _say(words: str) -> None:
    sys.stdout.write(words)
    sys.stdout.flush()


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python -m tests.faults N SEED")
    sys.exit(main(int(sys.argv[1]), sys.argv[2]))
