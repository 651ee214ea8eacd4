"""The real parts that tests need, a browser for instance: what is missing skips them, and in CI fails them."""

import os
import re
import shutil
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

import pytest

# The Debian packages that bring a program.
PACKAGES = {
    "chromium": "chromium-headless-shell",
    "curl": "curl",
    "faketime": "faketime",
    "gcc": "gcc libc6-dev",
    "nginx": "nginx-light",
    "openssl": "openssl",
    "promtool": "prometheus",
    "systemd-analyze": "systemd",
    "systemd-creds": "systemd",
    "systemd-run": "systemd",
    "xgettext": "gettext",
}


def need(program: str, path: str | Path | None = None) -> str:
    """Return where a program is; skip the test where it is not. `path` is where it was found, if not on PATH."""
    found = str(path or shutil.which(program) or "")
    return found or lack(f"no {program}; on Debian: apt install {PACKAGES[program]}")


def lack(reason: str) -> NoReturn:
    """Skip a test whose real part is missing; fail it in CI."""
    if os.environ.get("CI"):
        pytest.fail(f"{reason} (in CI nothing is skipped)")
    pytest.skip(reason)


def told(reasons: Iterable[str]) -> list[str]:
    """Return the lines that say why tests were skipped, each reason once, and what brings the missing parts."""
    counted = Counter(reason.removeprefix("Skipped: ") for reason in reasons)
    lines = [f"{number:>4} skipped: {reason}" for reason, number in counted.most_common()]
    packages = " ".join(re.findall("apt install (.+)$", "\n".join(counted), re.MULTILINE))
    return [*lines, f"     To run all: apt install {' '.join(sorted({*packages.split()}))}"] if packages else lines
