"""The project's own code in a process that measures it: its settings are those of a stage, whatever the environment."""

import os
import tempfile
from pathlib import Path

from tests.faults import programs

TEMPORARY = Path(tempfile.gettempdir())


def prepare(var_dir: Path = TEMPORARY) -> None:
    """Give this process settings, and have Django load the apps: before `sales` is imported."""
    os.environ.update(programs.environment(var_dir))
    import django

    django.setup()
