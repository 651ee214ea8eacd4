"""A measurement of several steps, each of which is kept in a file as soon as it is done."""

import json
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from django.utils.module_loading import import_string

from tests.load import project


def take(program: str, steps: Mapping[str, str], file: Path, names: list[str], given: Collection[str] = ()) -> Any:
    """Take the steps of these names, or all, and return all results that the file has then.

    `steps` are the dotted names of functions, which are imported when Django is ready. Those that are `given` get the
    results so far. Ends the process when there is no step of a name; `program` is what was called.
    """
    if unknown := set(names) - set(steps):
        sys.exit(f"usage: python -m {program} [{'|'.join(steps)}] …; there is no {', '.join(unknown)}")
    project.prepare()
    results = json.loads(file.read_text()) if file.exists() else {}
    for name in names or steps:
        print(f"{name}:", flush=True)
        step = import_string(steps[name])
        results[name] = step(results) if name in given else step()
        file.write_text(json.dumps(results, indent=1) + "\n")
    return results
