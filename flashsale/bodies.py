"""The bodies of requests, read whole before a view is called: no view and no thread waits for a slow client.

What a worker holds of them is bounded in all. When there is no room for more, the body goes that has been unfinished
for longest: that is the one of who keeps bodies back to fill the memory. A shopper's comes whole, in one packet, and
small ones of those are not even counted.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from flashsale.lane_request import LaneRequest

if TYPE_CHECKING:
    from flashsale.exchange import Exchange

LARGEST_BYTES = 8 * 1024
WITHIN_SECONDS = 5
MOST_BYTES = 32 * 1024 * 1024
# One that comes whole and is no larger takes less than its head does.
SMALL_BYTES = 1024

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]


class BodyTooLarge(Exception):
    """The request's body is longer than is taken. The message, if any, says it in words of its own."""


class ClientGone(Exception):
    """The client left before its request was whole: nothing may be decided."""


class NoRoom(Exception):
    """This worker holds as many bodies as it may. The message, if any, says it in words of its own."""

    wait_seconds = 1


class Held:
    """What is held of one body."""

    total_bytes = 0
    _unfinished: "dict[Held, asyncio.Timeout]" = {}

    def __init__(self) -> None:
        self.bytes = 0
        self.is_given_up = False

    def __enter__(self) -> "Held":
        return self

    def __exit__(self, *error: object) -> None:
        self.release()

    def begin(self, limit: asyncio.Timeout) -> None:
        """Be given up, by way of `limit`, if there is no room for the others."""
        Held._unfinished[self] = limit

    def finish(self) -> None:
        Held._unfinished.pop(self, None)

    def grow(self, count: int) -> None:
        """Count more bytes. Raises NoRoom."""
        while Held.total_bytes + count > MOST_BYTES:
            oldest = next(iter(Held._unfinished), self)
            if oldest is self:
                raise NoRoom
            oldest._give_up()
        self.bytes += count
        Held.total_bytes += count

    def release(self) -> None:
        self.finish()
        Held.total_bytes -= self.bytes
        self.bytes = 0

    def _give_up(self) -> None:
        limit = Held._unfinished.pop(self)
        self.is_given_up = True
        if not limit.expired():
            limit.reschedule(0)
        self.release()


async def take(request: LaneRequest, exchange: "Exchange | None", receive: Receive) -> bytes:
    """Return the whole body of a request. Raises BodyTooLarge as soon as it is, TimeoutError, ClientGone, NoRoom.

    Most often all of it is there already: a timer costs more than the rest of this.
    """
    body = exchange.take_body() if exchange else None
    if body is not None and len(body) <= SMALL_BYTES:
        return body
    if body is None:
        request.lighten()
    if exchange is None:  # another server than ours
        with Held() as held:
            return await _counted(held, body, receive)
    exchange.held = Held()
    return await _counted(exchange.held, body, receive)


async def _counted(held: Held, body: bytes | None, receive: Receive) -> bytes:
    if body is None:
        return await _rest(held, receive)
    if len(body) > LARGEST_BYTES:
        raise BodyTooLarge
    held.grow(len(body))
    return body


async def _rest(held: Held, receive: Receive) -> bytes:
    """Return the body as it comes in, at the latest when it is too large."""
    body, is_whole = bytearray(), False
    try:
        async with asyncio.timeout(WITHIN_SECONDS) as limit:
            held.begin(limit)
            while not is_whole:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientGone
                piece = message.get("body", b"")
                if len(body) + len(piece) > LARGEST_BYTES:
                    raise BodyTooLarge
                held.grow(len(piece))
                body += piece
                is_whole = not message.get("more_body")
    except TimeoutError:
        if held.is_given_up:
            raise NoRoom from None
        raise
    finally:
        held.finish()
    return bytes(body)


def replay(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives a body which was read already."""
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> Message:
        return messages.pop() if messages else await receive()

    return receive_again
