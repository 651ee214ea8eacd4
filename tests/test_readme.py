"""README.md and CI name the Debian packages that the tests need."""

import re

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
