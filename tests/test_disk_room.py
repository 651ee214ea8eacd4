"""A start on a disk that is almost full is one clear line, not half a minute of others' errors."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from django.conf import settings

from flashsale import disk_room
from tests import parts

# The place is $0, its size $1; an ordinary user may mount it where the kernel allows user namespaces.
WITH_SMALL_DISK = (
    *("unshare", "--user", "--map-root-user", "--mount", "sh", "-c"),
    'mount -t tmpfs -o size="$1" tmpfs "$0" && shift && exec "$@"',
)


def disk(free_bytes: int, files: int, free_files: int) -> SimpleNamespace:
    return SimpleNamespace(f_bavail=free_bytes // 4096, f_frsize=4096, f_files=files, f_favail=free_files)


@pytest.mark.pure
@pytest.mark.parametrize(
    ("found", "left"),
    [(disk(2_500_000, 10_000, 9_000), "2.5 MB left"), (disk(10**9, 10_000, 7), "7 files left")],
)
def test_a_disk_without_room_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: SimpleNamespace, left: str
):
    monkeypatch.setattr(os, "statvfs", lambda path: found)

    with pytest.raises(SystemExit, match=f"{left}.*Free some space") as stopped:
        disk_room.require(tmp_path)

    assert "\n" not in str(stopped.value)


@pytest.mark.pure
@pytest.mark.parametrize("found", [disk(10**9, 10_000, 9_000), disk(10**9, 0, 0)])
def test_a_disk_with_room_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: SimpleNamespace):
    monkeypatch.setattr(os, "statvfs", lambda path: found)

    disk_room.require(tmp_path)


def test_starting_on_an_almost_full_disk_prints_one_line(tmp_path: Path):
    small = tmp_path / "small"
    small.mkdir()
    mounted = [*WITH_SMALL_DISK, str(small), "4m"]
    if not shutil.which("unshare") or subprocess.run([*mounted, "true"], capture_output=True).returncode:
        parts.lack("a small disk cannot be mounted: unshare --user --mount fails")

    done = subprocess.run(
        [*mounted, sys.executable, "-m", "flashsale.local"],
        cwd=settings.BASE_DIR,
        env={**os.environ, "VAR_DIR": str(small), "PORT": "0"},
        capture_output=True,
        text=True,
        timeout=300,
    )

    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"flashsale: the disk of {small} is almost full (4.2 MB left). Free some space")
