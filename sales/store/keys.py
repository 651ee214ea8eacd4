"""The names of Redis's keys, and where in a cluster each lives."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from redis.crc import key_slot

DIRECTORY = "{sales}:directory"
# Of the same form: sales that are found by their address alone, and are in no list.
REHEARSALS = "{sales}:rehearsals"
# The run id of the server whose directory was last compared with SQL.
CHECKED_RUN = "{sales}:checked_run"
# The web workers that are alive, and when each said so.
WORKERS = "{sales}:workers"
# For some seconds, that a web worker remembers no more of what it acknowledges.
FORGETFUL = "{sales}:forgetful"
# Of each sale by its ID: when it was last audited, in milliseconds since 1970, and how many kinds of drift there were.
AUDITS = "{sales}:audits"
WRITERS = "writers"
# Of each e-mail address that is being confirmed.
CODES = "codes:"
# Of each that had a mail with codes while they are valid.
CODE_MAILS = "code_mails:"
# Of each press of a form: that it is under way or done, and its answer.
PRESSES = "presses:"

# Where a command's first key stands, when it is not its first argument. redis-py writes XINFO and its kind as one word.
_KEY_PLACES = {"EVALSHA": 3, "EVAL": 3, "XINFO": 2}
_KEYLESS = {"TIME", "ECHO", "CONFIG", "INFO", "PING", "CLUSTER"}


def key(sale_id: int, name: str) -> str:
    """Return one of a sale's keys. They share a hash tag, so that they live in one Cluster slot."""
    return f"{{sale:{sale_id}}}:{name}"


def key_of(command: Sequence[Any]) -> str:
    """Return a command's first key; of one without any, the directory: its server answers for the whole."""
    if command[0] in _KEYLESS:
        return DIRECTORY
    found = command[_KEY_PLACES.get(command[0], 1)]
    return found.decode() if isinstance(found, bytes) else found


def slot(key: str) -> int:
    """Return the slot that a key lives in: that of its hash tag, if it has one (Redis Cluster specification)."""
    opens = key.find("{")
    closes = key.find("}", opens + 1)
    return _slot(key[opens + 1 : closes] if opens >= 0 and closes > opens + 1 else key)


@lru_cache(maxsize=10_000)
def _slot(tag: str) -> int:
    return key_slot(tag.encode())
