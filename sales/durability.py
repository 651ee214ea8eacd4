"""Whether the Redis in use keeps what it has answered: its settings against those of the guarantee."""

import logging
from typing import Any

from sales import store

# design: an acknowledged purchase is on disk, and Redis never evicts one.
EXPECTED = {
    "appendonly": "yes",
    "appendfsync": "always",
    "no-appendfsync-on-rewrite": "no",
    "maxmemory-policy": "noeviction",
}
UNKNOWN = "unknown: this Redis does not tell its settings (CONFIG is forbidden)"

AWAY = "unavailable"

log = logging.getLogger(__name__)


def verdict(found: dict[str, str]) -> str:
    """Return "ok", or the settings that are weaker than promised and what they should be."""
    weak = [f"{name} is {found.get(name)}, not {value}" for name, value in EXPECTED.items() if found.get(name) != value]
    return "; ".join(weak) or "ok"


def summary(verdicts: dict[str, str]) -> str:
    """Return the verdict on all servers: "ok", UNKNOWN, or what each one that is weaker has."""
    differing = {name: found for name, found in verdicts.items() if found != "ok"}
    if len(verdicts) == 1 or set(differing.values()) <= {UNKNOWN}:
        return next(iter(differing.values()), "ok")
    return "; ".join(f"{name}: {found}" for name, found in differing.items())


def check() -> str:
    """Return the verdict on the Redis in use, UNKNOWN where it does not tell. Raises store.Unavailable."""
    try:
        return summary({name: _ask(client) for name, client in store.servers().items()})
    except store.RedisError as error:
        raise store.Unavailable(str(error)) from error


def _ask(client: Any) -> str:
    try:
        return verdict({name: client.config_get(name).get(name, "") for name in EXPECTED})
    except store.ResponseError:
        return UNKNOWN


async def verdicts_on_lane() -> dict[str, str]:
    """Return the verdict on each server, by its name; AWAY for one of a cluster that is.

    Raises store.Unavailable where there is no other.
    """
    found = await store.ask_everywhere(*(("CONFIG", "GET", name) for name in EXPECTED))
    return {name: _read(said) for name, said in found.items()}


async def kept_on_lane() -> dict[str, bool]:
    """Return, of each setting, whether all servers have it that tell; nothing where none does. Raises as
    `verdicts_on_lane`."""
    found = await store.ask_everywhere(*(("CONFIG", "GET", name) for name in EXPECTED))
    kept: dict[str, bool] = {}
    for said in found.values():
        for reply in [] if isinstance(said, store.Failure) else said:
            if reply and not isinstance(reply, store.Failure):
                name, value = (word.decode() for word in reply)
                kept[name] = kept.get(name, True) and value == EXPECTED[name]
    return kept


def _read(said: list[Any] | store.Failure) -> str:
    if isinstance(said, store.Failure):
        return AWAY
    if failure := next((reply for reply in said if isinstance(reply, store.Failure)), None):
        if isinstance(failure.__cause__, store.ResponseError):
            return UNKNOWN
        return AWAY
    return verdict({reply[0].decode(): reply[1].decode() for reply in said if reply})


def log_verdict() -> None:
    """Log once, loudly, when Redis may lose acknowledged purchases. Says nothing when Redis cannot be reached."""
    try:
        found = check()
    except store.Unavailable:
        return
    if found != "ok":
        log.error("Redis may lose acknowledged purchases: %s. Set this in its configuration.", found)
