"""HTTP on the wire: uvicorn's httptools protocol, but for what it does to each request that the lane has no use for.

Django's side speaks ASGI, as with uvicorn. The lane finds the exchange in the ASGI scope, under EXCHANGE, and by plain
calls takes the request's body and sends the whole response: two messages of ASGI would be two system calls, and a check
of headers that only the lane writes.
"""

import asyncio
from collections.abc import Callable
from functools import lru_cache
from typing import Any, cast
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from flashsale import bodies, framing
from flashsale.closing import ClosingProtocol
from flashsale.exchange import EXCHANGE, Exchange, head_of
from flashsale.framing import LARGEST_FRAMING_BYTES, LARGEST_HEAD_BYTES, MOST_HEADERS
from flashsale.pieces import PIECE_BYTES

_ASGI = {"version": "3.0", "spec_version": "2.3"}
# Longer addresses are not kept: a thousand of them would take too much memory.
LONGEST_KEPT_URL = 200
# What waits behind the first answer. Nobody honest asks for so much on one connection.
MOST_QUEUED_BYTES = 32 * 1024
# uvloop hands over up to 256 KB: what is over a bound is noticed before all of them are parsed.
PARSED_BYTES = 2 * 1024
# A chunk of this size pays for the bytes around it.
LARGE_CHUNK_BYTES = 1024
_SLASH = ord("/")
_LOOKED_AT = frozenset((b"expect", b"transfer-encoding"))


def _refusing(refused: framing.Refused) -> Callable[..., Any]:
    """Return an application that says so."""

    async def refuse(scope: dict[str, Any], receive: Any, send: Any) -> None:
        scope[EXCHANGE].respond(refused.status, head_of(refused.text), refused.text)

    return refuse


def _parse(url: bytes) -> tuple[str, bytes, bytes]:
    """Return a request target's path, the path as it was sent, and the query. Raises Refused for a fragment."""
    if b"#" in url:
        raise framing.Refused
    parsed = httptools.parse_url(url)
    path = parsed.path.decode("ascii")
    return unquote(path) if "%" in path else path, parsed.path, parsed.query or b""


_parse_again = lru_cache(maxsize=1000)(_parse)


