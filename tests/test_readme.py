"""README.md and CI name the Debian packages that the tests need, and a run names what it lacked."""

import re
import subprocess
from pathlib import Path

import pytest
from django.conf import settings

from tests import parts, postgresql

pytestmark = pytest.mark.pure

PACKAGES = {*" ".join(parts.PACKAGES.values()).split(), *postgresql.MISSING.partition("apt install ")[2].split()}


def test_the_readme_names_each_package():
    lines = re.findall(r"`apt install ([^`]+)`", (settings.BASE_DIR / "README.md").read_text())

    assert [sorted(PACKAGES)] == [line.split() for line in lines if "chromium" in line]


def test_ci_installs_each_package():
    needs = re.findall(r"^need \S+ (.+)$", (settings.BASE_DIR / ".ci" / "run").read_text(), re.MULTILINE)

    assert not PACKAGES - {*" ".join(needs).split()}


def test_what_was_skipped_is_told_once_with_its_packages():
    skipped = ["Skipped: no nginx; on Debian: apt install nginx-light"] * 2 + [
        "Skipped: no gcc; apt install gcc libc6-dev"
    ]

    assert parts.told(skipped) == [
        "   2 skipped: no nginx; on Debian: apt install nginx-light",
        "   1 skipped: no gcc; apt install gcc libc6-dev",
        "     To run all: apt install gcc libc6-dev nginx-light",
    ]
    assert parts.told([]) == []


def test_make_runs_nothing_but_the_environments_python():
    """A clone that was moved has programs in its environment that look for Python where it was."""
    makefile = (settings.BASE_DIR / "Makefile").read_text()

    assert {*re.findall(r"\$\(BIN\)/([\w.-]+)", makefile)} == {"python"}


def test_a_part_that_fails_hides_no_other(tmp_path: Path):
    called, make = tmp_path / "called", tmp_path / "make"
    make.write_text(f'#!/bin/sh\necho "$1" >> {called}\n[ "$1" != lint ]\n')
    make.chmod(0o700)

    command = ["make", f"MAKE={make}", "test-all"]
    done = subprocess.run(command, cwd=settings.BASE_DIR, capture_output=True, text=True, check=False)

    assert called.read_text().split() == ["lint", "test", "test-long"]
    assert done.returncode != 0
    assert "flashsale: failed: lint\n" in done.stderr
