"""A pytest plugin: begin with a copy of the migrated database, so that a run of one test need not migrate its own."""

import shutil

import pytest
from django.conf import settings

from tests.faults.databases import prepared_var_dir


def pytest_configure(config: pytest.Config) -> None:
    shutil.copy(prepared_var_dir() / "db.sqlite3", settings.VAR_DIR / "test.sqlite3")
    config.option.reuse_db = True
