"""Plant bugs into copies of the project, and expect the tests that are named for each to catch it.

`make mutants` plants them all, `python -m tests.mutants NAME …` some. Ends with 1 and their names when some survive.
"""

import argparse
import os
import signal
import sys
import tempfile
import time
from collections import deque
from collections.abc import Generator
from contextlib import closing
from pathlib import Path

from tests.mutants.bench import BROKEN, CAUGHT, SECONDS, SURVIVED, Bench, prepare
from tests.mutants.table import MUTANTS

# Two for each core: some wait while others work.
JOBS = 2 * len(os.sched_getaffinity(0))


def verdicts(names: list[str], jobs: int) -> Generator[tuple[str, str, Bench], None, None]:
    """Yield the name of each mutant when it ends, what became of it, and the bench that tells more."""
    with tempfile.TemporaryDirectory(prefix="mutants-", dir="/tmp", ignore_cleanup_errors=True) as directory:
        Path(directory).chmod(0o755)  # PostgreSQL's server, which is another user's, has its data below
        prepared = Path(directory) / "prepared"
        prepare(prepared)
        waiting, at_work = deque(names), dict[Bench, str]()
        idle = [Bench(Path(directory) / str(number), prepared) for number in range(min(jobs, len(names)))]
        try:
            while waiting or at_work:
                while waiting and idle:
                    bench = idle.pop()
                    at_work[bench] = waiting.popleft()
                    bench.begin(MUTANTS[at_work[bench]])
                for bench, name in list(at_work.items()):
                    if verdict := bench.verdict():
                        yield name, verdict, bench
                        del at_work[bench]
                        idle.append(bench)
                time.sleep(0.02)
        finally:
            for bench in at_work:
                bench.end()


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="a planted bug; all, if none is named")
    parser.add_argument("--jobs", type=int, default=JOBS, help=f"how many are tested at the same time ({JOBS})")
    arguments = parser.parse_args()
    arguments.names = arguments.names or list(MUTANTS)
    if unknown := [name for name in arguments.names if name not in MUTANTS]:
        parser.error(f"there is no planted bug of this name: {unknown[0]}")
    if misfits := [reason for name in arguments.names for edit in MUTANTS[name].edits if (reason := edit.misfit())]:
        parser.error("\n".join(misfits))
    return arguments


def main() -> int:
    arguments, started = read_arguments(), time.monotonic()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # what runs is ended then, and the copies removed
    names, survivors = arguments.names, []
    with closing(verdicts(names, max(1, arguments.jobs))) as ended:
        for number, (name, verdict, bench) in enumerate(ended, 1):
            print(f"{number:>3}/{len(names)} {verdict:<8} {bench.seconds:5.1f} s  {name}", flush=True)
            if verdict != CAUGHT:
                survivors.append(f"{verdict}: {name}")
            if verdict == SURVIVED:
                print(f"            {bench.printed.splitlines()[-1]}", flush=True)
            elif verdict == BROKEN:
                print(bench.printed, flush=True)
    caught, minutes = len(names) - len(survivors), (time.monotonic() - started) / 60
    print(f"{caught} of {len(names)} planted bugs were caught, in {minutes:.1f} minutes.")
    if survivors:
        print(f"Not caught within {SECONDS} s by the tests that are named for them:", *survivors, sep="\n  ")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
