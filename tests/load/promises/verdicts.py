"""What was measured of a promise, whether it is kept, and the lines that say so. Only arithmetic and words."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from tests.load.promises.promise import Promise
from tests.load.summary import percentile

KEPT, BROKEN, NOT_MEASURED = "kept", "BROKEN", "not measured"
HEAD = f"{'promise':<24}{'rounds':>7}{'p50':>10}{'p99':>10}{'max':>10}{'limit':>10}"


class Measured(NamedTuple):
    """The seconds that each round took. `failed` is why there are no more of them, `missing` why there are none."""

    promise: Promise
    seconds: Sequence[float] = ()
    failed: str = ""
    missing: str = ""

    @property
    def word(self) -> str:
        if self.missing:
            return NOT_MEASURED
        is_kept = self.seconds and not self.failed and max(self.seconds) <= self.promise.within_seconds
        return KEPT if is_kept else BROKEN

    def line(self) -> str:
        """Return the line under HEAD."""
        name, sentence, document, limit_seconds = self.promise[:4]
        told = [percentile(self.seconds, 50), percentile(self.seconds, 99), max(self.seconds)] if self.seconds else []
        times = "".join(f"{_ms(seconds):>10}" for seconds in told) or f"{'–':>10}" * 3
        reasons = "".join(f" {reason}." for reason in (self.missing, self.failed) if reason)
        words = f"{self.word:<6}  {sentence} ({document}).{reasons}"
        return f"{name:<24}{len(self.seconds):>7}{times}{_ms(limit_seconds):>10}  {words}"


def table(promises: Iterable[Promise]) -> str:
    """Return what docs/reliability.md shows of all promises."""
    rows = [
        f"| {one.sentence} | {one.within_seconds:g} s | [{one.document}](../{one.document}) | `{one.name}` |"
        for one in promises
    ]
    return "\n".join(["| promise | within | said in | name |", "|---|---:|---|---|", *rows])


def exit_status(found: Sequence[Measured]) -> int:
    """Return 1 when a promise is broken, else 0."""
    return int(any(measured.word == BROKEN for measured in found))


def of_the_machine(load_before: float, load_after: float, cores: int) -> str:
    """Return the line that says how busy the machine was, and what that means when it was not quiet."""
    line = f"Load average {load_before:.1f} at the start, {load_after:.1f} at the end, on {cores} cores."
    if max(load_before, load_after) <= cores:
        return line
    return f"{line} The machine is not quiet: what is broken here may be kept on a quiet one. Repeat it there."


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:,.0f} ms" if seconds >= 0.1 else f"{seconds * 1000:.1f} ms"
