"""The file in which a web worker keeps what it counts, in the format of Prometheus's client.

The client maps its files into memory. A page of a mapped file that a full disk cannot hold ends the process by SIGBUS,
and no `except` sees it. Here a worker counts in its own memory, and writes the file once a second.
"""

import logging
import os
import sys
from pathlib import Path
from typing import Any, BinaryIO

from prometheus_client.mmap_dict import MmapedDict

# How many bytes are used, as an integer of 4 bytes; 4 of padding.
_HEADER_BYTES = 8

log = logging.getLogger(__name__)


class Counts(MmapedDict):
    """The client's dictionary of numbers, in memory until `save` writes it."""

    def __init__(self, filename: str | Path):
        self._path = Path(filename)
        self._f: Any = None
        self._m: Any = bytearray(_HEADER_BYTES.to_bytes(_HEADER_BYTES, sys.byteorder))
        self._saved = b""
        self._positions: dict[str, int] = {}
        self._used = _HEADER_BYTES
        self._capacity = sys.maxsize  # the client lengthens a file that is full: memory grows by itself

    def save(self) -> None:
        """Write what was counted since. Raises OSError; readers then find what was written before.

        The file has its name once it has a header. Later the header is written last: it tells how much may be read.
        """
        content = bytes(self._m)
        if content == self._saved:
            return
        if self._f is None:
            new = self._path.with_suffix(".new")
            try:
                new.write_bytes(content)
                self._f = new.open("r+b", buffering=0)
                new.replace(self._path)
            except OSError:
                new.unlink(missing_ok=True)
                self._f = None
                raise
        else:
            _write(self._f, content, _HEADER_BYTES)
            _write(self._f, content[:_HEADER_BYTES], 0)
        self._saved = content

    def close(self) -> None:
        if self._f:
            self._f.close()
            self._f = None


class _Kept:
    """The files of this process."""

    counts: list[Counts] = []
    is_failing = False


def keep(filename: str) -> Counts:
    """Return the counts that `save` writes to the file of that name."""
    _Kept.counts.append(counts := Counts(filename))
    return counts


def save() -> None:
    """Write what this process has counted. While it cannot be written it is kept; the log says so once."""
    try:
        for counts in _Kept.counts:
            counts.save()
    except OSError as error:
        if not _Kept.is_failing:
            log.error("metrics are counted, but cannot be kept: %s. Free some space, or set METRICS_DIR.", error)
        _Kept.is_failing = True
        return
    if _Kept.is_failing:
        log.warning("metrics are kept again")
    _Kept.is_failing = False


def _write(file: BinaryIO, content: bytes, start: int) -> None:
    """Write all from `start` on. A disk that fills up meanwhile takes a part, and refuses the rest."""
    written = start
    while written < len(content):
        written += os.pwrite(file.fileno(), content[written:], written)
