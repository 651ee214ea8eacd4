"""Keep a few processes running, and end them together."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

RESTART_AFTER_SECONDS = 0.2
# A process that cannot stay up for this long is restarted more and more slowly.
SETTLED_AFTER_SECONDS = 10
LONGEST_RESTART_SECONDS = 5.0
POLL_SECONDS = 0.1

_PR_SET_PDEATHSIG = 1


@dataclass
class Process:
    """One command to keep running. It gets a process group of its own: Ctrl-C reaches the supervisor alone."""

    name: str
    command: Sequence[str]
    popen: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    restart_seconds: float = RESTART_AFTER_SECONDS

    def start(self) -> None:
        self.started_at = time.monotonic()
        self.popen = subprocess.Popen(
            self.command,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=die_with_parent,
        )

    def exit_status(self) -> int | None:
        return self.popen.poll() if self.popen else None

    def kill_group(self) -> None:
        """Kill the process, and what it may have left running."""
        if self.popen:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.popen.pid, signal.SIGKILL)
            self.popen.wait()

    def signal(self, number: int) -> None:
        if self.popen and self.popen.poll() is None:
            self.popen.send_signal(number)


def die_with_parent() -> None:
    """Have the kernel send SIGTERM to this process when its parent dies, so that nothing is left behind.

    Linux only (prctl(2)); elsewhere a parent that is killed leaves its children to the user.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


class Supervisor:
    """Processes in the order in which they start; they end in the opposite order."""

    def __init__(self) -> None:
        self._processes: list[Process] = []
        self._stopping = threading.Event()

    def start(self, process: Process) -> None:
        self._processes.append(process)
        process.start()

    def stop_on_signals(self) -> None:
        """From now on Ctrl-C, SIGTERM and a closed terminal make `run` return. A second Ctrl-C changes nothing."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda *_: self._stopping.set())

    @property
    def is_stopping(self) -> bool:
        return self._stopping.is_set()

    def run(self) -> None:
        """Restart what dies, until a signal asks to stop."""
        while not self._stopping.wait(POLL_SECONDS):
            self.restart_the_dead()

    def restart_the_dead(self) -> None:
        now = time.monotonic()
        for process in self._processes:
            status = process.exit_status()
            lived_seconds = now - process.started_at
            if status is None:
                if lived_seconds > SETTLED_AFTER_SECONDS:
                    process.restart_seconds = RESTART_AFTER_SECONDS
            elif lived_seconds > process.restart_seconds:
                print(f"flashsale: {process.name} ended ({_cause(status)}) and is started again", file=sys.stderr)
                process.restart_seconds = min(process.restart_seconds * 2, LONGEST_RESTART_SECONDS)
                process.start()

    def end(self, within_seconds: float) -> None:
        """End every process, the last one started first: what writes to Redis ends before Redis does."""
        deadline = time.monotonic() + within_seconds
        for process in reversed(self._processes):
            process.signal(signal.SIGTERM)
            while process.exit_status() is None and process.popen and time.monotonic() < deadline:
                time.sleep(0.02)
        for process in self._processes:
            process.kill_group()


def _cause(status: int) -> str:
    return f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
