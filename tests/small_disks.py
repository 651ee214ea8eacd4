"""A disk that is full, for one process and its children: a small tmpfs in a mount namespace of their own.

An ordinary user may make both where the kernel allows user namespaces (user_namespaces(7)).
"""

import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

from tests import parts

MISSING = "a small disk cannot be mounted: unshare --user --mount fails"

# The place is $0, its size $1.
_MOUNT = 'mount -t tmpfs -o size="$1"k tmpfs "$0" && shift && exec "$@"'


class SmallDisk:
    """`place` is a file system of so many KiB, for a command that `wrap` starts and its children."""

    def __init__(self, place: Path, kib: int):
        self._place, self._kib = place, kib
        place.mkdir(parents=True, exist_ok=True)

    @property
    def wrap(self) -> list[str]:
        """What starts a command with the disk, in the same process."""
        namespace = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", _MOUNT]
        return [*namespace, str(self._place), str(self._kib)]

    def join(self, process: int) -> list[str]:
        """What starts one more command with the disk, beside a process that has it."""
        return ["nsenter", f"--target={process}", "--user", "--preserve-credentials", "--mount"]

    def seen_by(self, process: int) -> Path:
        """Return where a process's disk is for everybody else."""
        return Path(f"/proc/{process}/root{self._place}")

    def is_mounted(self, process: int) -> bool:
        return self.seen_by(process).stat().st_dev != self._place.stat().st_dev

    def fill(self, process: int) -> None:
        """Take what room there is, as one of its processes sees it."""
        with suppress(OSError), self._filler(process).open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))

    def make_room(self, process: int) -> None:
        self._filler(process).unlink()

    def _filler(self, process: int) -> Path:
        return self.seen_by(process) / "filler"


def may_be_made() -> bool:
    command = [*SmallDisk(Path("/mnt"), 4).wrap, "true"]
    return bool(shutil.which(command[0])) and subprocess.run(command, capture_output=True).returncode == 0


def need() -> None:
    """Skip a test where no such disk can be made; in CI that fails."""
    if not may_be_made():
        parts.lack(MISSING)