class LaneProtocol(ClosingProtocol):
    """uvicorn's protocol with exchanges of our own, and one keep-alive timer per connection instead of per response."""

    cycle: Exchange
    _running: Exchange | None = None
    # Nothing more is read: what comes now is in another protocol, or cannot be read, or nothing comes.
    _is_over = False
    _has_coding = False
    # What came since the packet in which the head began; of a body what was framing alone.
    _framing_bytes = 0
    _queued_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=PIECE_BYTES)

    def data_received(self, data: bytes) -> None:
        """Read on. What cannot be read is answered and not logged: a stranger could fill the log with it."""
        if self._is_over:
            return
        if len(data) > PARSED_BYTES:
            for start in range(0, len(data), PARSED_BYTES):
                self.data_received(data[start : start + PARSED_BYTES])
            return
        self._framing_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._is_over = True
        except httptools.HttpParserError as error:
            self._refuse(framing.refusal(error))
        else:
            if self._head_since is not None:
                self._bound_head()
            elif self._framing_bytes > LARGEST_FRAMING_BYTES:
                self._refuse(framing.FramingTooLarge())

    def _bound_head(self) -> None:
        if self._framing_bytes > LARGEST_HEAD_BYTES or len(self.headers) > MOST_HEADERS:
            self._refuse(framing.HeadTooLarge())
        else:
            super()._bound_head()

    def eof_received(self) -> bool:  # type: ignore[override]
        """Keep the connection open while answers are due to a client that has sent all that it had to send."""
        self._is_over = True
        latest = self.cycle
        if latest and latest.more_body:  # it stays in pieces
            if self.pipeline:
                self.pipeline.popleft()
            else:
                latest.disconnected = True
                latest.tell()
                return False
        return bool(self._running and not self._running.response_complete)

    def _refuse(self, refused: framing.Refused) -> None:
        """Answer what cannot be read when its turn comes, and close.

        Where it is the rest of a request that has come in parts, that request is not decided, and has no other answer.
        """
        self._is_over = True
        latest, app = self.cycle, _refusing(refused)
        is_part = latest and latest.more_body
        if is_part and latest.response_started:
            self.transport.close()
            return
        self.cycle = Exchange(self, {"method": "GET"}, False)
        if is_part and self.pipeline:
            self.pipeline[0] = (self.cycle, app)
        elif latest and not latest.response_complete and not is_part:
            self.pipeline.appendleft((self.cycle, app))
        else:
            if latest:
                latest.disconnected = True
                latest.tell()
            self._start_asgi_task(self.cycle, app)

    def on_message_begin(self) -> None:
        self._idle_since = None
        self._head_since = 0.0
        self._has_coding = False
        self._framing_bytes = 0
        self.url = b""
        self.expect_100_continue = False
        self.headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name in _LOOKED_AT:
            self._has_coding = self._has_coding or name == b"transfer-encoding"
            self.expect_100_continue = self.expect_100_continue or value.lower() == b"100-continue"
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        version, url, headers = self.parser.get_http_version(), self.url, self.headers
        if self._framing_bytes or len(headers) > MOST_HEADERS:
            framing.check_size(url, headers)
        self._head_since = None
        if self._has_coding or version != "1.1" or url[0] != _SLASH:
            url = framing.checked_target(version, self.parser.get_method(), url, headers)
            self.headers = framing.Trailers()
        self._framing_bytes = 0
        path, raw_path, query = _parse_again(url) if len(url) <= LONGEST_KEPT_URL else _parse(url)
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
            "headers": headers,
        }
        app: Callable[..., Any] = self.app
        if self.parser.should_upgrade():  # the parser ends here, and passes the body over
            self._is_over = self._is_last = True
            app = _refusing(framing.UpgradeWithBody()) if framing.has_body(headers) else app
        keep_alive = version != "1.0" and self.parser.should_keep_alive() and not self._is_last
        exchange = Exchange(self, scope, keep_alive)
        if self.cycle is None or self.cycle.response_complete:
            self._start_asgi_task(exchange, app)
        else:
            self._queue(framing.memory_bytes(url, headers))
            self.pipeline.appendleft((exchange, app))
        self.cycle = exchange

    def _queue(self, count: int) -> None:
        """Count what waits for its turn. What else is sent waits in the network, not in our memory."""
        self.flow.pause_reading()
        self._queued_bytes = count + (self._queued_bytes if self.pipeline else 0)
        if self._queued_bytes > MOST_QUEUED_BYTES:
            raise framing.TooManyAtOnce

    def on_body(self, body: bytes) -> None:
        self._framing_bytes = 0 if len(body) >= LARGE_CHUNK_BYTES else self._framing_bytes - len(body)
        exchange = self.cycle
        if exchange.response_complete or (len(exchange.body) > bodies.LARGEST_BYTES and not exchange.may_be_large):
            return  # nobody reads it
        if self.pipeline:
            self._queue(len(body))
        exchange.body += body
        if len(exchange.body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        exchange.tell()

    def on_message_complete(self) -> None:
        self.cycle.more_body = False
        self.cycle.tell()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Callable[..., Any]) -> None:
        """Run the application. Who stops the server waits for `tasks`; a callback of each task would cost more."""
        exchange = cast(Exchange, cycle)
        exchange.scope[EXCHANGE] = self._running = exchange  # type: ignore[literal-required]
        exchange.task = self.loop.create_task(self._run(exchange, app))
        self.tasks.add(exchange.task)

    async def _run(self, exchange: Exchange, app: Callable[..., Any]) -> None:
        try:
            await app(exchange.scope, exchange.receive, exchange.send)
        except BaseException as error:
            exchange.fail("an application has failed", error)
        else:
            if not exchange.response_complete and not exchange.disconnected:
                exchange.fail("an application has ended without a whole answer")
        finally:
            # It would keep all that was known of the request while the connection is idle.
            self.tasks.discard(exchange.__dict__.pop("task"))
            if exchange.held:
                exchange.held.release()
            # They refer to each other: without this a garbage collection would have to find each pair.
            del exchange.scope[EXCHANGE], exchange.on_response  # type: ignore[literal-required]

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
            return
        if self._is_over:
            self.transport.close()
            return
        self.flow.resume_reading()
        self._idle_since = self.loop.time()

    def leave_to(self, successor: Any) -> None:
        """Give the connection away: HTTP is over on it."""
        self.connections.discard(self)
        self._look_no_more()
        self.flow.resume_reading()
        successor.take_over(self.transport, self.connections)

    def connection_lost(self, exc: Exception | None) -> None:
        self.pipeline.clear()
        if self._running and not self._running.response_complete:  # which is not the latest when several were sent
            self._running.disconnected = True
            self._running.tell()
        super().connection_lost(exc)
        self._look_no_more()
