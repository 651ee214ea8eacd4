"""`python -m tests.load.growth`: how costs grow. `make growth` runs it, in about 15 minutes.

It writes docs/growth.json, the plots docs/growth-*.svg, and the figures between the marks in docs/performance.md.
"""

import json
import sys

from tests.faults.programs import PROJECT_DIR
from tests.load import steps
from tests.load.bench.__main__ import DOCUMENT, put_between_marks
from tests.load.growth import plots, words

STEPS = {
    "purchases": "tests.load.growth.purchases.measure_growth",
    "sales": "tests.load.growth.sales.measure_growth",
    "requests": "tests.load.growth.requests.measure_growth",
    "listeners": "tests.load.growth.listeners.measure_growth",
    "writer": "tests.load.growth.purchases.measure_writer",
}
RESULTS = PROJECT_DIR / "docs" / "growth.json"


def main(names: list[str]) -> None:
    results = steps.take("tests.load.growth", STEPS, RESULTS, names)
    bench = json.loads(DOCUMENT.with_suffix(".json").read_text())
    plots.draw(results, bench, DOCUMENT.parent)
    put_between_marks("growth", words.report(results))


if __name__ == "__main__":
    main(sys.argv[1:])
