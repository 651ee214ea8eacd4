"""`python -m tests.faults N SEED JOBS`: play N rounds, of all faults in turn, JOBS at a time.

SEED: a number, or that of a failed round. Exit status 1 when a round failed.
"""

import random
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

from tests import prepared
from tests.faults.rounds import play
from tests.faults.table import FAULTS

FAILED = "FAILED: "


def main(rounds: int, seed: str, jobs: int) -> int:
    """Share the rounds between processes, and tell how many of them failed."""
    prepared.place()
    command = [sys.executable, "-m", "tests.faults", str(rounds), seed, str(jobs)]
    players = [subprocess.Popen([*command, str(job)], stdout=subprocess.PIPE, text=True) for job in range(jobs)]
    with ThreadPoolExecutor(jobs) as threads:
        failed = sum(threads.map(_relay, players))
    _say(f"{failed} of {rounds} rounds failed")
    return 1 if failed else 0


def _relay(player: subprocess.Popen[str]) -> int:
    """Print what a player says, and return how many of its rounds failed; one that dies has failed once more."""
    assert player.stdout
    failed = 0
    for line in player.stdout:
        _say(line.rstrip("\n"))
        failed += FAILED in line
    return failed + (player.wait() != 0)


def play_share(rounds: int, seed: str, jobs: int, job: int) -> None:
    """Play every `jobs`th of the rounds, from the `job`th."""
    for number, name, own_seed in islice(_picks(rounds, seed), job, None, jobs):
        started = time.monotonic()
        try:
            reason = FAULTS[name].plan.lacks()
            heard = f"skipped: {reason}" if reason else play(name, FAULTS[name], own_seed)
        except Exception as error:
            heard = f"{FAILED}{error!r}\n{error}\nreplay: make faults N=1 SEED={name}:{own_seed}"
        _say(f"{number}/{rounds} {name}:{own_seed} {time.monotonic() - started:.1f} s, {heard}")


def _picks(rounds: int, seed: str) -> Iterator[tuple[int, str, int]]:
    """Yield the number of each round, its fault and its own seed: the same ones for the same `seed`."""
    name, _, own_seed = seed.rpartition(":")
    if name:
        yield from ((number, name, int(own_seed)) for number in range(1, rounds + 1))
        return
    rng, names = random.Random(int(seed)), list[str]()
    for number in range(1, rounds + 1):
        names = names or rng.sample(sorted(FAULTS), len(FAULTS))
        yield number, names.pop(), rng.randrange(1_000_000)


def _say(words: str) -> None:
    sys.stdout.write(f"{words}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    match sys.argv[1:]:
        case [rounds, seed, jobs]:
            sys.exit(main(int(rounds), seed, int(jobs)))
        case [rounds, seed, jobs, job]:
            play_share(int(rounds), seed, int(jobs), int(job))
        case _:
            sys.exit("usage: python -m tests.faults N SEED JOBS")
