"""What visitors were told: one line of JSON for each request, written by the locustfile, read by the checks."""

from pathlib import Path
from typing import NamedTuple

import orjson

# A bound on what one run keeps: the visitors go home when it is reached.
MOST_ANSWERS = 2_000_000


class Answer(NamedTuple):
    """One request and what came of it.

    `who`: shopper or bot. `asked`: page, status, purchase, user, or nonsense. `code`: the answer's word; `broken`
    without an answer, `cut` when the run ended before it came: `status` is then 0. `began`: a time of
    `time.monotonic()`, which all processes of a machine share. `wrong`: what of docs/api.md it breaks.
    """

    who: str
    asked: str
    status: int
    code: str
    user_id: str = ""
    key: str = ""
    began: float = 0.0
    seconds: float = 0.0
    wrong: str = ""
    order_id: str = ""
    purchase_time: str = ""
    is_replay: bool = False

    @property
    def ended(self) -> float:
        return self.began + self.seconds


class Writer:
    """Writes answers to `path`. Whoever keeps one calls `flush` now and then."""

    def __init__(self, path: Path):
        self._path = path
        self._lines: list[bytes] = []
        self.written = 0

    def add(self, answer: Answer) -> None:
        self._lines.append(orjson.dumps(answer._asdict(), option=orjson.OPT_APPEND_NEWLINE))
        self.written += 1

    def flush(self) -> None:
        lines, self._lines = self._lines, []
        with self._path.open("ab") as file:
            file.writelines(lines)


class Reader:
    """Reads the answers of all processes that write into `directory`, while they write."""

    def __init__(self, directory: Path):
        self._directory = directory
        self._read_bytes: dict[Path, int] = {}

    def read(self) -> list[Answer]:
        """Return what is new since the last time."""
        new: list[Answer] = []
        for path in sorted(self._directory.glob("answers-*.jsonl")):
            with path.open("rb") as file:
                file.seek(self._read_bytes.get(path, 0))
                whole, _, _ = file.read().rpartition(b"\n")
            if whole:
                self._read_bytes[path] = self._read_bytes.get(path, 0) + len(whole) + 1
                new += [Answer(**orjson.loads(line)) for line in whole.split(b"\n")]
        return new


def path_in(directory: Path, process_id: int) -> Path:
    return directory / f"answers-{process_id}.jsonl"
