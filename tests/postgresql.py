"""A PostgreSQL server of the tests' own, in a temporary directory that goes with it."""

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg

from flashsale.supervisor import die_with_parent
from tests.servers import free_port

MISSING = "PostgreSQL's server is not installed; on Debian: apt install postgresql"

_USER = "flashsale"
# With every character that would be wrong in a URL if it were not quoted.
_PASSWORD = "p@ss/w:rd?#%20"


def find_binaries() -> Path | None:
    """Return the directory that holds initdb, postgres and pg_ctl, or None."""
    candidates = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name), reverse=True)
    if pg_config := shutil.which("pg_config"):
        told = subprocess.run([pg_config, "--bindir"], capture_output=True, text=True, check=True)
        candidates.insert(0, Path(told.stdout.strip()))
    if initdb := shutil.which("initdb"):
        candidates.append(Path(initdb).parent)
    names = ("initdb", "postgres", "pg_ctl")
    return next((path for path in candidates if all((path / name).exists() for name in names)), None)


class PostgresServer:
    """One server on a free port of 127.0.0.1, as durable as it comes, or one whose data no power cut will meet. It
    refuses to be root: then it is `postgres`."""

    def __init__(self, *, is_durable: bool = True) -> None:
        binaries = find_binaries()
        assert binaries, MISSING
        self._binaries = binaries
        self._port = free_port()
        self._directory = Path(tempfile.mkdtemp(prefix="flashsale-postgres-"))
        self._data = self._directory / "data"
        self._options = {} if is_durable else {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        self._identity: dict[str, Any] = {}
        if os.getuid() == 0:
            account = pwd.getpwnam("postgres")
            os.chown(self._directory, account.pw_uid, account.pw_gid)
            self._identity = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
        self._popen: subprocess.Popen[bytes] | None = None

    def url(self, database: str) -> str:
        return f"postgres://{_USER}:{quote(_PASSWORD, safe='')}@127.0.0.1:{self._port}/{database}"

    def start(self) -> None:
        """Start it and wait until it can be used: the first time, or after `stop_immediately`."""
        if not self._data.exists():
            self._make_data()
        options = {"listen_addresses": "127.0.0.1", "port": self._port, "unix_socket_directories": self._directory}
        options |= self._options
        command = [str(self._binaries / "postgres"), "-D", str(self._data)]
        command += [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        log_path = self._directory / "log"
        with log_path.open("ab") as log:
            self._popen = popen = subprocess.Popen(
                command, cwd=self._directory, stderr=log, preexec_fn=die_with_parent, **self._identity
            )
        deadline = time.monotonic() + 30
        while True:
            try:
                self.connect().close()
                return
            except psycopg.OperationalError:
                assert popen.poll() is None, log_path.read_text()
                assert time.monotonic() < deadline, log_path.read_text()
                time.sleep(0.05)

    def connect(self, database: str = "postgres") -> psycopg.Connection[tuple[Any, ...]]:
        return psycopg.connect(self.url(database), autocommit=True)

    def execute(self, statement: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Run one statement outside a transaction, and return its rows."""
        with self.connect(database) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def is_running(self) -> bool:
        return self._popen is not None and self._popen.poll() is None

    def stop_immediately(self) -> None:
        """Stop it as a crash would: the next start recovers from the write-ahead log."""
        self._stop("immediate")

    def remove(self) -> None:
        """End the server, also a start that failed, and remove what it wrote."""
        try:
            if self.is_running():
                self._stop("fast")
        finally:
            shutil.rmtree(self._directory)

    def _make_data(self) -> None:
        password_file = self._directory / "password"
        password_file.write_text(_PASSWORD)
        password_file.chmod(0o644)
        self._run(
            "initdb", "--username", _USER, "--pwfile", str(password_file), "--auth=scram-sha-256", "--encoding=UTF8"
        )

    def _stop(self, mode: str) -> None:
        assert self._popen
        self._run("pg_ctl", "stop", "-m", mode)
        self._popen.wait(timeout=10)

    def _run(self, name: str, *arguments: str) -> None:
        command = [str(self._binaries / name), "-D", str(self._data), *arguments]
        done = subprocess.run(command, cwd=self._directory, capture_output=True, text=True, **self._identity)
        assert done.returncode == 0, done.stdout + done.stderr
