"""Whether the disk has room for a start: without it everything fails, each part in words of its own."""

import os
import sys
from pathlib import Path

# A first start writes some megabytes: static files, the database and the log beside it. Then come the orders.
NEEDED_BYTES = 32_000_000
NEEDED_FILES = 1_000


def require(directory: Path) -> None:
    """Stop the process with one line when the disk of a directory is almost full."""
    disk = os.statvfs(directory)
    free_bytes = disk.f_bavail * disk.f_frsize
    # Some file systems make inodes as they need them, and count none.
    lacks_files = disk.f_files > 0 and disk.f_favail < NEEDED_FILES
    if free_bytes < NEEDED_BYTES or lacks_files:
        left = f"{disk.f_favail} files" if free_bytes >= NEEDED_BYTES else f"{free_bytes / 1e6:.1f} MB"
        sys.exit(
            f"flashsale: the disk of {directory} is almost full ({left} left). Free some space "
            f"({NEEDED_BYTES / 1e6:.0f} MB), or set VAR_DIR to another disk."
        )
