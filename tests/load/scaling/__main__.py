"""`python -m tests.load.scaling`: where each part is full, and what a crowd of any size takes. `make scaling` runs it.

It writes docs/scaling.json, and the figures between the marks in docs/scaling.md. Names are the steps to take, in
place of all: `full_sale plans` reckons anew with what docs/scaling.json has, and measures nothing.
"""

import sys

from django.utils.module_loading import import_string

from tests.load import steps
from tests.load.bench.__main__ import put_between_marks
from tests.load.scaling import DOCUMENT

STEPS = {
    "machine": "tests.load.bench.measure.machine",
    "redis": "tests.load.scaling.redis_core.measure_saturation",
    "web": "tests.load.scaling.web_worker.measure_saturation",
    "streams": "tests.load.scaling.streams.measure_saturation",
    "edge": "tests.load.scaling.edge.measure_saturation",
    "sizes": "tests.load.scaling.edge.measure_sizes",
    "orders": "tests.load.scaling.orders.measure_saturation",
    "rush": "tests.load.scaling.rush.compare",
    "full_sale": "tests.load.scaling.plans.fill_one_sale",
    "plans": "tests.load.scaling.plans.make",
}
GIVEN = ("rush", "full_sale", "plans")


def main(names: list[str]) -> None:
    results = steps.take("tests.load.scaling", STEPS, DOCUMENT.with_suffix(".json"), names, given=GIVEN)
    for name, table in import_string("tests.load.scaling.words.tables")(results).items():
        put_between_marks(name, table, DOCUMENT)


if __name__ == "__main__":
    main(sys.argv[1:])
