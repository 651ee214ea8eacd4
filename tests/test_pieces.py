"""Long bodies in pieces: what a client that does not read makes its connection hold."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from uvicorn.protocols.http.flow_control import FlowControl

from flashsale.exchange import Exchange
from flashsale.pieces import PIECE_BYTES, FileBody, OpenFileBody, pieces

pytestmark = pytest.mark.pure

CONTENT = bytes(range(256)) * 1000


class Transport:
    """A transport whose client reads nothing until it is told to."""

    def __init__(self) -> None:
        self.written = bytearray()

    def write(self, data: Any) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return False


class Protocol:
    """What an exchange knows of its connection."""

    expect_100_continue = False
    server_state = type("State", (), {"default_headers": []})()

    def __init__(self) -> None:
        self.transport = Transport()
        self.flow = FlowControl(self.transport)  # type: ignore[arg-type]
        self.completed = 0

    def on_response_complete(self) -> None:
        self.completed += 1


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    path = tmp_path / "content"
    path.write_bytes(CONTENT)
    return path


async def test_each_piece_waits_until_those_before_are_read():
    protocol = Protocol()
    exchange = Exchange(protocol, {"method": "GET"}, True)  # type: ignore[arg-type]
    protocol.flow.pause_writing()

    sending = asyncio.create_task(exchange.respond_in_pieces(200, b"", CONTENT))
    await asyncio.sleep(0.05)
    unread_bytes = len(protocol.transport.written)
    protocol.flow.resume_writing()
    await sending

    assert unread_bytes < 100, "more than the head was written"
    assert bytes(protocol.transport.written).endswith(CONTENT)
    assert protocol.completed == 1


async def test_pieces_of_shared_bytes_are_no_copies():
    found = [piece async for piece in pieces(CONTENT)]

    assert {piece.obj for piece in found if isinstance(piece, memoryview)} == {CONTENT}
    assert max(map(len, found)) == PIECE_BYTES
    assert b"".join(found) == CONTENT


async def test_a_file_is_read_in_pieces(stored: Path):
    with stored.open("rb") as file:
        for body in (FileBody(stored, len(CONTENT)), OpenFileBody(file.fileno(), len(CONTENT))):
            found = [piece async for piece in pieces(body)]

            assert b"".join(found) == CONTENT
            assert max(map(len, found)) == PIECE_BYTES


async def test_a_file_that_was_cut_is_an_error(stored: Path):
    body = FileBody(stored, len(CONTENT) + 1)

    with pytest.raises(OSError, match="ends before"):
        [piece async for piece in pieces(body)]


async def test_files_are_read_while_the_other_threads_all_wait(stored: Path):
    """As they do where a database hangs."""
    is_over = threading.Event()
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    waits = asyncio.ensure_future(asyncio.to_thread(is_over.wait, 60))
    try:
        found = [bytes(piece) async for piece in pieces(FileBody(stored, stored.stat().st_size))]
        assert not waits.done()
    finally:
        is_over.set()
        await waits

    assert b"".join(found) == stored.read_bytes()
