"""TLS in front of Redis servers, which the embedded one cannot speak: certificates, and doors that end TLS."""

import asyncio
import socket
import ssl
import subprocess
import threading
from pathlib import Path

from tests.servers import free_port

# The first byte of a client's TLS, by which it differs from every Redis command (RFC 8446, section 5.1).
HANDSHAKE = b"\x16"


class Certificate:
    """A certificate for 127.0.0.1 that stands for itself, and its key."""

    def __init__(self, directory: Path, name: str = "redis"):
        self.file, self.key = directory / f"{name}.pem", directory / f"{name}-key.pem"
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        command += ["-keyout", str(self.key), "-out", str(self.file), "-days", "2"]
        command += ["-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1"]
        subprocess.run(command, check=True, capture_output=True)


class Door:
    """A port whose connections go on to a server without their TLS. Clients need a certificate, as Redis asks for one
    unless it is told otherwise.

    Servers among themselves come without TLS where the door `lets_plain_in`.
    """

    def __init__(self, certificate: Certificate, *, lets_plain_in: bool = False):
        self.port = free_port()
        self._lets_plain_in = lets_plain_in
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(certificate.file))
        self._context.load_cert_chain(certificate.file, certificate.key)
        self._context.verify_mode = ssl.CERT_REQUIRED
        self._loop = asyncio.new_event_loop()

    def open(self, target_port: int) -> None:
        listener = socket.create_server(("127.0.0.1", self.port))
        listener.setblocking(False)
        self._task = self._loop.create_task(self._serve(listener, target_port))
        threading.Thread(target=self._loop.run_forever, daemon=True).start()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)

    async def _serve(self, listener: socket.socket, target_port: int) -> None:
        under_way = set()
        while True:
            connection, _ = await self._loop.sock_accept(listener)
            under_way.add(task := self._loop.create_task(self._pass(connection, target_port)))
            task.add_done_callback(under_way.discard)

    async def _pass(self, connection: socket.socket, target_port: int) -> None:
        try:
            connection.setblocking(True)
            is_tls = await asyncio.to_thread(connection.recv, 1, socket.MSG_PEEK) == HANDSHAKE
            connection.setblocking(False)
            if not (is_tls or self._lets_plain_in):
                connection.close()
                return
            reader = asyncio.StreamReader()
            protocol = asyncio.StreamReaderProtocol(reader)
            context = self._context if is_tls else None
            transport, _ = await self._loop.connect_accepted_socket(lambda: protocol, connection, ssl=context)
            writer = asyncio.StreamWriter(transport, protocol, reader, self._loop)
            away_reader, away_writer = await asyncio.open_connection("127.0.0.1", target_port)
            await asyncio.gather(_copy(reader, away_writer), _copy(away_reader, writer))
        except OSError:  # who comes with a wrong certificate, or leaves
            connection.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()
