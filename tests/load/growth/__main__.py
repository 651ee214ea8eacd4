"""`python -m tests.load.growth`: how costs grow. `make growth` runs it, in about 15 minutes.

It writes docs/growth.json, the plots docs/growth-*.svg, and the figures between the marks in docs/performance.md.
"""

import json
import sys
from collections.abc import Callable
from typing import Any

from tests.faults.programs import PROJECT_DIR
from tests.load.bench.__main__ import DOCUMENT, put_between_marks
from tests.load.growth import listeners, plots, purchases, requests, sales, words

STEPS: dict[str, Callable[[], Any]] = {
    "purchases": purchases.measure_growth,
    "sales": sales.measure_growth,
    "requests": requests.measure_growth,
    "listeners": listeners.measure_growth,
    "writer": purchases.measure_writer,
}
RESULTS = PROJECT_DIR / "docs" / "growth.json"


def main(names: list[str]) -> None:
    if unknown := set(names) - set(STEPS):
        sys.exit(f"usage: python -m tests.load.growth [{'|'.join(STEPS)}] …; there is no {', '.join(unknown)}")
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name in names or STEPS:
        print(f"{name}:", flush=True)
        results[name] = STEPS[name]()
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    bench = json.loads(DOCUMENT.with_suffix(".json").read_text())
    plots.draw(results, bench, DOCUMENT.parent)
    put_between_marks("growth", words.report(results))


if __name__ == "__main__":
    main(sys.argv[1:])
