"""The sums of what the web workers of this machine have counted, read from their files.

What a dead worker has counted stays in the sum. The client leaves its files where they are, so each worker that ends
would make every later reading slower. Here the reader merges the files of dead workers into one.
"""

import fcntl
import os
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from prometheus_client import Metric
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector

from sales.counts_files import Counts

# A reading takes milliseconds; who is stopped in the middle of one must not keep the others for ever.
LOCKED_WITHIN_SECONDS = 2.0
# Gauges are left out: of those that die, only the living are added up.
_KINDS = ("counter", "histogram")
_OF_THE_DEAD = "dead"


def read_sums(directory: Path) -> list[Metric]:
    """Return the sums over all workers, dead and alive. Raises TimeoutError while another reader does not end."""
    with _locked(directory):
        for kind in _KINDS:
            with suppress(OSError):  # the disk is full: the sums are the same without, and the next reader tries again
                _merge_dead(directory, kind)
        return list(MultiProcessCollector(None, directory).collect())


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Let nobody else read meanwhile: they would count twice, or miss, what is being moved."""
    with (directory / "lock").open("w") as lock:
        deadline = time.monotonic() + LOCKED_WITHIN_SECONDS
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise TimeoutError("another process reads the metrics, and does not end") from None
                time.sleep(0.01)
        yield


def _merge_dead(directory: Path, kind: str) -> None:
    """Move the numbers of workers that are gone into one file. Its buckets are single ones, as in each worker's."""
    found = {path.stem.partition("_")[2]: path for path in directory.glob(f"{kind}_*.db")}
    dead = [path for owner, path in found.items() if owner != _OF_THE_DEAD and not _is_alive(int(owner))]
    if not dead:
        return
    sums: defaultdict[str, float] = defaultdict(float)
    for path in [*dead, *([found[_OF_THE_DEAD]] if _OF_THE_DEAD in found else [])]:
        for key, value, *_ in MmapedDict.read_all_values_from_file(path):
            sums[key] += value
    merged = Counts(directory / f"{kind}_{_OF_THE_DEAD}.db")
    for key, value in sums.items():
        merged.write_value(key, value, 0.0)
    merged.save()
    merged.close()
    for path in dead:
        path.unlink()


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
