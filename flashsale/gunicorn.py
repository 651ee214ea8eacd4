"""gunicorn's configuration: `gunicorn -c python:flashsale.gunicorn flashsale.asgi:application`."""

import gc
import os
import signal
import socket
import subprocess
import sys
from typing import Any

from gunicorn.arbiter import Arbiter
from uvicorn.server import Server
from uvicorn_worker import UvicornWorker

from flashsale import settings
from flashsale.places import BASE_DIR
from flashsale.supervisor import die_with_parent

bind = f"{settings.BIND}:{settings.PORT}"
workers = settings.WEB_CONCURRENCY
worker_class = "flashsale.gunicorn.LaneWorker"
backlog = 4096
# A worker that a signal ends has this long for what is in flight; `make run` ends everything within 10 s.
graceful_timeout = 8
# Behind a proxy, longer than its own: it must never send on a connection that we are closing.
keepalive = 75
loglevel = "warning"
reload = settings.DEBUG
_READ_ONCE = "templates/**/*.html", "sales/lua/*.lua", "sales/locale/**/*.mo"
reload_extra_files = [str(path) for name in _READ_ONCE for path in BASE_DIR.glob(name)]
# By default it is in the home directory, where a second instance takes it from the first.
control_socket_disable = True


class LaneWorker(UvicornWorker):
    """uvicorn as fast as it goes: uvloop, httptools, and nothing that the lane does itself."""

    CONFIG_KWARGS: dict[str, Any] = {
        "loop": "uvloop",
        "http": "flashsale.protocol:LaneProtocol",
        "ws": "none",
        "lifespan": "off",
        "access_log": False,
        "proxy_headers": False,
        "server_header": False,
        # What is left is for the last that Redis is told.
        "timeout_graceful_shutdown": graceful_timeout - 2,
    }

    async def _serve(self) -> None:
        """Serve as uvicorn's worker does; beside the requests, tell Redis what they come to."""
        self.config.app = self.wsgi
        server = _TellingServer(config=self.config)
        self._install_sigquit_handler()
        await server.serve(sockets=self.sockets)
        if not server.started:
            sys.exit(Arbiter.WORKER_BOOT_ERROR)


class _TellingServer(Server):
    async def _serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until the last request is answered. What comes later is cut off: the signal is raised once more."""
        from sales import attempts

        async with attempts.told_to_redis():
            await super()._serve(sockets)


def on_starting(server: Arbiter) -> None:
    """Gather and hash the static files, unless nothing has changed since; pages cannot be rendered without."""
    manifest = settings.STATIC_ROOT / "staticfiles.json"
    sources = [settings.BASE_DIR / "requirements.txt", *(settings.BASE_DIR / "static").rglob("*")]
    if settings.DEBUG:
        return
    if not manifest.exists() or any(source.stat().st_mtime > manifest.stat().st_mtime for source in sources):
        command = [sys.executable, str(settings.BASE_DIR / "manage.py"), "collectstatic", "--noinput", "--verbosity=0"]
        subprocess.run(command, check=True)


def post_fork(server: Arbiter, worker: UvicornWorker) -> None:
    """Let a worker end with its master: orphans would hold the port against the next master."""
    die_with_parent()


def worker_int(worker: UvicornWorker) -> None:
    """End a worker whose code has changed: gunicorn's reloader calls this, but uvicorn does not hear it."""
    os.kill(worker.pid, signal.SIGTERM)


def post_worker_init(worker: UvicornWorker) -> None:
    """Look at Redis (the first worker does); read what pages say; take all of it out of later garbage collections."""
    if worker.age == 1:
        from sales.durability import log_verdict

        log_verdict()
    from sales import languages

    languages.load()
    gc.collect()
    gc.freeze()
    # Requests leave next to no cycles: to look for them after every 700 new objects is most of what collecting costs.
    gc.set_threshold(50_000, 20, 100)
