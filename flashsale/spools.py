"""Bodies of Django's answers between the thread that makes them and the lane that sends them."""

import tempfile
from contextlib import suppress
from threading import Lock
from types import TracebackType
from typing import IO

from flashsale.pieces import Body, OpenFileBody

# A page stays in memory while there is room for all that wait. What is longer goes to disk, an export for instance.
LARGEST_IN_MEMORY_BYTES = 1024 * 1024
MOST_IN_MEMORY_BYTES = 32 * 1024 * 1024
# An export of 10,000,000 orders.
LARGEST_BYTES = 2 * 1024 * 1024 * 1024


class NoRoom(Exception):
    """The body is too long, or the disk is full."""


class Spool:
    """A body that is written whole by one thread, and then read, until `with` ends."""

    _lock = Lock()
    # Of all spools of this worker.
    _in_memory_bytes = 0

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._kept_bytes = 0
        self._file: IO[bytes] | None = None
        self.size = 0

    def __enter__(self) -> "Spool":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._forget()
        if self._file:
            with suppress(OSError):  # what a full disk has not taken is tried again
                self._file.close()

    def write(self, part: bytes) -> None:
        """Add to the body. Raises NoRoom."""
        self.size += len(part)
        if self.size > LARGEST_BYTES:
            raise NoRoom(f"an answer has more than {LARGEST_BYTES} bytes")
        if self._file is None and self._keep(part):
            return
        try:
            self._file = self._file or self._on_disk()
            self._file.write(part)
        except OSError as error:
            raise NoRoom(f"an answer of {self.size} bytes found no room on the disk: {error}") from error

    def body(self) -> Body:
        """Return what was written. Raises NoRoom."""
        if self._file is None:
            return self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        try:
            self._file.flush()
        except OSError as error:
            raise NoRoom(f"an answer of {self.size} bytes found no room on the disk: {error}") from error
        return OpenFileBody(self._file.fileno(), self.size)

    def _keep(self, part: bytes) -> bool:
        """Keep a part in memory, and return whether there was room."""
        with Spool._lock:
            if self.size > LARGEST_IN_MEMORY_BYTES or Spool._in_memory_bytes + len(part) > MOST_IN_MEMORY_BYTES:
                return False
            Spool._in_memory_bytes += len(part)
        self._kept_bytes += len(part)
        self._parts.append(part)
        return True

    def _on_disk(self) -> IO[bytes]:
        """Return a file that has no name, and begins with what was kept."""
        file = tempfile.TemporaryFile()  # noqa: SIM115 (closed by __exit__)
        try:
            file.writelines(self._parts)
        except OSError:
            with suppress(OSError):
                file.close()
            raise
        self._forget()
        return file

    def _forget(self) -> None:
        with Spool._lock:
            Spool._in_memory_bytes -= self._kept_bytes
        self._parts, self._kept_bytes = [], 0
