"""Redis: its keys, its connections, its scripts, and the two ways in which it can fail us.

The only importer of redis. The lane calls `call` and `run_scripts` (asyncio), everything else `client` (django-redis).
"""

import hashlib
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import hiredis
import redis
import redis.asyncio
from django.conf import settings
from django_redis import get_redis_connection
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError
from redis.retry import Retry

from sales.per_loop import per_loop

DIRECTORY = "{sales}:directory"
# Of the same form: sales that are found by their address alone, and are in no list.
REHEARSALS = "{sales}:rehearsals"
# The run id of the server whose directory was last compared with SQL.
CHECKED_RUN = "{sales}:checked_run"
# The web workers that are alive, and when each said so.
WORKERS = "{sales}:workers"
WRITERS = "writers"

# Stands in a command for the run id of the server that it is sent to: a server that starts again has another.
RUN_ID = object()

Command = tuple[Any, ...]

RedisError = redis.RedisError
ResponseError = redis.ResponseError


class Failure(Exception):
    """Redis gave no answer; `outcome` is the word for it."""

    outcome: str


class Unavailable(Failure):
    """Redis did not take the command: nothing was decided."""

    outcome = "unavailable"


class Unknown(Failure):
    """Redis may have taken the command: its answer did not arrive."""

    outcome = "unknown"


def key(sale_id: int, name: str) -> str:
    """Return one of a sale's keys. They share a hash tag, so that they live in one Cluster slot."""
    return f"{{sale:{sale_id}}}:{name}"


def client() -> Any:
    """Return django-redis's `redis.Redis`, for code that may block. Its commands raise RedisError.

    Untyped, because redis-py types each reply as the union of what all its configurations return.
    """
    return get_redis_connection("default")


class Script:
    """A script in `sales/lua`, named as its file."""

    def __init__(self, name: str):
        self.text = (Path(__file__).parent / "lua" / f"{name}.lua").read_text()
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


@cache
def script(name: str) -> Script:
    return Script(name)


def run_id_blocking() -> str:
    """Return the run id of the server that django-redis talks to."""
    return client().info("server")["run_id"]


def run_script_blocking(name: str, keys: Iterable[str], args: Iterable[Any]) -> Any:
    """Run a script through django-redis and return its reply."""
    return client().register_script(script(name).text)(keys=list(keys), args=list(args))


@per_loop
def _pool() -> redis.asyncio.ConnectionPool:
    # RESP 2: under RESP 3 redis-py keeps a connection that the server has closed, for the sake of push messages.
    return redis.asyncio.ConnectionPool.from_url(
        settings.REDIS_URL,
        protocol=2,
        socket_connect_timeout=settings.REDIS_CONNECT_TIMEOUT_SECONDS,
        socket_timeout=settings.REDIS_READ_TIMEOUT_SECONDS,
        retry=Retry(NoBackoff(), 0),
        redis_connect_func=_learn_run_id,
    )


async def _learn_run_id(connection: Any) -> None:
    """Greet the server as redis-py does, and keep its run id with the connection."""
    await connection.on_connect()
    await connection.send_command("INFO", "server")
    info = await connection.read_response()
    connection.run_id = info.partition(b"run_id:")[2].partition(b"\r")[0].decode()


async def close() -> None:
    """Close the connections of this loop, which ends before its process does."""
    await _pool().disconnect()


async def call(*commands: Command) -> list[Any]:
    """Send commands in one write and return their replies, in order. Never sends anything twice.

    Raises Unavailable when Redis did not take them, Unknown when it may have.
    """
    replies = await _exchange(commands)
    for reply in replies:
        if isinstance(reply, redis.RedisError):
            raise _meaning(reply) from reply
    return replies


async def _exchange(commands: Iterable[Command]) -> list[Any]:
    """Send commands in one write and return their replies, errors among them. Raises as `call`."""
    pool = _pool()
    try:
        connection = await pool.get_connection()
    except (redis.RedisError, OSError) as error:
        raise Unavailable(f"no connection to Redis: {error}") from error
    intact = False
    try:
        packed = [_packed(command, connection.run_id) for command in commands]
        await connection.send_packed_command(b"".join(packed))
        replies = [await _read(connection) for _ in packed]
        intact = True
        return replies
    except (redis.RedisError, OSError) as error:
        raise Unknown(f"the answer from Redis did not arrive: {error}") from error
    finally:
        if not intact:
            await connection.disconnect(nowait=True)
        await pool.release(connection)


def _packed(command: Command, run_id: str) -> bytes:
    """Return the command as it goes on the wire. hiredis packs ten times as fast as the connection does."""
    if RUN_ID in command:
        place = command.index(RUN_ID)
        command = (*command[:place], run_id, *command[place + 1 :])
    return hiredis.pack_command(command)


async def _read(connection: redis.asyncio.Connection) -> Any:
    try:
        return await connection.read_response()
    except (redis.ResponseError, redis.BusyLoadingError) as reply:
        return reply


def _meaning(reply: redis.RedisError) -> Failure:
    """Return what an error reply says of its command. Redis gives a refusal a code (OOM, READONLY, MISCONF, …) before
    the first write; an error without one may have struck a script half way."""
    code = str(reply).split(" ", 1)[0]
    refused = type(reply) is not redis.ResponseError or (code.isupper() and code != "WRONGTYPE")
    return Unavailable(f"Redis refused: {reply}") if refused else Unknown(f"Redis failed: {reply}")


async def run_scripts(name: str, calls: Iterable[tuple[Sequence[str], Sequence[Any]]]) -> list[Any]:
    """Run a script once for each of `calls`, which are its keys and arguments; all are sent in one write.

    Returns each one's reply, or the Failure that it met. A script that Redis does not have did not run: it is loaded,
    and those calls are sent again. Raises as `call`, when none of them got a reply.
    """
    source = script(name)
    commands = [("EVALSHA", source.sha, len(keys), *keys, *args) for keys, args in calls]
    replies = await _exchange(commands)
    if missed := [place for place, reply in enumerate(replies) if isinstance(reply, NoScriptError)]:
        try:
            _, *again = await _exchange([("SCRIPT", "LOAD", source.text), *(commands[place] for place in missed)])
        except Failure as failure:  # what the others were answered still holds
            again = [failure] * len(missed)
        for place, reply in zip(missed, again, strict=True):
            replies[place] = reply
    return [_meaning(reply) if isinstance(reply, redis.RedisError) else reply for reply in replies]
