"""`make promises`: what it makes of the seconds that it has measured, and where its promises are listed."""

import pytest
from django.conf import settings

from tests.load.promises import verdicts
from tests.load.promises.declared import PROMISES
from tests.load.promises.verdicts import BROKEN, KEPT, NOT_MEASURED, Measured

pytestmark = pytest.mark.pure

HUNDRED = [number / 100 for number in range(1, 101)]


def measured(*seconds: float, **fields: str) -> Measured:
    """Return what these rounds say of a promise to come about within a second."""
    return Measured(PROMISES["step"]._replace(within_seconds=1.0), seconds, **fields)


def test_a_line_tells_percentiles_rounds_limit_and_verdict():
    words = measured(*reversed(HUNDRED)).line().split()

    assert words[:11] == ["step", "100", "500", "ms", "990", "ms", "1,000", "ms", "1,000", "ms", "kept"]


@pytest.mark.parametrize(
    ("found", "word", "status"),
    [
        (measured(0.2, 1.0), KEPT, 0),
        (measured(*[0.2] * 999, 1.001), BROKEN, 1),
        (measured(0.2, failed="TimeoutError: not within 60 s"), BROKEN, 1),
        (measured(), BROKEN, 1),
        (measured(missing="no chromium"), NOT_MEASURED, 0),
    ],
    ids=["at the limit", "once in a thousand", "a round fails", "no round", "a part is missing"],
)
def test_a_promise_is_broken_by_one_round(found: Measured, word: str, status: int):
    assert (found.word, verdicts.exit_status([measured(0.1), found])) == (word, status)


def test_a_line_says_why_there_are_no_more_rounds():
    failed, missing = measured(0.2, failed="it is never refused"), measured(missing="no chromium")

    assert failed.line().endswith("it is never refused.")
    assert missing.line().endswith("no chromium.")


@pytest.mark.parametrize(("before", "after", "is_quiet"), [(2.0, 1.0, True), (2.1, 1.0, False), (1.0, 2.1, False)])
def test_more_load_than_cores_is_said(before: float, after: float, is_quiet: bool):
    assert ("not quiet" in verdicts.of_the_machine(before, after, cores=2)) is not is_quiet


def test_the_guide_lists_every_promise_with_its_limit():
    assert verdicts.table(PROMISES.values()) in (settings.BASE_DIR / "docs/reliability.md").read_text()
