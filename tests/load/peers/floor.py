"""The floor: what uvicorn costs when the application does nothing. `uvicorn tests.load.peers.floor:app`."""

from collections.abc import Awaitable, Callable
from typing import Any

START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"text/plain"), (b"content-length", b"2")],
}
BODY = {"type": "http.response.body", "body": b"ok"}


async def app(scope: dict[str, Any], receive: Callable[..., Any], send: Callable[..., Awaitable[None]]) -> None:
    await send(START)
    await send(BODY)
