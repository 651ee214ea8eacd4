"""One copy of the project, in which one bug after another is planted and tested."""

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from tests.faults import programs
from tests.mutants.mutant import PROJECT, Mutant

SECONDS = 60
CAUGHT, SURVIVED, TOO_SLOW, BROKEN = "caught", "SURVIVED", "TOO SLOW", "BROKEN"

# With what is compiled, but not what another process is just compiling.
_LEFT_OUT = shutil.ignore_patterns(".git", ".venv", ".env", "var", ".*_cache", ".hypothesis", "*.pyc.*")
# What a test run prepares is made of these: such a mutant shares nothing of it with the others.
_PREPARED_FROM = ("static/", "sales/migrations/")
_PREPARE = "from tests import environment\nfrom tests.faults import databases\ndatabases.prepared_var_dir()"
_PYTEST = [sys.executable, "-m", "pytest", "-x", "-p", "no:cacheprovider"]
# These would change which tests run, or turn a skipped test into a failed one.
_NOT_OURS = ("CI", "PYTEST_ADDOPTS")


def environment(prepared: Path) -> dict[str, str]:
    """Return the environment of a test run that shares what is prepared there."""
    kept = {name: value for name, value in os.environ.items() if name not in _NOT_OURS}
    return {**kept, "FLASHSALE_TEST_PREPARED": str(prepared)}


def prepare(prepared: Path) -> None:
    """Have a migrated database and the static files there, made by the project without bugs."""
    prepared.mkdir()
    subprocess.run([sys.executable, "-c", _PREPARE], cwd=PROJECT, env=environment(prepared), check=True)


class Bench:
    """A place below `directory` where one mutant at a time is tested; `prepared` is shared with other benches."""

    def __init__(self, directory: Path, prepared: Path):
        self._project = directory / "project"
        self._temporary = directory / "tmp"
        self._log = directory / "log"
        self._shared, self._own = prepared, directory / "prepared"
        self._mutant: Mutant | None = None
        shutil.copytree(PROJECT, self._project, ignore=_LEFT_OUT)

    def begin(self, mutant: Mutant) -> None:
        """Plant a bug that fits, and start its tests."""
        self._mutant = mutant
        for place in (self._temporary, self._own):
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir()
        for edit in mutant.edits:
            source = (self._project / edit.file).read_text()
            self._write(edit.file, source.replace(edit.text, edit.replacement))
        is_own = any(edit.file.startswith(_PREPARED_FROM) for edit in mutant.edits)
        variables = environment(self._own if is_own else self._shared) | {"TMPDIR": str(self._temporary)}
        self._log.unlink(missing_ok=True)
        self._process = programs.start([*_PYTEST, *mutant.tests], self._log, variables, self._project)
        self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started

    @property
    def printed(self) -> str:
        """What the tests printed."""
        return self._log.read_text(errors="replace").strip()

    def verdict(self) -> str:
        """Return what became of the mutant, and take the bug out; "" while its tests run."""
        status = self._process.poll()
        if status is None and self.seconds < SECONDS:
            return ""
        self.end()
        if status is None:
            return TOO_SLOW
        if status == 1 and "\nFAILED " not in self.printed:  # what a test needs failed, and that says nothing
            return BROKEN
        # 1: tests failed. Anything else but 0 says that they did not run.
        return {0: SURVIVED, 1: CAUGHT}.get(status, BROKEN)

    def end(self) -> None:
        """Kill what runs, and take the bug out. Safe to repeat."""
        if not self._mutant:
            return
        if self._process.poll() is None:
            _kill(self._process)
        for edit in self._mutant.edits:
            self._write(edit.file, edit.read_right())
        self._mutant = None

    def _write(self, file: str, source: str) -> None:
        """Write a file, and forget what was compiled of it: Python compares only its size and the second."""
        path = self._project / file
        path.write_text(source)
        Path(importlib.util.cache_from_source(str(path))).unlink(missing_ok=True)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a process, its group, and what it started in groups of their own: a browser, for instance."""
    started = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, signal.SIGKILL)
    for one in started:
        if one.is_running():  # and not another process that has its number by now
            one.kill()
    process.wait()
