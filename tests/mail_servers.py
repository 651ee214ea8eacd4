"""A small mail server (RFC 5321) that keeps what it is sent, and refuses what a test wants refused."""

import socketserver
import threading
from collections.abc import Callable
from typing import Any


class MailServer:
    """It runs while it is entered. What `on_recipient` and `on_mail` return of an address is the answer to RCPT TO and
    to the mail; "" takes it."""

    def __init__(
        self,
        on_recipient: Callable[[str], str] = lambda address: "",
        on_mail: Callable[[str], str] = lambda address: "",
    ):
        self.on_recipient, self.on_mail = on_recipient, on_mail
        self.recipients: list[str] = []
        self.mails: list[str] = []
        self._server = _Server(("127.0.0.1", 0), _Session)
        self._server.mails = self
        self.port: int = self._server.server_address[1]
        self.url = f"smtp://127.0.0.1:{self.port}"

    def __enter__(self) -> "MailServer":
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    mails: MailServer


class _Session(socketserver.StreamRequestHandler):
    server: Any

    def handle(self) -> None:
        mails: MailServer = self.server.mails
        self._say("220 mail.example.com")
        while line := self.rfile.readline().decode().strip():
            verb = line[:4].upper()
            if verb == "RCPT":
                address = line.partition("<")[2].rpartition(">")[0]
                mails.recipients.append(address)
                self._say(mails.on_recipient(address) or "250 ok")
            elif verb == "DATA":
                self._say("354 go on")
                mail = self._mail()
                answer = mails.on_mail(mails.recipients[-1])
                mails.mails.append(mail)
                self._say(answer or "250 queued")
            elif verb == "QUIT":
                self._say("221 bye")
                return
            else:
                self._say("250 ok")

    def _mail(self) -> str:
        lines = []
        while (line := self.rfile.readline().decode().rstrip("\r\n")) != ".":
            lines.append(line)
        return "\n".join(lines)

    def _say(self, text: str) -> None:
        self.wfile.write(f"{text}\r\n".encode())
