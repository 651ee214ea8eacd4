"""How connections end: when nothing comes, when a head takes too long, and when the server stops."""

import asyncio
import fcntl
import termios
from itertools import islice

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from flashsale import framing, machine, stalls, tracing

# When the server stops, idle connections stay open for so long: who is just sending a request on one gets the answer,
# and with it the word to send the next one elsewhere. Without, a browser or proxy would meet a reset connection, and
# know nothing of its purchase.
LINGER_SECONDS = 2.0
# Each takes a file descriptor, and without any Redis, SQL and templates are out of reach.
MOST_CONNECTIONS = machine.most_connections()
# To look at all of them for each newcomer would cost more than the newcomer.
LOOKED_AT = 50
# All of a head must be here this long after its first packet.
HEAD_WITHIN_SECONDS = 10.0


def _has_unread(transport: asyncio.Transport) -> bool:
    """Return whether the kernel holds bytes that were not read yet: to close then would reset the connection."""
    unread = fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.FIONREAD, bytes(4))
    return any(unread)


class ClosingProtocol(HttpToolsProtocol):
    """uvicorn's protocol, but that it closes no connection on which a request may just be coming.

    One timer of each connection, from its start on, sees to those on which nothing comes and to slow heads: a timer per
    request would cost more.
    """

    # No further request is asked for: the next answer says that the connection closes.
    _is_last = False
    # While nothing of a request is here.
    _idle_since: float | None = None
    _made_at = 0.0
    # While a head is not whole: the end of its first packet, and 0 in that packet.
    _head_since: float | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._made_at = self._idle_since = self.loop.time()
        self._look_again(self.timeout_keep_alive)
        if len(self.connections) > MOST_CONNECTIONS:
            self._make_room()

    def _make_room(self) -> None:
        """Close one connection, so that nobody keeps others out with connections on which nothing is asked: of some,
        the one that has asked for nothing for longest; this one when none of those is quiet."""
        others = (other for other in islice(self.connections, LOOKED_AT) if isinstance(other, ClosingProtocol))
        quiet = sorted((other for other in others if other is not self and other._is_quiet()), key=_quiet_since)
        quietest = next((other for other in quiet if not _has_unread(other.transport)), self)
        self.connections.discard(quietest)  # it leaves by itself, but later than the next one comes
        if quietest.transport.get_write_buffer_size():
            stalls.cut(quietest.transport)  # it is no more among those that are looked at
        else:
            quietest.transport.close()

    def _is_quiet(self) -> bool:
        """Return whether no request is being answered; a part of its head may be here."""
        return not self.transport.is_closing() and (not self.cycle or self.cycle.response_complete)

    def _refuse(self, refused: framing.Refused) -> None:
        raise NotImplementedError

    def _bound_head(self) -> None:
        """Note that a packet has ended within a head, which is not to take long from here on."""
        if not self._head_since:
            self._head_since = self.loop.time()
            self._look_again(HEAD_WITHIN_SECONDS)

    def _look_no_more(self) -> None:
        super()._unset_keepalive_if_required()

    def _look_again(self, seconds: float) -> None:
        self._look_no_more()
        self.timeout_keep_alive_task = self.loop.call_later(
            seconds, self.timeout_keep_alive_handler, context=tracing.no_request()
        )

    def timeout_keep_alive_handler(self) -> None:
        """Close the connection if it is idle, or its head under way, for as long as it may be; else look again when it
        could be."""
        now = self.loop.time()
        is_head = self._head_since and not self.flow.read_paused  # else we do not read on, and its end may have come
        if is_head:
            due = (self._head_since or now) + HEAD_WITHIN_SECONDS
        else:
            due = (now if self._idle_since is None else self._idle_since) + self.timeout_keep_alive
        if due > now:
            self._look_again(due - now)
        elif is_head:
            self._refuse(framing.HeadTooSlow())
        else:
            super().timeout_keep_alive_handler()

    def _unset_keepalive_if_required(self) -> None:
        """Do nothing: uvicorn calls it at each request."""

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


def _quiet_since(connection: ClosingProtocol) -> float:
    return connection._head_since or connection._idle_since or connection._made_at
