"""Locust as a process: start it, follow what it writes, and tell whether its own CPU was the limit."""

import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.faults import programs
from tests.load.answers import Answer, Reader

LOCUSTFILE = Path(__file__).with_name("locustfile.py")
# Visitors end what is under way when the time is over: an answer takes 1.5 s at the most.
FINISH_WITHIN_SECONDS = 3
OVERDUE_SECONDS = 60
BUSY_PERCENT = 90


@dataclass
class Load:
    """What a run was. `locust_cpu`: percent of a core that locust used in its busiest second. `machine_cpu`: percent of
    all cores in the machine's. `strangers_cpu`: what programs that are not of this run used of them, on average."""

    answers: list[Answer] = field(default_factory=list)
    seconds: float = 0.0
    exit_status: int | None = None
    locust_cpu: float = 0.0
    machine_cpu: float = 0.0
    strangers_cpu: float = 0.0
    warnings: list[str] = field(default_factory=list)


def run(crowd: str, users: int, seconds: float, url: str, directory: Path, tell: Callable[[Load], None]) -> Load:
    """Send the crowd, and return what came of it; `tell` is called once a second. What is kept goes to `directory`."""
    started, load, reader = time.monotonic(), Load(), Reader(directory)
    log = directory / "locust.log"
    process = programs.start(_command(crowd, users, seconds, url, directory), log, _environment(), programs.PROJECT_DIR)
    try:
        meter = _Meter(process.pid)
        while process.poll() is None and load.seconds < seconds + OVERDUE_SECONDS:
            time.sleep(1)
            load.seconds = time.monotonic() - started
            load.answers += reader.read()
            meter.read(load)
            tell(load)
        load.exit_status = process.poll()
    finally:
        programs.kill(process)
    load.answers += reader.read()
    load.warnings = _warnings(log)
    return load


def _command(crowd: str, users: int, seconds: float, url: str, directory: Path) -> list[str | Path]:
    size = ("--users", str(users), "--run-time", f"{seconds:.0f}s", "--stop-timeout", str(FINISH_WITHIN_SECONDS))
    quiet = ("--headless", "--only-summary", "--exit-code-on-error", "1")
    kept = ("--answers", directory, "--html", directory / "report.html")
    return [sys.executable, "-m", "locust", "-f", LOCUSTFILE, "--crowd", crowd, "--host", url, *size, *quiet, *kept]


def _environment() -> dict[str, str]:
    """Return an environment in which no LOCUST_ variable of the developer's changes the run."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("LOCUST_")}
    # gevent's usual resolver has ten threads: on a busy machine, new connections wait for them for seconds.
    return {**inherited, "GEVENT_RESOLVER": "ares,thread"}


class _Meter:
    """Reads, once a second, how busy locust is, how busy the machine, and how much of that is not of this run."""

    def __init__(self, locust_pid: int):
        self._locust_pid = locust_pid
        self._ours: dict[int, psutil.Process] = {}
        self._strangers: list[float] = []
        psutil.cpu_percent()

    def read(self, load: Load) -> None:
        for child in psutil.Process().children(recursive=True):
            self._ours.setdefault(child.pid, child)
        used = {pid: _cpu(process) for pid, process in self._ours.items()}
        machine = psutil.cpu_percent()
        self._strangers.append(max(0.0, machine - sum(used.values()) / (psutil.cpu_count() or 1)))
        load.locust_cpu = max(load.locust_cpu, used.get(self._locust_pid, 0.0))
        load.machine_cpu = max(load.machine_cpu, machine)
        load.strangers_cpu = sum(self._strangers) / len(self._strangers)


def _cpu(process: psutil.Process) -> float:
    """Return percent of a core since the last time, 0 at the first and after its end."""
    try:
        return process.cpu_percent()
    except psutil.NoSuchProcess:
        return 0.0


def _warnings(log: Path) -> list[str]:
    """Return what locust says of its own CPU, and its errors, once each."""
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    texts = [line.partition("/WARNING/")[2] for line in lines if "CPU" in line]
    texts += [line.partition("/ERROR/")[2] for line in lines]
    return [text.partition(": ")[2] for text in dict.fromkeys(texts) if text]


def outcomes(answers: list[Answer]) -> Counter[str]:
    """Count the answers to attempts by their word; a repeat that was recognised is `replayed`."""
    return Counter("replayed" if answer.is_replay else answer.code for answer in answers if answer.asked == "purchase")
