"""What a person reads of a run."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from math import ceil

from tests.load.answers import Answer
from tests.load.checks import Verdict
from tests.load.generator import BUSY_PERCENT, Load, outcomes

ASKED = ("purchase", "status", "page", "user", "nonsense")
WORDS = {True: "ok", False: "FAILED", None: "not checked"}


PROGRESS = (
    f"{'':>6}  {'sale':<13}{'answers':>9}{'per second':>12}{'purchased':>11}{'sold_out':>10}{'others':>9}{'5xx':>6}"
)


def progress(load: Load, opens_in_seconds: float, per_second: float) -> str:
    """Return one line under PROGRESS: what has happened so far; `per_second` answers came lately."""
    sale = f"opens in {opens_in_seconds:.0f} s" if opens_in_seconds > 0 else "open"
    told = outcomes(load.answers)
    errors = sum(answer.status >= 500 for answer in load.answers)
    counts = f"{len(load.answers):>9,}{per_second:>12,.0f}{told['purchased']:>11,}{told['sold_out']:>10,}"
    others = told.total() - told["purchased"] - told["sold_out"]
    return f"{load.seconds:>4.0f} s  {sale:<13}{counts}{others:>9,}{errors:>6,}"


def summary(load: Load, verdicts: Sequence[Verdict]) -> str:
    parts = [_times(load.answers), _outcomes(load.answers), _generator(load), _verdicts(verdicts)]
    return "\n\n".join(part for part in parts if part)


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest of `values` that is not below that many percent of them (nearest rank)."""
    return sorted(values)[max(1, ceil(len(values) * percent / 100)) - 1]


def _times(answers: Iterable[Answer]) -> str:
    taken: dict[tuple[str, str], list[float]] = defaultdict(list)
    for answer in answers:
        if answer.status:
            taken[answer.asked, answer.who].append(answer.seconds * 1000)
    lines = [f"{'':<20}{'answers':>9}{'p50':>10}{'p95':>10}{'p99':>10}{'longest':>10}"]
    for asked, who in sorted(taken, key=lambda kind: (ASKED.index(kind[0]), -len(kind[1]))):
        values = taken[asked, who]
        times = [*(percentile(values, percent) for percent in (50, 95, 99)), max(values)]
        lines.append(f"{f'{asked}, {who}s':<20}{len(values):>9,}" + "".join(f"{ms:>7,.0f} ms" for ms in times))
    return "\n".join(lines)


def _outcomes(answers: list[Answer]) -> str:
    told = ", ".join(f"{word} {count:,}" for word, count in outcomes(answers).most_common())
    limited = sum(answer.status == 429 for answer in answers if answer.asked != "purchase")
    lines = [f"Answers to attempts: {told or 'none'}.", _presses(answers)]
    if limited:
        lines.append(f"Answers 429 to other requests, by the server's limit per address: {limited:,}.")
    return "\n".join(lines)


def _presses(answers: Iterable[Answer]) -> str:
    """Return how close together the shoppers pressed: a saturated generator presses late."""
    first: dict[str, float] = {}
    for answer in answers:
        if answer.who == "shopper" and answer.asked == "purchase":
            first.setdefault(answer.user_id, answer.began)
    if not first:
        return "No shopper pressed."
    within = percentile(list(first.values()), 95) - min(first.values())
    return f"{len(first):,} shoppers pressed, 95 % of them within {within:.1f} s of the first."


def _generator(load: Load) -> str:
    lines = [
        f"In the busiest second locust used {load.locust_cpu:.0f} % of a core, and the machine was "
        f"{load.machine_cpu:.0f} % busy. Programs that are not of this run took {load.strangers_cpu:.0f} % of it."
    ]
    busy = {"locust": load.locust_cpu, "the machine": load.machine_cpu}
    if limits := [name for name, percent in busy.items() if percent > BUSY_PERCENT]:
        lines.append(f"At its limit: {' and '.join(limits)}. The times above are longer than the server's own.")
    lines += [f"locust: {warning}" for warning in load.warnings]
    return "\n".join(lines)


def _verdicts(verdicts: Sequence[Verdict]) -> str:
    return "\n".join(f"{WORDS[verdict.held]:<12}{verdict.name:<34}{verdict.words}" for verdict in verdicts)
