"""schemathesis with all its checks, against a server that runs, by what that says of itself in /api/openapi.json."""

import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from tests.faults.programs import PROJECT_DIR, environment

CONFIGURATION = Path(__file__).with_name("schemathesis.toml")


class Run(NamedTuple):
    """What came of a run: how many cases were sent, of how many the hooks and not the schema judged the name, whether
    all were answered as documented, and what schemathesis printed."""

    cases: int
    judged_by_hooks: int
    is_right: bool
    output: str


def run(url: str, examples: int, seed: int, *paths: str) -> Run:
    """Send cases of all kinds, up to `examples` made-up ones to each operation; the same ones for the same seed.

    With `paths`, to the operations of these alone.
    """
    command: list[str | Path] = [Path(sys.executable).with_name("schemathesis"), "--config-file", CONFIGURATION, "run"]
    options = ["--max-examples", str(examples), "--seed", str(seed), "--continue-on-failure", "--no-color"]
    options += [word for path in paths for word in ("--include-path", path)]
    with TemporaryDirectory() as directory:  # it keeps what it has found where it is started
        report = Path(directory) / "report.json"
        done = subprocess.run(
            [*command, f"{url}/api/openapi.json", *options, "--report", "json", "--report-json-path", report],
            cwd=directory,
            env=environment(Path(directory), PYTHONPATH=str(PROJECT_DIR)),
            capture_output=True,
            text=True,
        )
        found = json.loads(report.read_text()) if report.exists() else None
    output = done.stdout + done.stderr
    if not found:
        return Run(0, 0, False, output)
    is_right = done.returncode == 0 and found["complete"] and found["operations"]["errored"] == 0
    return Run(found["test_cases"]["generated"], found["filtered"], is_right, output)
