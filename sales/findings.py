"""What a check has found: a verdict, the reason, and what to do."""

from collections.abc import Iterable
from typing import Any, NamedTuple

# From good to bad.
VERDICTS = ("ok", "warning", "failure")


class Finding(NamedTuple):
    """What one check says. `remedy` is empty when there is nothing to do."""

    verdict: str
    reason: str
    remedy: str = ""
    name: str = ""

    def as_json(self) -> dict[str, Any]:
        return {"name": self.name, "verdict": self.verdict, "reason": self.reason, "remedy": self.remedy}


def ok(reason: str) -> Finding:
    return Finding("ok", reason)


def warning(reason: str, remedy: str) -> Finding:
    return Finding("warning", reason, remedy)


def failure(reason: str, remedy: str) -> Finding:
    return Finding("failure", reason, remedy)


def worst(findings: Iterable[Finding]) -> str:
    """Return the worst verdict among findings; `ok` of none."""
    return max((finding.verdict for finding in findings), key=VERDICTS.index, default="ok")


def summary(findings: Iterable[Finding]) -> str:
    """Return whether the sale is ready, in words."""
    verdicts = [finding.verdict for finding in findings]
    counts = {name: verdicts.count(name) for name in ("failure", "warning")}
    counted = [f"{count} {name}{'s' if count > 1 else ''}" for name, count in counts.items() if count]
    readiness = "not ready" if "failure" in verdicts else "ready"
    return ": ".join([readiness, ", ".join(counted)]) if counted else f"{readiness}: every check is ok"
