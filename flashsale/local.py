"""`make run`: set up everything under var/, then run Redis, the web server and the order writer until Ctrl-C."""

import fcntl
import os
import secrets
import signal
import socket
import sys
import time
import urllib.error
import urllib.request
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import IO

from dotenv import load_dotenv

from flashsale import disk_room, embedded_redis
from flashsale.places import VAR_DIR, WEB_ADDRESS
from flashsale.redaction import shown, without_password
from flashsale.supervisor import Process, Supervisor

END_WITHIN_SECONDS = 9.0
READY_WITHIN_SECONDS = 30.0
# A machine that computes something else on each core starts it slowly; what keeps it from starting is in its log.
SERVING_WITHIN_SECONDS = 120.0
DEMO_SALE = "Limited Edition Widget"


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # nothing runs yet: Ctrl-C needs no traceback
    os.umask(0o077)  # what is under var/ names shoppers and lets people in
    lock = take(VAR_DIR)
    embedded_redis.remove_dead_links()
    write_local_settings(VAR_DIR / "local.env")
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "flashsale.settings")
    os.environ.setdefault("BIND", "127.0.0.1")
    os.environ.setdefault("LOG_FORMAT", "text")
    from flashsale import settings

    supervisor = Supervisor()
    supervisor.stop_on_signals()
    try:
        check_port(settings.BIND, settings.PORT)
        start(supervisor)
        supervisor.run()
    finally:
        supervisor.end(END_WITHIN_SECONDS)
        WEB_ADDRESS.unlink(missing_ok=True)
        embedded_redis.remove_short_link(VAR_DIR)
        lock.close()


def take(var_dir: Path) -> IO[str]:
    """Return the lock on `var_dir`: two servers on the same data would sell twice."""
    try:
        var_dir.mkdir(parents=True, exist_ok=True)
        disk_room.require(var_dir)
        lock = (var_dir / "run.lock").open("w")
    except OSError as error:
        sys.exit(f"flashsale: cannot write to {var_dir} ({error.strerror}). Make it writable, or set VAR_DIR.")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit(f"flashsale: already running on {var_dir}. Stop that one first, or set VAR_DIR to another place.")
    return lock


def write_local_settings(path: Path) -> None:
    """Generate what a server needs and a local user should not have to think of; keep what is there."""
    if not path.exists():
        hosts = "ALLOWED_HOSTS=localhost,127.0.0.1,[::1]"
        write_secret(path, f"SECRET_KEY={secrets.token_urlsafe(48)}\n{hosts}\nEMAIL_URL=console:\n")
    load_dotenv(path)


def write_secret(path: Path, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)


def check_port(host: str, port: int) -> None:
    """Stop the process with one line when the web server could not listen there."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            sys.exit(f"flashsale: port {port} cannot be used ({error.strerror}). Choose another: make run PORT=8001")


def start(supervisor: Supervisor) -> None:
    """Start Redis, prepare its data and SQL's, start the rest, and print the addresses once pages are served."""
    from flashsale import settings

    if settings.REDIS_IS_EMBEDDED:
        supervisor.start(Process("Redis", embedded_redis.command(VAR_DIR)))
    password = prepare(supervisor, VAR_DIR / "admin_password")
    if supervisor.is_stopping:
        return
    manage = [sys.executable, str(settings.BASE_DIR / "manage.py")]
    supervisor.start(Process("the order writer", [*manage, "write_orders"]))
    gunicorn = [sys.executable, "-m", "gunicorn", "-c", "python:flashsale.gunicorn", "flashsale.asgi:application"]
    supervisor.start(Process("the web server", gunicorn))
    host = "127.0.0.1" if settings.BIND == "0.0.0.0" else settings.BIND
    if not is_serving(supervisor, f"http://{host}:{settings.PORT}/health/live"):
        if not supervisor.is_stopping:
            sys.exit(f"flashsale: the web server did not answer within {SERVING_WITHIN_SECONDS:.0f} s; see above why.")
        return
    with suppress(OSError):  # without it, commands look on PORT
        WEB_ADDRESS.write_text(f"http://{host}:{settings.PORT}")
    address = f"http://localhost:{settings.PORT}"
    print(
        f"\n  Sale    {address}/\n  API     {address}/api/sale/status\n  Admin   {address}/admin/"
        f"   (user admin, password {password})\n\n  Ctrl-C stops everything; the data stays in {VAR_DIR}\n",
        flush=True,
    )


