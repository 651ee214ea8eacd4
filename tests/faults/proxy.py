"""A way to Redis that can lose answers, cut connections, and be closed."""

import socket
import threading
import time
from contextlib import suppress
from pathlib import Path

from tests.servers import free_port

REOPEN_WITHIN_SECONDS = 60.0


class Proxy:
    """A TCP proxy to Redis's socket. `answers` is what becomes of what Redis says: passed, lost, or cut, where the
    connection ends in its stead."""

    def __init__(self, redis_socket: Path):
        self.answers = "passed"
        self.port = free_port()
        self._redis_socket = redis_socket
        self._open_sockets: set[socket.socket] = set()
        self._listen()

    def _listen(self) -> None:
        deadline = time.monotonic() + REOPEN_WITHIN_SECONDS
        while True:
            try:
                self._listener = socket.create_server(("127.0.0.1", self.port))
                break
            except OSError:  # for a moment, somebody else's connection has the port
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            try:
                server.connect(str(self._redis_socket))
            except OSError:
                client.close()
                server.close()
                continue
            self._open_sockets |= {client, server}
            threading.Thread(target=self._copy, args=(client, server, False), daemon=True).start()
            threading.Thread(target=self._copy, args=(server, client, True), daemon=True).start()

    def _copy(self, source: socket.socket, target: socket.socket, is_answer: bool) -> None:
        try:
            while data := source.recv(65536):
                if is_answer and self.answers == "cut":
                    break
                if not (is_answer and self.answers == "lost"):
                    target.sendall(data)
        except OSError:
            pass
        finally:
            self._end(source)
            self._end(target)

    def _end(self, end: socket.socket) -> None:
        """End a connection that another thread may be reading from."""
        self._open_sockets.discard(end)
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()

    def close(self) -> None:
        """End every connection and refuse new ones."""
        self._end(self._listener)
        for end in list(self._open_sockets):
            self._end(end)

    def open_again(self) -> None:
        self._listen()
