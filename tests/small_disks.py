"""A disk that is full, for one process and its children: a small tmpfs in a mount namespace of their own.

An ordinary user may make both where the kernel allows user namespaces (user_namespaces(7)).
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

# The place is $0, its size $1.
_MOUNT_AND_FILL = """
mount -t tmpfs -o size="$1"k tmpfs "$0" || exit
cat /dev/zero >"$0/filler" 2>/dev/null
shift
exec "$@"
"""


class SmallDisk:
    """`place` is a file system of so many KiB for the commands that `on` wraps. It is full until `make_room`."""

    def __init__(self, place: Path, kib: int):
        self._place, self._kib = place, kib
        place.mkdir(parents=True, exist_ok=True)

    def on(self, command: list[str]) -> list[str]:
        """Return the command as it runs with the disk, in the same process."""
        namespace = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", _MOUNT_AND_FILL]
        return [*namespace, str(self._place), str(self._kib), *command]

    def make_room(self, process: int) -> None:
        """Empty the disk, as one of its processes sees it."""
        self._seen_by(process, "filler").unlink()

    def files(self, process: int) -> list[Path]:
        return [path for path in self._seen_by(process).rglob("*") if path.is_file()]

    def _seen_by(self, process: int, name: str = "") -> Path:
        return Path(f"/proc/{process}/root{self._place}", name)


def need() -> None:
    """Skip a test where no such disk can be made; in CI that fails."""
    command = SmallDisk(Path("/mnt"), 4).on(["true"])
    if not shutil.which(command[0]) or subprocess.run(command, capture_output=True).returncode:
        message = "a small disk cannot be mounted: unshare --user --mount fails"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
