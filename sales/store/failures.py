"""The two ways in which Redis can fail us."""

import redis
from redis.exceptions import ClusterDownError, MasterDownError, ReadOnlyError

RedisError = redis.RedisError
ResponseError = redis.ResponseError


class Failure(Exception):
    """Redis gave no answer; `outcome` is the word for it."""

    outcome: str


class Unavailable(Failure):
    """Redis did not take the command: nothing was decided."""

    outcome = "unavailable"


class Archived(Unavailable):
    """Redis does not hold the purchases of a sale any more, which has ended: SQL does."""

    # What nearly all who ask then are told: so are they counted.
    outcome = "ended"


class Unknown(Failure):
    """Redis may have taken the command: its answer did not arrive."""

    outcome = "unknown"


def meaning(reply: redis.RedisError) -> Failure:
    """Return what an error reply says of its command. Redis gives a refusal a code (OOM, READONLY, MOVED, …) before
    the first write; an error without one may have struck a script half way."""
    code = str(reply).split(" ", 1)[0]
    if code == "ARCHIVED":
        return Archived(str(reply))
    refused = type(reply) is not redis.ResponseError or (code.isupper() and code != "WRONGTYPE")
    return Unavailable(f"Redis refused: {reply}") if refused else Unknown(f"Redis failed: {reply}")


def may_have_successor(reply: object) -> bool:
    """Return whether a server that says this may have been replaced, and not know it."""
    known = (ClusterDownError, MasterDownError, ReadOnlyError, redis.BusyLoadingError)
    return isinstance(reply, known) or (isinstance(reply, redis.ResponseError) and str(reply).startswith("NOREPLICAS"))
