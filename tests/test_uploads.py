"""Uploads whose disk fills up: the place that was kept for them is given back."""

import errno
import tempfile
from typing import Any

import pytest

from flashsale import uploads
from flashsale.bodies import Message

pytestmark = pytest.mark.pure


class FullDisk:
    """A file that takes what it is given into a buffer, which the disk then refuses."""

    def write(self, piece: bytes) -> int:
        return len(piece)

    def flush(self) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    close = flush


@pytest.mark.parametrize("pieces", [[b"a" * 9000], [b"a" * 9000, b"b"]])
async def test_a_full_disk_gives_the_place_of_an_upload_back(pieces: list[bytes], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tempfile, "TemporaryFile", FullDisk)
    messages: list[Message] = [
        {"type": "http.request", "body": piece, "more_body": number + 1 < len(pieces)}
        for number, piece in enumerate(pieces)
    ]

    async def receive() -> Message:
        return messages.pop(0)

    scope: dict[str, Any] = {"path": "/", "headers": [(b"content-length", b"9001")]}
    with pytest.raises(uploads.TooManyUploads):
        await uploads.take(uploads.BOUNDS[0], scope, receive)

    assert uploads.Upload._reserved_bytes == 0
