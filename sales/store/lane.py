"""Commands and scripts of the lane, to wherever Redis is."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, NamedTuple, TypeVar

import redis
from django.conf import settings
from redis.exceptions import NoScriptError

from sales.per_loop import per_loop
from sales.store.cluster import Cluster
from sales.store.failures import Failure, meaning
from sales.store.keys import key
from sales.store.scripts import script
from sales.store.sentinel import WatchedServer
from sales.store.server import Command, Replies, Server
from sales.store.trouble import noted

Exchanged = TypeVar("Exchanged")
_Exchange = Callable[[Sequence[Command]], Awaitable[Replies]]


class Answer(NamedTuple):
    """A reply, or the Failure in its place; and the run id of the server that gave it."""

    reply: Any
    run_id: str


@per_loop
def _route() -> Server | WatchedServer | Cluster:
    kind = settings.REDIS_ADDRESS.kind
    return Cluster() if kind == "cluster" else WatchedServer() if kind == "sentinel" else Server(settings.REDIS_URL)


def _reader() -> _Exchange:
    """Return how to send what changes nothing."""
    route = _route()
    return route.read if isinstance(route, Cluster) else route.exchange


async def close() -> None:
    """Close the connections of this loop, which ends before its process does."""
    await _route().close()


async def call(*commands: Command) -> list[Any]:
    """Send commands in one write to each server, and return their replies, in order. Never sends anything twice.

    Raises Unavailable when Redis did not take one of them, Unknown when it may have.
    """
    replies, _ = await _noted(_route().exchange(commands))
    for reply in map(_told, replies):
        if isinstance(reply, Failure):
            raise reply
    return replies


async def ask(*commands: Command) -> list[Answer]:
    """Send commands as `call` does. A Failure stands in place of its reply; it is raised only when there is no other.

    In a cluster the servers fail one by one, each has its own run, and the others do not wait for one that hangs:
    for commands that change nothing.
    """
    replies, run_ids = await _noted(_reader()(commands))
    return [Answer(_told(reply), run_id) for reply, run_id in zip(replies, run_ids, strict=True)]


async def ask_everywhere(*commands: Command) -> dict[str, list[Any] | Failure]:
    """Return the replies of each server that takes purchases, or the Failure that it met, by the server's name."""
    found = await _noted(_route().everywhere(commands))
    return {
        name: _told(said) if isinstance(said, Failure) else list(map(_told, said[0])) for name, said in found.items()
    }


def place(sale_id: int) -> object:
    """Return what stands for the server that holds a sale: who waits for one of them need not wait for another."""
    return _route().place(key(sale_id, "config"))


async def run_scripts(name: str, calls: Iterable[tuple[Sequence[str], Sequence[Any]]]) -> list[Any]:
    """Run a script once for each of `calls`, which are its keys and arguments; each server gets its own in one write.

    Returns each one's reply, or the Failure that it met. A server that does not have the script did not run it: those
    calls are sent again, with the script. Raises as `call`, when none of them got a reply.
    """
    return await _run_scripts(_route().exchange, name, calls)


async def ask_scripts(name: str, calls: Iterable[tuple[Sequence[str], Sequence[Any]]]) -> list[Any]:
    """Run a script as `run_scripts` does, but wait for servers as `ask` does: for scripts that change nothing."""
    return await _run_scripts(_reader(), name, calls)


async def _run_scripts(
    exchange: _Exchange, name: str, calls: Iterable[tuple[Sequence[str], Sequence[Any]]]
) -> list[Any]:
    source = script(name)
    commands = [("EVALSHA", source.sha, len(keys), *keys, *args) for keys, args in calls]
    replies, _ = await _noted(exchange(commands))
    if missed := [place for place, reply in enumerate(replies) if isinstance(reply, NoScriptError)]:
        again: list[Any]
        try:
            again, _ = await _noted(exchange([("EVAL", source.text, *commands[place][2:]) for place in missed]))
        except Failure as failure:  # what the others were answered still holds
            again = [failure] * len(missed)
        for place, reply in zip(missed, again, strict=True):
            replies[place] = reply
    return list(map(_told, replies))


async def _noted(exchange: Awaitable[Exchanged]) -> Exchanged:
    try:
        return await exchange
    except Failure as failure:
        noted(failure)
        raise


def _told(reply: Any) -> Any:
    """Return a reply, or what it means when it is an error."""
    if isinstance(reply, Failure):
        return noted(reply)
    if not isinstance(reply, redis.RedisError):
        return reply
    failure = meaning(reply)
    failure.__cause__ = reply
    return noted(failure)
