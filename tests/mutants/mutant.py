"""What a planted bug is: texts to replace, and the tests that catch it."""

from pathlib import Path
from typing import NamedTuple

PROJECT = Path(__file__).resolve().parents[2]


class Edit(NamedTuple):
    """Replace `text`, which occurs once in the project's `file`."""

    file: str
    text: str
    replacement: str

    def read_right(self) -> str:
        """Return the file as it is."""
        return (PROJECT / self.file).read_text()

    def misfit(self) -> str:
        """Return why this cannot be done, or ""."""
        if self.text == self.replacement:
            return f"an edit of {self.file} changes nothing: {self.text!r}"
        found = self.read_right().count(self.text)
        return "" if found == 1 else f"{self.file} holds this {found} times, not once: {self.text!r}"


class Mutant:
    """One bug. `tests` are pytest's node ids, with blanks in between: one of them is to fail."""

    def __init__(self, tests: str, *edits: Edit):
        self.tests = tests.split()
        self.edits = edits
