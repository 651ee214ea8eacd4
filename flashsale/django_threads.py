"""Django behind the lane: in a few threads, none of which waits for a client.

A thread gets a request whole, gives its whole answer, and is free; the lane sends the answer as the client reads it.
"""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from contextvars import copy_context
from http import HTTPStatus
from typing import Any, cast

from a2wsgi.wsgi import Body, build_environ

from flashsale.bodies import Message, Receive
from flashsale.exchange import EXCHANGE, Exchange
from flashsale.lane_request import Scope
from flashsale.pieces import pieces
from flashsale.spools import NoRoom, Spool
from sales import refusals

# Of each thread. Their turn comes within seconds; whoever asks later is told at once to come again.
MOST_WAITING = 12

_WITHOUT_LENGTH = (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)

log = logging.getLogger(__name__)


class Unanswered(Exception):
    """Django has not answered, and nothing was sent. The message says why, in the catalogue's words."""


class _Answer(Spool):
    """What a WSGI application has answered."""

    status = 0
    headers: list[tuple[bytes, bytes]]

    def start(self, status: str, headers: list[tuple[str, str]], error: object = None) -> Any:
        """Take status and headers, as PEP 3333 has it; nothing was sent, so that a later call may change them."""
        self.status = int(status[:3])
        self.headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        return self.write


class DjangoThreads:
    """An ASGI application that asks a WSGI application, in at most so many threads."""

    def __init__(self, application: Callable[..., Any], threads: int):
        self._application = application
        self._executor = ThreadPoolExecutor(threads, "Django")
        self._most = threads * (1 + MOST_WAITING)
        # Requests that have a thread, or wait for one.
        self.held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Any) -> None:
        """Answer, or raise Unanswered before anything was sent."""
        if self.held >= self._most:
            raise Unanswered(refusals.TOO_BUSY)
        loop = asyncio.get_running_loop()
        environ = build_environ(cast(Any, scope), Body(loop, cast(Any, receive)))
        self.held += 1
        try:
            answer = await loop.run_in_executor(self._executor, copy_context().run, self._ask, environ)
        except NoRoom as error:
            log.error("%s", error)
            raise Unanswered(refusals.NO_ROOM) from None
        finally:
            self.held -= 1
        with answer:
            await _send(answer, scope["method"], scope.get(EXCHANGE), send)

    def _ask(self, environ: Any) -> _Answer:
        """Return the application's whole answer. Raises NoRoom."""
        answer = _Answer()
        try:
            with closing(self._application(environ, answer.start)) as parts:
                for part in parts:
                    answer.write(part)
            answer.body()
        except BaseException:
            answer.close()
            raise
        return answer


async def _send(answer: _Answer, method: str, exchange: Exchange | None, send: Any) -> None:
    headers = answer.headers
    if answer.status not in _WITHOUT_LENGTH and not any(name == b"content-length" for name, _ in headers):
        headers = [*headers, (b"content-length", b"%d" % answer.size)]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    if method != "HEAD":
        async for piece in pieces(answer.body()):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            if exchange and exchange.disconnected:
                return
    await send(Message(type="http.response.body", body=b""))
