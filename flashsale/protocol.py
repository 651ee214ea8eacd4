"""HTTP on the wire: uvicorn's httptools protocol, but for what it does to each request that the lane has no use for.

Django's side speaks ASGI, as with uvicorn. The lane finds the exchange in the ASGI scope, under EXCHANGE, and by plain
calls takes the request's body and sends the whole response: two messages of ASGI would be two system calls, and a check
of headers that only the lane writes.
"""

import asyncio
import logging
from collections.abc import Callable
from functools import cached_property, lru_cache
from typing import Any, cast
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

EXCHANGE = "flashsale.exchange"
_ASGI = {"version": "3.0", "spec_version": "2.3"}
# Longer addresses are not kept: a thousand of them would take too much memory.
LONGEST_KEPT_URL = 200
# Nobody honest asks for so much on one connection before the first answer.
MOST_QUEUED = 100
NO_UPGRADE = b"This server speaks HTTP/1.1 alone. Send the request again, without the header Upgrade."

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

    def __init__(self, protocol: "LaneProtocol", scope: dict[str, Any], keep_alive: bool):
        self.scope, self.keep_alive = scope, keep_alive  # type: ignore[assignment]
        self.transport, self.flow = protocol.transport, protocol.flow
        self.default_headers = protocol.server_state.default_headers
        self.on_response = protocol.on_response_complete
        self.waiting_for_100_continue = protocol.expect_100_continue

    @cached_property
    def message_event(self) -> asyncio.Event:  # type: ignore[override]
        """uvicorn's event of news for `receive`, made when somebody waits for them."""
        event = asyncio.Event()
        if (self.body or not self.more_body) and not self._is_body_taken:
            event.set()
        return event

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
        self.response_started = self.response_complete = True
        self.waiting_for_100_continue = False
        self.tell()
        if successor:
            cast(LaneProtocol, self.transport.get_protocol()).leave_to(successor)
            return
        if not self.keep_alive:
            self.transport.close()
        self.on_response()


class _Latest:
    """The default headers as they were seen last, and their lines: uvicorn makes new ones once a second."""

    headers: DefaultHeaders | None = None
    lines = b""


def _default_lines(headers: DefaultHeaders) -> bytes:
    if _Latest.headers is not headers:
        _Latest.lines = b"".join(b"%b: %b\r\n" % header for header in headers)
        _Latest.headers = headers
    return _Latest.lines


async def _refuse_upgrade(scope: dict[str, Any], receive: Any, send: Any) -> None:
    head = b"content-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\n" % len(NO_UPGRADE)
    scope[EXCHANGE].respond(400, head, NO_UPGRADE)


def _parse(url: bytes) -> tuple[str, bytes, bytes]:
    """Return a request target's path, the path as it was sent, and the query."""
    parsed = httptools.parse_url(url)
    path = parsed.path.decode("ascii")
    return unquote(path) if "%" in path else path, parsed.path, parsed.query or b""


_parse_again = lru_cache(maxsize=1000)(_parse)


class LaneProtocol(HttpToolsProtocol):
    """uvicorn's protocol with exchanges of our own, and one keep-alive timer per connection instead of per response."""

    cycle: Exchange
    _running: Exchange | None = None
    _is_over = False
    _idle_since: float | None = None

    def data_received(self, data: bytes) -> None:
        """Read on, unless what comes now would be in another protocol."""
        if not self._is_over:
            super().data_received(data)

    def on_message_begin(self) -> None:
        self._idle_since = None
        self.url = b""
        self.expect_100_continue = False
        self.headers = []

    def on_headers_complete(self) -> None:
        version = self.parser.get_http_version()
        path, raw_path, query = _parse_again(self.url) if len(self.url) <= LONGEST_KEPT_URL else _parse(self.url)
        scope: dict[str, Any] = {
            "type": "http",
            "asgi": _ASGI,
            "http_version": version,
            "server": self.server,
            "client": self.client,
            "scheme": self.scheme,
            "method": self.parser.get_method().decode("ascii"),
            "root_path": "",
            "path": path,
            "raw_path": raw_path,
            "query_string": query,
            "headers": self.headers,
        }
        app: Callable[..., Any] = self.app
        if self.parser.should_upgrade():  # the parser ends here, and passes the body over
            self._is_over = True
            app = _refuse_upgrade if self._has_body() else app
        keep_alive = version != "1.0" and self.parser.should_keep_alive() and not self._is_over
        earlier, self.cycle = self.cycle, Exchange(self, scope, keep_alive)
        if earlier is None or earlier.response_complete:
            self._start_asgi_task(self.cycle, app)
        elif len(self.pipeline) < MOST_QUEUED:
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, app))
        else:
            self.transport.close()

    def _has_body(self) -> bool:
        kinds = (b"content-length", b"transfer-encoding")
        return any(name in kinds and value != b"0" for name, value in self.headers)

    def on_body(self, body: bytes) -> None:
        exchange = self.cycle
        if exchange.response_complete:
            return
        exchange.body += body
        if len(exchange.body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        exchange.tell()

    def on_message_complete(self) -> None:
        exchange = self.cycle
        if not exchange.response_complete:
            exchange.more_body = False
            exchange.tell()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Callable[..., Any]) -> None:
        """Run the application. Who stops the server waits for `tasks`; a callback of each task would cost more."""
        exchange = cast(Exchange, cycle)
        exchange.scope[EXCHANGE] = self._running = exchange  # type: ignore[literal-required]
        exchange.task = self.loop.create_task(self._run(exchange, app))
        self.tasks.add(exchange.task)

    async def _run(self, exchange: Exchange, app: Callable[..., Any]) -> None:
        try:
            await exchange.run_asgi(app)
        finally:
            self.tasks.discard(exchange.task)
            # They refer to each other: without this a garbage collection would have to find each pair.
            del exchange.scope[EXCHANGE]  # type: ignore[misc]

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        if self.pipeline:  # what else was sent waits in the network, not in our memory
            self._start_asgi_task(*self.pipeline.pop())
            return
        self.flow.resume_reading()
        self._idle_since = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self._look_again(self.timeout_keep_alive)

    def _look_again(self, seconds: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(seconds, self.timeout_keep_alive_handler)

    def timeout_keep_alive_handler(self) -> None:
        """Close the connection if it is idle for as long as it may be; else look again when it could be."""
        idle_seconds = 0.0 if self._idle_since is None else self.loop.time() - self._idle_since
        if idle_seconds < self.timeout_keep_alive:
            self._look_again(self.timeout_keep_alive - idle_seconds)
        else:
            super().timeout_keep_alive_handler()

    def _unset_keepalive_if_required(self) -> None:
        """Do nothing: uvicorn calls it at each request."""

    def leave_to(self, successor: Any) -> None:
        """Give the connection away: HTTP is over on it."""
        self.connections.discard(self)
        super()._unset_keepalive_if_required()
        self.flow.resume_reading()
        successor.take_over(self.transport, self.connections)

    def connection_lost(self, exc: Exception | None) -> None:
        self.pipeline.clear()
        if self._running and not self._running.response_complete:  # which is not the latest when several were sent
            self._running.disconnected = True
            self._running.tell()
        super().connection_lost(exc)
        super()._unset_keepalive_if_required()