def prepare(supervisor: Supervisor, password_path: Path) -> str:
    """Bring database and Redis up to date, make what a first run needs, and return the admin's password."""
    import django

    django.setup()
    from django.core.management import call_command
    from django.db import DatabaseError

    from flashsale.settings import REDIS_IS_EMBEDDED
    from sales import durability, publishing

    try:
        call_command("migrate", verbosity=0, interactive=False)
    except DatabaseError as error:
        disk_room.require(VAR_DIR)
        sys.exit(f"flashsale: the database cannot be used: {shown(str(error).strip())}. Check DATABASE_URL.")
    password = admin_password(password_path)
    create_demo_sale()
    wait_for_redis(supervisor)
    if supervisor.is_stopping:
        return password
    if (found := durability.check()) != "ok":
        words = f"flashsale: Redis may lose acknowledged purchases: {found}."
        if REDIS_IS_EMBEDDED:
            sys.exit(f"{words} It was changed while it ran: start again.")
        print(f"{words} Set this in its configuration.", file=sys.stderr)
    for sale, result in publishing.publish_all():
        if isinstance(result, publishing.NotPublished):
            print(f"flashsale: {sale.slug} is not published: {result}", file=sys.stderr)
    return password


def admin_password(path: Path) -> str:
    """Return the password in `path`; on a first run, make it and the account `admin`."""
    from django.contrib.auth import get_user_model

    users = get_user_model().objects
    if not users.filter(username="admin").exists():
        write_secret(path, secrets.token_urlsafe(12) + "\n")
        users.create_superuser("admin", password=path.read_text().strip())
    return path.read_text().strip() if path.exists() else "is the one that you set"


def create_demo_sale() -> None:
    from django.utils import timezone

    from sales.models import Sale

    if not Sale.objects.exists():
        now = timezone.now().replace(microsecond=0)
        Sale.objects.create(
            name=DEMO_SALE,
            slug="widget",
            description="One hundred were made, and there will be no more.",
            display_price="49.00",
            total_stock=100,
            starts_at=now,
            ends_at=now + timedelta(days=7),
        )


def wait_for_redis(supervisor: Supervisor) -> None:
    """Return once Redis answers, or a signal asks to stop; stop the process with one line after 30 s."""
    from django.conf import settings

    from sales import store

    deadline = time.monotonic() + READY_WITHIN_SECONDS
    while not supervisor.is_stopping:
        try:
            store.client().ping()
            return
        except store.RedisError as error:
            disk_room.require(VAR_DIR)
            if time.monotonic() > deadline:
                where = f"see {VAR_DIR / 'redis' / 'redis.log'}" if settings.REDIS_IS_EMBEDDED else "check REDIS_URL"
                address = without_password(settings.REDIS_URL).partition("?")[0]
                sys.exit(f"flashsale: Redis at {address} does not answer ({shown(error)}); {where}.")
            supervisor.restart_the_dead()
            time.sleep(0.05)


def is_serving(supervisor: Supervisor, url: str) -> bool:
    """Return whether the web server answers in time; False, too, when a signal asks to stop."""
    deadline = time.monotonic() + SERVING_WITHIN_SECONDS
    while time.monotonic() < deadline and not supervisor.is_stopping:
        try:
            urllib.request.urlopen(url, timeout=1).close()
            return True
        except urllib.error.HTTPError:  # it answers; for instance this name is not in ALLOWED_HOSTS
            return True
        except OSError:
            supervisor.restart_the_dead()
            time.sleep(0.05)
    return False


if __name__ == "__main__":
    main()
