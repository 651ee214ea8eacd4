"""gunicorn's configuration: `gunicorn -c python:flashsale.gunicorn flashsale.asgi:application`."""

import asyncio
import gc
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from typing import Any

from gunicorn.arbiter import Arbiter
from gunicorn.config import Config
from gunicorn.glogging import Logger
from uvicorn.server import Server
from uvicorn_worker import UvicornWorker

from flashsale import logs, machine, settings, stalls
from flashsale.places import BASE_DIR
from flashsale.supervisor import die_with_parent

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "flashsale.settings")

bind = f"{settings.BIND}:{settings.PORT}"
workers = settings.WEB_CONCURRENCY
worker_class = "flashsale.gunicorn.LaneWorker"
backlog = 4096
# A worker that a signal ends has this long for what is in flight; `make run` ends everything within 10 s.
graceful_timeout = 8
# After a HUP, old workers serve until the new ones do; no longer than this, whatever keeps the new ones.
READY_WITHIN_SECONDS = 20.0
# Behind a proxy, longer than its own: it must never send on a connection that we are closing.
keepalive = 75
loglevel = "warning"
logger_class = "flashsale.gunicorn.LineLogger"
reload = settings.DEBUG
_READ_ONCE = "templates/**/*.html", "sales/lua/*.lua", "sales/locale/**/*.mo"
reload_extra_files = [str(path) for name in _READ_ONCE for path in BASE_DIR.glob(name)]
# Prometheus's client asks for it when a worker imports it.
_METRICS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
# A thread of Django that computes gives Python's lock to the lane after this long, not after 5 ms: with all threads at
# work, the lane would wait for several of them.
SWITCH_SECONDS = 0.0005
# By default it is in the home directory, where a second instance takes it from the first.
control_socket_disable = True


class LineLogger(Logger):
    """gunicorn's own log, and by it uvicorn's, in lines as all others."""

    def setup(self, cfg: Config) -> None:
        super().setup(cfg)
        for handler in (*self.error_log.handlers, *self.access_log.handlers):
            handler.setFormatter(logs.formatter())


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
        for listener in self.sockets:
            stalls.keep_little_in_the_kernel(listener.sock)
        server = _TellingServer(config=self.config)
        self._install_sigquit_handler()
        await server.serve(sockets=self.sockets)
        if not server.started:
            sys.exit(Arbiter.WORKER_BOOT_ERROR)


class _TellingServer(Server):
    async def _serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until the last request is answered. What comes later is cut off: the signal is raised once more."""
        from sales import attempts, mails, measuring, vigil

        connections = self.server_state.connections
        async with (
            mails.finished(),
            measuring.measured(connections),
            stalls.closed(connections),
            attempts.told_to_redis(),
            vigil.kept(),
        ):
            await super()._serve(sockets)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop as uvicorn does, also for who was accepted at this moment and is not among the connections yet."""
        for server in self.servers:
            server.close()
        await asyncio.sleep(0)
        await super().shutdown(sockets)


def on_starting(server: Arbiter) -> None:
    """Forget the numbers of the workers before, take what file descriptors there are, and gather the static files."""
    shutil.rmtree(settings.METRICS_DIR, ignore_errors=True)
    try:
        settings.METRICS_DIR.mkdir(parents=True)
    except OSError as error:
        place = settings.METRICS_DIR
        sys.exit(f"flashsale: cannot write to {place} ({error.strerror}). Make it writable, or set METRICS_DIR.")
    os.environ[_METRICS_VARIABLE] = str(settings.METRICS_DIR)
    machine.allow_descriptors()
    _gather_static_files()


def _gather_static_files() -> None:
    """Gather and hash them, unless nothing has changed since; pages cannot be rendered without."""
    if settings.DEBUG:
        return
    manifest = settings.STATIC_ROOT / "staticfiles.json"
    sources = [settings.BASE_DIR / "requirements.txt", *(settings.BASE_DIR / "static").rglob("*")]
    if not manifest.exists() or any(source.stat().st_mtime > manifest.stat().st_mtime for source in sources):
        command = [sys.executable, str(settings.BASE_DIR / "manage.py"), "collectstatic", "--noinput", "--verbosity=0"]
        # It is no worker, and would be counted as one that died.
        environment = {name: value for name, value in os.environ.items() if name != _METRICS_VARIABLE}
        subprocess.run(command, env=environment, check=True)


def on_reload(server: Arbiter) -> None:
    """Let the new workers read the code as it is now, and serve before the old ones stop.

    What the master has imported, the workers would take from it: our settings, and Django, which has read them. This
    module alone is read at a start only. And gunicorn would tell the old workers to stop as soon as the new processes
    exist, a second or two before these can answer.
    """
    _gather_static_files()
    for name in [name for name in sys.modules if name.partition(".")[0] in ("flashsale", "django")]:
        if name != __name__:
            del sys.modules[name]
    youngest = server.worker_age

    def manage_workers_when_ready() -> None:
        del server.manage_workers  # the class's own again
        deadline = time.monotonic() + READY_WITHIN_SECONDS
        while time.monotonic() < deadline and not all(
            _is_ready(worker) for worker in server.WORKERS.values() if worker.age > youngest
        ):
            time.sleep(0.05)
            server.reap_workers()
        server.manage_workers()

    server.manage_workers = manage_workers_when_ready


def _is_ready(worker: UvicornWorker) -> bool:
    """Return whether a worker has given its first sign of life, which it does when it serves.

    Until then its file has the time of its making, by the clock of days; afterwards the one since the machine's start.
    """
    return bool(worker.tmp.last_update() <= time.monotonic())


def post_fork(server: Arbiter, worker: UvicornWorker) -> None:
    """Let a worker end with its master: orphans would hold the port against the next master."""
    die_with_parent()


def child_exit(server: Arbiter, worker: UvicornWorker) -> None:
    """Take a dead worker out of what is added up over those that live; what it has counted stays."""
    from prometheus_client.multiprocess import mark_process_dead

    mark_process_dead(worker.pid, str(settings.METRICS_DIR))


def worker_int(worker: UvicornWorker) -> None:
    """End a worker whose code has changed: gunicorn's reloader calls this, but uvicorn does not hear it."""
    os.kill(worker.pid, signal.SIGTERM)


def post_worker_init(worker: UvicornWorker) -> None:
    """Look at Redis (the first worker does); read words and files; take all of it out of later garbage collections."""
    if worker.age == 1:
        from sales.durability import log_verdict

        log_verdict()
    from sales import files, languages

    # What is no HTTP is the sender's business, and would fill the log.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    languages.load()
    if not settings.DEBUG:
        files.gathered()
    gc.collect()
    gc.freeze()
    # Requests leave next to no cycles: to look for them after every 700 new objects is most of what collecting costs.
    gc.set_threshold(50_000, 20, 100)
    sys.setswitchinterval(SWITCH_SECONDS)
