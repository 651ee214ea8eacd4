"""One request and its response, as the protocol makes it for the application."""

import asyncio
import logging
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from flashsale import uploads
from flashsale.pieces import Body, pieces
from sales.headers import OF_DATA, Headers

if TYPE_CHECKING:
    from flashsale.bodies import Held
    from flashsale.protocol import LaneProtocol

# Where the lane finds it in the ASGI scope.
EXCHANGE = "flashsale.exchange"
SERVER_ERROR = b"Internal Server Error"
_OF_TEXT = Headers({"Content-Type": "text/plain; charset=utf-8", **OF_DATA})

DefaultHeaders = list[tuple[bytes, bytes]]


class Exchange(RequestResponseCycle):
    """One request and its response.

    uvicorn sets all of this anew for each request, and makes an event that only a body which is late has use for.
    """

    logger = access_logger = logging.getLogger("uvicorn.error")
    access_log = disconnected = response_started = response_complete = False
    more_body = True
    body: bytes = b""  # type: ignore[assignment]
    chunked_encoding = None
    expected_content_length = 0
    _is_body_taken = False
    task: asyncio.Task[None]
    held: "Held | None" = None

    @staticmethod
    def on_response() -> None:
        """Do nothing: once its request has ended, an exchange has no protocol to tell."""

    def __init__(self, protocol: "LaneProtocol", scope: dict[str, Any], keep_alive: bool):
        self.scope, self.keep_alive = scope, keep_alive  # type: ignore[assignment]
        self.transport, self.flow = protocol.transport, protocol.flow
        self.default_headers = protocol.server_state.default_headers
        self.on_response = protocol.on_response_complete  # type: ignore[method-assign]
        self.waiting_for_100_continue = protocol.expect_100_continue

    @cached_property
    def message_event(self) -> asyncio.Event:  # type: ignore[override]
        """uvicorn's event of news for `receive`, made when somebody waits for them."""
        event = asyncio.Event()
        if (self.body or not self.more_body) and not self._is_body_taken:
            event.set()
        return event

    @cached_property
    def may_be_large(self) -> bool:
        """Whether more of the body is to be kept than everybody may send."""
        return uploads.is_proven(self.scope)  # type: ignore[arg-type]

    def tell(self) -> None:
        """Wake up who waits for news."""
        if event := self.__dict__.get("message_event"):
            event.set()

    def take_body(self) -> bytes | None:
        """Return the request's body if all of it is here, for once; else None, and `receive` brings it."""
        if self.more_body or self.disconnected:
            return None
        body, self.body, self._is_body_taken = self.body, b"", True
        return body

    def respond(self, status: int, head: bytes, body: bytes, successor: Any = None) -> None:
        """Send a whole response in one write. `head` is its header lines as they go on the wire, content-length too.

        A `successor`, whose method `take_over` gets the connection, goes on with a body without a length or an end.
        Wait until `flow` is not paused before: a client that does not read must not fill the memory.
        """
        if self.disconnected or self.transport.is_closing():
            self.disconnected = True
            return
        if self.scope["method"] == "HEAD":
            body, successor = b"", None
        self.keep_alive = self.keep_alive and not successor
        closing = b"" if self.keep_alive else b"connection: close\r\n"
        defaults = _default_lines(self.default_headers)
        self.transport.write(b"%b%b%b%b\r\n%b" % (STATUS_LINE[status], defaults, head, closing, body))
        self._complete(successor)

    async def respond_in_pieces(self, status: int, head: bytes, body: Body) -> None:
        """Send a whole response whose body is long: each piece when the client has read most of those before it.

        Raises OSError when the body cannot be read to its end; the connection is of no use then.
        """
        if self.disconnected or self.transport.is_closing() or self.scope["method"] == "HEAD":
            self.respond(status, head, b"")
            return
        closing = b"" if self.keep_alive else b"connection: close\r\n"
        defaults = _default_lines(self.default_headers)
        self.transport.write(b"%b%b%b%b\r\n" % (STATUS_LINE[status], defaults, head, closing))
        self.response_started = True
        async for piece in pieces(body):
            if self.flow.write_paused:
                await self.flow.drain()
            if self.disconnected or self.transport.is_closing():
                self.disconnected = True
                return
            self.transport.write(piece)
        self._complete()

    def _complete(self, successor: Any = None) -> None:
        self.response_started = self.response_complete = True
        self.waiting_for_100_continue = False
        self.tell()
        if successor:
            cast("LaneProtocol", self.transport.get_protocol()).leave_to(successor)
            return
        if not self.keep_alive:
            self.transport.close()
        self.on_response()

    def fail(self, what: str, error: BaseException | None = None) -> None:
        """Log what went wrong, and answer in the application's place; if it has begun to, close the connection."""
        self.logger.error(what, exc_info=error)
        self.keep_alive = False
        if self.response_started:
            self.transport.close()
        else:
            self.respond(500, head_of(SERVER_ERROR), SERVER_ERROR)


class _Latest:
    """The default headers as they were seen last, and their lines: uvicorn makes new ones once a second."""

    headers: DefaultHeaders | None = None
    lines = b""


def _default_lines(headers: DefaultHeaders) -> bytes:
    if _Latest.headers is not headers:
        _Latest.lines = b"".join(b"%b: %b\r\n" % header for header in headers)
        _Latest.headers = headers
    return _Latest.lines


def head_of(text: bytes) -> bytes:
    """Return the header lines of an answer that no view has made."""
    return _OF_TEXT.lines + b"content-length: %d\r\n" % len(text)
