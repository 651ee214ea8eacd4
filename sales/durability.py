"""Whether the Redis in use keeps what it has answered: its settings against those of the guarantee."""

import logging

from sales import store

# design: an acknowledged purchase is on disk, and Redis never evicts one.
EXPECTED = {
    "appendonly": "yes",
    "appendfsync": "always",
    "no-appendfsync-on-rewrite": "no",
    "maxmemory-policy": "noeviction",
}
UNKNOWN = "unknown: this Redis does not tell its settings (CONFIG is forbidden)"

log = logging.getLogger(__name__)


def verdict(found: dict[str, str]) -> str:
    """Return "ok", or the settings that are weaker than promised and what they should be."""
    weak = [f"{name} is {found.get(name)}, not {value}" for name, value in EXPECTED.items() if found.get(name) != value]
    return "; ".join(weak) or "ok"


def check() -> str:
    """Return the verdict on the Redis in use, UNKNOWN where it does not tell. Raises store.Unavailable."""
    try:
        return verdict({name: store.client().config_get(name).get(name, "") for name in EXPECTED})
    except store.ResponseError:
        return UNKNOWN
    except store.RedisError as error:
        raise store.Unavailable(str(error)) from error


async def check_on_lane() -> str:
    """Return what `check` does. Raises store.Unavailable."""
    try:
        replies = await store.call(*(("CONFIG", "GET", name) for name in EXPECTED))
    except store.Failure as failure:
        if isinstance(failure.__cause__, store.ResponseError):
            return UNKNOWN
        raise store.Unavailable(*failure.args) from failure
    return verdict({reply[0].decode(): reply[1].decode() for reply in replies if reply})


def log_verdict() -> None:
    """Log once, loudly, when Redis may lose acknowledged purchases. Says nothing when Redis cannot be reached."""
    try:
        found = check()
    except store.Unavailable:
        return
    if found != "ok":
        log.error("Redis may lose acknowledged purchases: %s. Set this in its configuration.", found)
