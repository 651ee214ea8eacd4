"""Long bodies of answers, sent in pieces: what a client has not read yet is in nobody's memory a second time."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

# A connection holds two of them at most: one that waits, and the one that is written.
PIECE_BYTES = 32 * 1024

# Of their own: the loop's other threads may all wait for a database that hangs.
_THREADS = ThreadPoolExecutor(4, "files")

Read = TypeVar("Read")


async def in_thread(read: Callable[..., Read], *arguments: Any) -> Read:
    """Return what a function reads from a file, in one of the threads for files."""
    return await asyncio.get_running_loop().run_in_executor(_THREADS, read, *arguments)


class FileBody:
    """The content of a file that never changes. Nothing is open between two pieces, however slowly they are read."""

    def __init__(self, path: Path, size: int):
        self._path, self._size = path, size

    def __len__(self) -> int:
        return self._size

    def read(self, start: int) -> bytes:
        with self._path.open("rb", buffering=0) as file:
            return os.pread(file.fileno(), PIECE_BYTES, start)


class OpenFileBody(FileBody):
    """The content of an open file, which whoever has opened it closes."""

    def __init__(self, descriptor: int, size: int):
        self._descriptor, self._size = descriptor, size

    def read(self, start: int) -> bytes:
        return os.pread(self._descriptor, PIECE_BYTES, start)


Body = bytes | FileBody


async def pieces(body: Body) -> AsyncIterator[bytes | memoryview]:
    """Yield the body piece by piece: slices of what is in memory, or what a thread reads. Raises OSError."""
    whole = memoryview(body) if isinstance(body, bytes) else None
    for start in range(0, len(body), PIECE_BYTES):
        if isinstance(body, FileBody):
            piece = await in_thread(body.read, start)
            if len(piece) != min(PIECE_BYTES, len(body) - start):
                raise OSError(f"the file ends before its {len(body)} bytes")
            yield piece
        elif whole:
            yield whole[start : start + PIECE_BYTES]
