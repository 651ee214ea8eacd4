"""Connections that do not read are closed: no answer waits for ever, whether the lane, Django or a stream gives it.

The worker looks at all its connections a few times in `AFTER_SECONDS`. Where bytes wait in our own memory, the kernel
tells how many the client has acknowledged so far (TCP_INFO). That number rises however slowly the client reads, and
whatever else is written meanwhile. Only Linux tells it; elsewhere no connection is closed for this.
"""

import asyncio
import logging
import socket
import struct
import time
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager, suppress
from typing import Any

from flashsale.pieces import PIECE_BYTES

AFTER_SECONDS = 10.0
# Fewer than so many in that time are no progress, either: a byte now and then would hold a connection for ever.
LEAST_BYTES = 1024
_LOOKS = 5
# Between so many connections the loop sees to others.
_AT_ONCE = 500
# tcpi_bytes_acked in Linux's struct tcp_info (linux/tcp.h).
_ACKNOWLEDGED_AT = 120
_UNREAD_IS_FORGOTTEN = struct.pack("ii", 1, 0)

log = logging.getLogger(__name__)

# How many bytes a client had acknowledged, and when it had last made progress.
Marks = dict[Any, tuple[int, float]]


def keep_little_in_the_kernel(listener: socket.socket) -> None:
    """Have the kernel keep at most a piece unsent for each connection of the listener.

    By itself it copies megabytes for one that does not read, and what it holds looks written from here.
    """
    if listener.family != socket.AF_UNIX and hasattr(socket, "TCP_NOTSENT_LOWAT"):
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, PIECE_BYTES)


@asynccontextmanager
async def closed(connections: Collection[Any]) -> AsyncIterator[None]:
    """Close those of `connections` that do not read. Each has a `transport`."""
    if not hasattr(socket, "TCP_INFO"):
        yield
        return
    task = asyncio.create_task(_look_for_ever(connections))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _look_for_ever(connections: Collection[Any]) -> None:
    marks: Marks = {}
    while True:
        await asyncio.sleep(AFTER_SECONDS / _LOOKS)
        try:
            marks = await _look(list(connections), marks)
        except Exception:  # a defect: the next look must still come
            log.exception("connections that do not read were not looked for")


async def _look(connections: list[Any], marks: Marks) -> Marks:
    """Close who has made no progress for too long, and return the marks of who still has something to read."""
    found: Marks = {}
    for start in range(0, len(connections), _AT_ONCE):
        now = time.monotonic()
        for connection in connections[start : start + _AT_ONCE]:
            transport = connection.transport
            if not transport.get_write_buffer_size() or (acknowledged := _acknowledged(transport)) is None:
                continue
            before, since = marks.get(connection, (-LEAST_BYTES, now))
            if acknowledged - before >= LEAST_BYTES:
                found[connection] = acknowledged, now
            elif now - since < AFTER_SECONDS:
                found[connection] = before, since
            else:
                cut(transport)
        await asyncio.sleep(0)
    return found


def _acknowledged(transport: asyncio.Transport) -> int | None:
    """Return how many bytes the client has acknowledged; None on a Unix socket, where only a proxy of ours asks."""
    try:
        found = transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _ACKNOWLEDGED_AT + 8)
    except OSError:
        return None
    return int(struct.unpack_from("=Q", found, _ACKNOWLEDGED_AT)[0])


def cut(transport: asyncio.Transport) -> None:
    """Reset the connection: an ordinary close would wait for the client to read, in our memory and in the kernel's."""
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _UNREAD_IS_FORGOTTEN)
    transport.abort()
