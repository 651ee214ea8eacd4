"""Which connections are closed because their clients do not read, by what the kernel tells of each."""

import socket

import pytest

from flashsale import stalls

pytestmark = pytest.mark.pure


class Reader:
    """A connection with more to send; its client has acknowledged so many bytes."""

    def __init__(self) -> None:
        self.transport = self
        self.acknowledged = 0
        self.is_cut_off = False
        self._socket = socket.socket()

    def get_write_buffer_size(self) -> int:
        return 1

    def get_extra_info(self, name: str) -> socket.socket:
        return self._socket

    def abort(self) -> None:
        self.is_cut_off = True
        self._socket.close()


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> Reader:
    """A client that is to make progress between any two looks."""
    monkeypatch.setattr(stalls, "AFTER_SECONDS", 0)
    monkeypatch.setattr(stalls, "_acknowledged", lambda transport: transport.acknowledged)
    return Reader()


@pytest.mark.parametrize(
    ("read_bytes", "is_cut_off"), [(0, True), (1, True), (stalls.LEAST_BYTES - 1, True), (stalls.LEAST_BYTES, False)]
)
async def test_a_client_that_reads_too_little_is_cut_off(reader: Reader, read_bytes: int, is_cut_off: bool):
    marks = await stalls._look([reader], {})
    reader.acknowledged += read_bytes
    await stalls._look([reader], marks)

    assert reader.is_cut_off is is_cut_off
