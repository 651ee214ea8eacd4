"""The bodies of requests, read whole before a view is called: no view and no thread waits for a slow client."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from flashsale.exchange import Exchange
from sales import refusals

LARGEST_BYTES = 8 * 1024
WITHIN_SECONDS = 5
# Where operators upload pictures.
DESK_PREFIX = "/admin/"
LARGEST_DESK_BYTES = 10 * 1024 * 1024
DESK_WITHIN_SECONDS = 30

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]


class BodyTooLarge(Exception):
    """The request's body is longer than is taken. The message, if any, says it in words of its own."""


class ClientGone(Exception):
    """The client left before its request was whole: nothing may be decided."""


async def take(path: str, exchange: Exchange | None, receive: Receive) -> bytes:
    """Return the whole body of a request to this path. Raises BodyTooLarge as soon as it is, TimeoutError, ClientGone.

    Most often all of it is there already: a timer costs more than the rest of this.
    """
    if path.startswith(DESK_PREFIX):
        largest_bytes, within_seconds, words = LARGEST_DESK_BYTES, DESK_WITHIN_SECONDS, refusals.FORM_TOO_LARGE
    else:
        largest_bytes, within_seconds, words = LARGEST_BYTES, WITHIN_SECONDS, ""
    body = exchange.take_body() if exchange else None
    if body is None:
        async with asyncio.timeout(within_seconds):
            body = await _rest(receive, largest_bytes)
    if len(body) > largest_bytes:
        raise BodyTooLarge(words)
    return body


async def _rest(receive: Receive, largest_bytes: int) -> bytes:
    """Return the body as it comes in, at the latest when it is too large."""
    body, is_whole = bytearray(), False
    while not is_whole and len(body) <= largest_bytes:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        body += message.get("body", b"")
        is_whole = not message.get("more_body")
    return bytes(body)


def replay(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives a body which was read already."""
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> Message:
        return messages.pop() if messages else await receive()

    return receive_again
