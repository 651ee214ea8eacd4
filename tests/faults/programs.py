"""The programs that a stage runs, and what of them this machine lacks."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from flashsale.supervisor import die_with_parent
from tests import small_disks
from tests.postgresql import MISSING, find_binaries

PROJECT_DIR = Path(__file__).resolve().parents[2]


def start(command: Sequence[str | Path], log: Path, environment: dict[str, str], cwd: Path) -> subprocess.Popen[bytes]:
    """Start a program in a process group of its own; it ends with this process. It writes to the end of `log`."""
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            env=environment,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=die_with_parent,
        )


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a program that `start` started, with its children. Safe to repeat."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def run_manage(project_dir: Path, settings: dict[str, str], *words: str, may_fail: bool = False) -> str:
    """Run a management command to its end and return what it printed. Raises AssertionError when it may not fail."""
    status, printed = run(project_dir, settings, *words)
    assert may_fail or status == 0, f"manage.py {' '.join(words)} failed:\n{printed}"
    return printed


def run(project_dir: Path, settings: dict[str, str], *words: str) -> tuple[int, str]:
    """Run a management command to its end; return its exit status and what it printed, errors where it failed."""
    command: list[str | Path] = [sys.executable, project_dir / "manage.py", *words]
    done = subprocess.run(command, env=settings, cwd=project_dir, capture_output=True, text=True, timeout=120)
    return done.returncode, done.stdout + (done.stderr if done.returncode else "")


def environment(var_dir: Path, **settings: str) -> dict[str, str]:
    """Return the whole environment of the project's programs on a stage: nothing of the developer's leads elsewhere."""
    system = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    unset = ("REDIS_URL", "DATABASE_URL", "TRUSTED_PROXIES", "CSRF_TRUSTED_ORIGINS")
    return {
        **system,
        **dict.fromkeys(unset, ""),
        "DJANGO_SETTINGS_MODULE": "flashsale.settings",
        "VAR_DIR": str(var_dir),
        "SECRET_KEY": "only-for-tests",
        "ALLOWED_HOSTS": "localhost,127.0.0.1",
        "ADDRESS_RATE": "off",
        "USER_RATE": "off",
        "WEB_CONCURRENCY": "2",
        "BIND": "127.0.0.1",
        "DEBUG": "off",
        **settings,
    }


def faketime_library() -> Path | None:
    """Return Debian's libfaketime, which shifts the clock of the one process that loads it."""
    return next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)


def shifted_clock(**settings: str) -> dict[str, str]:
    """Return what makes a program read another time of day, as libfaketime's `settings` say. Times of files stay, by
    which gunicorn tells that a worker is alive."""
    return {"LD_PRELOAD": str(faketime_library()), "NO_FAKE_STAT": "1", **settings}


def what_lacks(*, needs_postgresql: bool, needs_faketime: bool, needs_mount: bool) -> str:
    """Return what of these this machine cannot do, or ""."""
    if needs_postgresql and not find_binaries():
        return MISSING
    if needs_faketime and not faketime_library():
        return "no libfaketime; on Debian: apt install faketime"
    if needs_mount and not small_disks.may_be_made():
        return small_disks.MISSING
    return ""
