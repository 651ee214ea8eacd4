"""Real servers for tests: Redis, the web server, and a proxy that loses answers."""

import hashlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import httpx
from django.conf import settings
from django.db import connection

from flashsale.places import BASE_DIR
from flashsale.supervisor import Process, die_with_parent
from sales import store

# A static file, under the name that its content gives it (as ManifestStaticFilesStorage does); browsers get no other.
_icon_hash = hashlib.md5((BASE_DIR / "static/sales/icon.svg").read_bytes(), usedforsecurity=False).hexdigest()
ICON = f"/static/sales/icon.{_icon_hash[:12]}.svg"

# Processes that compute something on each core make a start slow.
STARTS_WITHIN_SECONDS = 300
# An application that waits for Redis and SQL as long as a busy machine takes.
PATIENT = "tests.patient:application"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class RedisServer:
    def __init__(self, process: Process):
        self._process = process

    def start(self) -> None:
        self._process.start()
        deadline = time.monotonic() + STARTS_WITHIN_SECONDS
        while True:
            try:
                store.client().ping()
                return
            except store.RedisError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)

    def stop(self) -> None:
        self.signal(signal.SIGTERM)
        assert self._process.popen
        self._process.popen.wait()

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        assert self._process.popen
        self._process.popen.wait()

    def signal(self, number: int) -> None:
        self._process.signal(number)


def database_url() -> str:
    """Return the test database as a URL."""
    database = connection.settings_dict
    if connection.vendor == "sqlite":
        return f"sqlite:///{quote(str(database['NAME']))}"
    user, password, host = (quote(database[name], safe="") for name in ("USER", "PASSWORD", "HOST"))
    return f"postgres://{user}:{password}@{host}:{database['PORT']}/{database['NAME']}"


class WebServer:
    """gunicorn with the production configuration, on the tests' Redis and database.

    It runs while it is entered. With a `listener` that socket is its port, as systemd hands one over
    (sd_listen_fds(3)). It is started by the command `wrap`, where there is one.
    """

    def __init__(
        self,
        environment: dict[str, str],
        application: str = "flashsale.asgi:application",
        directory: Path = BASE_DIR,
        listener: socket.socket | None = None,
        wrap: Sequence[str] = (),
    ):
        self.url = f"http://127.0.0.1:{environment['PORT']}"
        command = [sys.executable, "-m", "gunicorn", "-c", "python:flashsale.gunicorn", application]
        self._command, self._environment = [*wrap, *command], {"DATABASE_URL": database_url(), **environment}
        self._directory = directory
        self._inherited: tuple[int, ...] = ()
        if listener:
            self._inherited = (listener.fileno(),)
            hand_over = f'exec 3<&{listener.fileno()}; LISTEN_PID=$$ LISTEN_FDS=1 exec "$0" "$@"'
            self._command = ["bash", "-c", hand_over, *command]
        self.popen: subprocess.Popen[bytes] | None = None
        self.log = settings.VAR_DIR / f"web-{environment['PORT']}.log"

    def __enter__(self) -> "WebServer":
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def start(self) -> None:
        with self.log.open("wb") as log:
            self.popen = subprocess.Popen(
                self._command,
                # gunicorn would end a worker that takes longer than half a minute to start.
                env={**os.environ, "GUNICORN_CMD_ARGS": f"--timeout {STARTS_WITHIN_SECONDS}", **self._environment},
                cwd=self._directory,
                pass_fds=self._inherited,
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent,  # also where a test fails before it stops its server
            )
        deadline = time.monotonic() + STARTS_WITHIN_SECONDS
        while True:
            try:
                httpx.get(f"{self.url}/health/live", timeout=10).raise_for_status()
                return
            except httpx.HTTPError:
                assert self.popen.poll() is None, self.log.read_text()
                assert time.monotonic() < deadline, self.log.read_text()
                time.sleep(0.05)

    def stop(self) -> None:
        assert self.popen
        self.popen.terminate()
        self.popen.wait(timeout=60)


def of_both_workers(server: WebServer) -> list[httpx.Client]:
    """Return one open connection to each of the two workers."""
    found: dict[int, httpx.Client] = {}
    for _ in range(100):
        connection = httpx.Client(base_url=server.url)
        pid = connection.get("/health/live").json()["pid"]
        if pid in found:
            connection.close()
        found.setdefault(pid, connection)
        if len(found) == 2:
            break
    assert len(found) == 2
    return list(found.values())


class LossyProxy:
    """A TCP proxy to Redis's socket that can lose what the server says on the connections that are open."""

    def __init__(self) -> None:
        self._open: set[socket.socket] = set()
        self._muted: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def connections(self) -> int:
        return len(self._open)

    def mute(self) -> None:
        """From now on no answer reaches the connections that are open now; new ones are not touched."""
        self._muted |= self._open

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            server.connect(str(settings.VAR_DIR / "redis.sock"))
            self._open.add(client)
            threading.Thread(target=self._copy, args=(client, server), daemon=True).start()
            threading.Thread(target=self._copy, args=(server, client), daemon=True).start()

    def _copy(self, source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                if target not in self._muted:
                    target.sendall(data)
        except OSError:
            pass
        finally:
            self._open -= {source, target}
            for end in (source, target):
                end.close()

    def close(self) -> None:
        self._listener.close()


class HoldingProxy:
    """A TCP proxy that can hold back what a web server answers; it counts the forms that passed on their way there."""

    def __init__(self, url: str):
        self._port = int(url.rpartition(":")[2])
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._may_answer = threading.Event()
        self._may_answer.set()
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.posts = 0

    def __enter__(self) -> "HoldingProxy":
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.let_go()
        self._listener.close()

    def hold(self) -> None:
        self._may_answer.clear()

    def let_go(self) -> None:
        self._may_answer.set()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._port))
            for source, target in ((client, server), (server, client)):
                threading.Thread(target=self._copy, args=(source, target, source is server), daemon=True).start()

    def _copy(self, source: socket.socket, target: socket.socket, is_answer: bool) -> None:
        try:
            while data := source.recv(1_000_000):
                if is_answer:
                    self._may_answer.wait(60)
                target.sendall(data)
                if not is_answer:
                    self.posts += data.count(b"POST /")
            target.shutdown(socket.SHUT_WR)
        except OSError:
            source.close()
            target.close()
