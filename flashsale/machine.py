"""What this process may use of its machine: cores, memory and file descriptors, as a container's limits leave them."""

import os
import resource
import sys
from collections.abc import Iterator
from contextlib import suppress
from math import ceil, inf
from pathlib import Path

# What a web worker may take at most: its code and what it keeps (80 MB), bodies and files on their way.
WORKER_BYTES = 160 * 1024 * 1024
# For Redis, SQL, templates, logs and uploads. Connections of clients may have the rest.
RESERVED_DESCRIPTORS = 256

GROUPS = Path("/sys/fs/cgroup")
OWN_GROUP = Path("/proc/self/cgroup")


def web_workers() -> int:
    """Return how many web workers fit: one for each core, as far as the memory reaches; at least one."""
    return max(1, int(min(cores(), memory_bytes() // WORKER_BYTES)))


def cores() -> int:
    """Return how many cores this process may keep busy. A container's share of one counts as one."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    shares = [ceil(quota / period) for quota, period in _limits("cpu.max")]
    return min([affinity, *shares])


def memory_bytes() -> float:
    """Return the memory that this process and its siblings may use together; infinite where nothing limits it."""
    return min((limit for limit, *_ in _limits("memory.max")), default=inf)


def allow_descriptors() -> None:
    """Take as many file descriptors as the system allows this process, for it and its children."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # macOS names a limit that it does not grant
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def most_connections() -> int:
    """Return how many connections leave this process the descriptors that it needs itself."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return sys.maxsize
    return max(soft // 2, soft - RESERVED_DESCRIPTORS)


def _limits(name: str) -> Iterator[list[int]]:
    """Yield the numbers of every limit of that name on this process (cgroups(7), version 2): those of its own group,
    and of each group around it."""
    try:
        lines = OWN_GROUP.read_text().splitlines()
    except OSError:
        return
    own = next((line.removeprefix("0::/") for line in lines if line.startswith("0::")), "")
    for place in (GROUPS / own, *(GROUPS / own).parents):
        if place.is_relative_to(GROUPS):
            with suppress(OSError, ValueError):  # there is none, or it says "max"
                yield [int(number) for number in (place / name).read_text().split()]
