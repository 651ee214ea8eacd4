"""`python -m tests.load.bench`: this project and its peers side by side, on this machine. `make bench` runs it."""

import argparse
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.faults.programs import PROJECT_DIR
from tests.load.bench.contenders import CONTENDERS, Missing, build
from tests.load.bench.measure import machine, measure
from tests.load.bench.tables import Results, report, targets, whole

CONNECTIONS = (1, 16, 64, 256, 1000, 4000)
DOCUMENT = PROJECT_DIR / "docs" / "performance.md"


def main() -> int:
    options = _options()
    if not shutil.which("wrk"):
        sys.exit("flashsale: wrk makes the load, and is not installed; on Debian: apt install wrk")
    missing = _build(options.only)
    results = Results({**machine(), "rounds": options.rounds, "seconds": options.seconds}, missing)
    for number in range(1, options.rounds + 1):
        for name in options.only:
            if name not in missing:
                _play(name, number, options, results)
    text = report(results)
    print(f"\n{text}\n\n{targets(results)}")
    if options.save:
        _save(results)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="all contenders in turn, so often (3)")
    parser.add_argument("--seconds", type=int, default=2, help="for each measurement (2)")
    parser.add_argument("--connections", type=_numbers, default=CONNECTIONS, help="like 1,16,256")
    parser.add_argument("--only", type=_names, default=list(CONTENDERS), help=f"some of {','.join(CONTENDERS)}")
    parser.add_argument("--save", action="store_true", help="write docs/performance.json, and its table")
    return parser.parse_args()


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(word) for word in text.split(","))


def _names(text: str) -> list[str]:
    names = text.split(",")
    if unknown := set(names) - set(CONTENDERS):
        raise argparse.ArgumentTypeError(f"no such contender: {', '.join(unknown)}")
    return names


def _build(names: list[str]) -> dict[str, str]:
    """Build the contenders, and return those that cannot be, with the reason."""
    missing = {}
    for name in names:
        try:
            build(CONTENDERS[name])
        except Missing as reason:
            missing[name] = str(reason)
            print(f"missing: {name}: {reason}")
    return missing


def _play(name: str, number: int, options: argparse.Namespace, results: Results) -> None:
    """Measure everything that a contender does, once."""
    with CONTENDERS[name].kind() as contender:
        measure(contender, "status", 64, 1)  # warm
        for work, connections in _runs(contender.works, options.connections):
            if work == "sold_out" and connections == options.connections[0]:
                contender.sell_out()
            found = measure(contender, work, connections, options.seconds)
            results.add(name, work, connections, found)
            print(
                f"{number}/{options.rounds} {name:17} {work:9} {connections:5}  {found.requests_per_second:8,.0f}/s"
                f"  p50 {found.p50_ms:6.1f}  p95 {found.p95_ms:6.1f}  p99 {found.p99_ms:6.1f} ms"
                f"  server {found.server_us:6.1f}  Redis {found.redis_us:5.1f} us"
                f"  {found.worker_mb:4.0f} MB  {found.errors} errors, {found.timeouts} time-outs",
                flush=True,
            )


def _runs(works: Any, connections: tuple[int, ...]) -> Iterator[tuple[str, int]]:
    for work in works:
        for number in connections:
            yield work, number


def _save(results: Results) -> None:
    DOCUMENT.with_suffix(".json").write_text(json.dumps(results.as_json(), indent=1) + "\n")
    put_between_marks("bench", whole(results))


def put_between_marks(name: str, text: str, document: Path = DOCUMENT) -> None:
    """Replace what a document, docs/performance.md unless told otherwise, has between the marks of that name."""
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    before, _, rest = document.read_text().partition(begin)
    _, _, after = rest.partition(end)
    document.write_text(f"{before}{begin}\n{text}\n{end}{after}")
    print(f"Saved in {document.relative_to(PROJECT_DIR)}.")


if __name__ == "__main__":
    sys.exit(main())
