"""A network that a test can split: each way to Redis leads to one server, to another, or nowhere."""

import socket
import threading
from contextlib import suppress


class Way:
    """A TCP proxy on loopback. Whoever is connected when it is led elsewhere loses the connection."""

    def __init__(self, target_port: int):
        self._target_port: int | None = target_port
        self._ends: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def lead_to(self, target_port: int | None) -> None:
        """Lead to another server from now on; None is nowhere."""
        self._target_port = target_port
        for end in list(self._ends):
            self._close(end)

    def close(self) -> None:
        self.lead_to(None)
        self._close(self._listener)

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            target_port = self._target_port
            far = socket.socket()
            try:
                if target_port is None:
                    raise ConnectionRefusedError
                far.connect(("127.0.0.1", target_port))
            except OSError:
                self._close(near)
                self._close(far)
                continue
            self._ends |= {near, far}
            if self._target_port != target_port:  # it was led elsewhere meanwhile
                self._close(near)
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._copy, args=(source, sink), daemon=True).start()

    def _copy(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        self._close(source)
        self._close(sink)

    def _close(self, end: socket.socket) -> None:
        self._ends.discard(end)
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()
