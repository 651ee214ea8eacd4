"""`python -m tests.load.promises [NAME …] [--rounds N]`: time each promise about time. `make promises` runs it.

Rounds are played on real servers. Exit status 1 when a promise is broken.
"""

import argparse
import os
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

from tests import prepared
from tests.load import project
from tests.load.promises import verdicts
from tests.load.promises.declared import PROMISES
from tests.load.promises.promise import Missing, Promise
from tests.load.promises.verdicts import Measured


def main() -> int:
    """Return the exit status."""
    options = _options()
    prepared.place()
    project.prepare()
    load_before, found = os.getloadavg()[0], []
    print(verdicts.HEAD, flush=True)
    for measured in _measure([PROMISES[name] for name in options.names or PROMISES], options.rounds):
        found.append(measured)
        print(measured.line(), flush=True)
    print(f"\n{verdicts.of_the_machine(load_before, os.getloadavg()[0], os.cpu_count() or 1)}")
    return verdicts.exit_status(found)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make promises", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of {', '.join(PROMISES)}")
    parser.add_argument("--rounds", type=int, default=0, help="of each promise; if not told, as each declares")
    options = parser.parse_args()
    if unknown := set(options.names) - PROMISES.keys():
        parser.error(f"there is no promise {', '.join(sorted(unknown))}; there are {', '.join(PROMISES)}")
    return options


def _measure(promises: Iterable[Promise], rounds: int) -> Iterator[Measured]:
    """Yield what was measured of each promise. Those that are played on the same servers share them."""
    by_place: dict[Any, list[Promise]] = {}
    for promise in promises:
        by_place.setdefault(promise.on, []).append(promise)
    for group in by_place.values():
        yield from _measure_in_one_place(group, rounds)


def _measure_in_one_place(promises: Iterable[Promise], rounds: int) -> Iterator[Measured]:
    with ExitStack() as stack:
        place: Any = None
        for promise in promises:
            seconds: list[float] = []
            failed = missing = ""
            try:
                place = place or stack.enter_context(promise.on())
                seconds.extend(_play(promise, place, rounds or promise.rounds))
            except Missing as reason:
                missing = str(reason)
            except Exception as error:
                failed = f"{type(error).__name__}: {error}".partition("\n")[0]
                stack.close()  # nothing can be measured on what a failed round has left behind
                place = None
            yield Measured(promise, seconds, failed, missing)


def _play(promise: Promise, place: Any, rounds: int) -> Iterator[float]:
    with ThreadPoolExecutor(rounds) as threads:
        yield from (threads.map if promise.together else map)(promise.play, [place] * rounds)


if __name__ == "__main__":
    sys.exit(main())
