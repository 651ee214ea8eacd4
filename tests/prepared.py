"""What all processes of a test run need alike, and the first that asks for it makes."""

import atexit
import fcntl
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

_VARIABLE = "FLASHSALE_TEST_PREPARED"


def place() -> Path:
    """Return the directory of the test run; the processes that this one starts inherit it."""
    if _VARIABLE not in os.environ:
        os.environ[_VARIABLE] = tempfile.mkdtemp(prefix="flashsale-prepared-", dir="/tmp")
        atexit.register(shutil.rmtree, os.environ[_VARIABLE], ignore_errors=True)
    return Path(os.environ[_VARIABLE])


def venv() -> Path:
    """Return a path of this virtual environment that make takes, which a path with a space is not."""
    link = place() / "venv"
    with suppress(FileExistsError):
        link.symlink_to(sys.prefix)
    return link


def made_once(name: str, make: Callable[[Path], None]) -> Path:
    """Return the directory of this name, to be read and copied; `make` is called with it unless another process has."""
    directory = place() / name
    with (place() / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not directory.exists():
            unfinished = place() / f"{name}.unfinished"
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir()
            make(unfinished)
            unfinished.rename(directory)
    return directory
