"""HTTP on the wire: uvicorn's httptools protocol, with an ASGI extension by which a response is sent whole."""

from collections.abc import Callable
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

# A message of this type has `status`, `head` (the header lines as they go on the wire, also content-length) and `body`.
# It may have a `successor`, whose method `take_over` gets the connection: such a body has no length and no end.
# To send the two messages of ASGI costs more: two system calls, and a check of headers that only the lane writes.
WHOLE_RESPONSE = "flashsale.response"
_EXTENSIONS: dict[str, Any] = {WHOLE_RESPONSE: {}}


class _Cycle(RequestResponseCycle):
    async def send(self, message: Any) -> None:
        if message["type"] != WHOLE_RESPONSE:
            await super().send(message)
            return
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        is_head = self.scope["method"] == "HEAD"
        successor = None if is_head else message.get("successor")
        self.keep_alive &= not successor
        parts = [STATUS_LINE[message["status"]]]
        for name, value in self.default_headers:
            parts += (name, b": ", value, b"\r\n")
        parts.append(message["head"])
        if not self.keep_alive:
            parts.append(b"connection: close\r\n")
        parts.append(b"\r\n")
        if not is_head:
            parts.append(message["body"])
        self.transport.write(b"".join(parts))
        self.response_started = self.response_complete = True
        self.waiting_for_100_continue = False
        self.message_event.set()
        if successor:
            cast(LaneProtocol, self.transport.get_protocol()).leave_to(successor)
            return
        if not self.keep_alive:
            self.transport.close()
        self.on_response()


class LaneProtocol(HttpToolsProtocol):
    """uvicorn's protocol with whole responses, and with one keep-alive timer per connection instead of per response."""

    _idle_since: float | None = None

    def on_message_begin(self) -> None:
        self._idle_since = None
        super().on_message_begin()
        self.scope["extensions"] = _EXTENSIONS

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Callable[..., Any]) -> None:
        cycle.__class__ = _Cycle  # uvicorn has no setting for it
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
            return
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
        super().connection_lost(exc)
        super()._unset_keepalive_if_required()
