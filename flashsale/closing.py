"""How connections end when the server stops: no request is lost on them."""

import asyncio
import fcntl
import termios

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from flashsale import tracing

# When the server stops, idle connections stay open for so long: who is just sending a request on one gets the answer,
# and with it the word to send the next one elsewhere. Without, a browser or proxy would meet a reset connection, and
# know nothing of its purchase.
LINGER_SECONDS = 2.0


def _has_unread(transport: asyncio.Transport) -> bool:
    """Return whether the kernel holds bytes that were not read yet: to close then would reset the connection."""
    unread = fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.FIONREAD, bytes(4))
    return any(unread)


class ClosingProtocol(HttpToolsProtocol):
    """uvicorn's protocol, but that it closes no connection on which a request may just be coming."""

    # No further request is asked for: the next answer says that the connection closes.
    _is_last = False
    # While nothing of a request is here.
    _idle_since: float | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._idle_since = self.loop.time()

    def shutdown(self) -> None:
        """Close the connection after the answer that is under way, or that an idle one may still be asked for."""
        self._is_last = True
        if self.cycle and not self.cycle.response_complete:
            self.cycle.keep_alive = False
        else:
            self.loop.call_later(LINGER_SECONDS, self._close_if_idle, context=tracing.no_request())

    def _close_if_idle(self) -> None:
        """Close unless a request is here, if only in the kernel: it is answered, and that closes the connection."""
        if self._idle_since is not None and not self.transport.is_closing() and not _has_unread(self.transport):
            self.transport.close()
