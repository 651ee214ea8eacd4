"""One server, as the lane talks to it."""

import time
from collections.abc import Sequence
from functools import cache
from typing import Any

import hiredis
import redis
import redis.asyncio
from django.conf import settings
from redis.asyncio.connection import RedisSSLContext, SSLConnection
from redis.backoff import NoBackoff
from redis.retry import Retry

from sales.store.failures import Unavailable, Unknown
from sales.store.runs import name_run

# Stands in a command for the run of the server that it is sent to, as `runs` names it.
RUN_ID = object()

Command = tuple[Any, ...]
_INFO: tuple[Command, ...] = ("INFO", "server"), ("INFO", "replication")
# A connection that has learned which run it speaks to believes it for this long, and until an error: a server that was
# replaced for a while may come back in the same process, with what its replacement had.
BELIEVED_SECONDS = 1.0

# Replies in the order of the commands, errors among them; and the run of the server that gave each.
Replies = tuple[list[Any], list[str]]


class Server:
    """One loop's connections to the server at a URL."""

    def __init__(self, url: str):
        # RESP 2: under RESP 3 redis-py keeps a connection that the server has closed, for the sake of push messages.
        self._pool = redis.asyncio.ConnectionPool.from_url(
            url,
            protocol=2,
            socket_connect_timeout=settings.REDIS_CONNECT_TIMEOUT_SECONDS,
            socket_timeout=settings.REDIS_READ_TIMEOUT_SECONDS,
            retry=Retry(NoBackoff(), 0),
            redis_connect_func=_greet,
        )
        if url.startswith("rediss:"):
            self._pool.connection_class = _TLSConnection

    async def exchange(self, commands: Sequence[Command]) -> Replies:
        """Send commands in one write and return their replies. Never sends anything twice.

        Raises Unavailable when the server did not take them, Unknown when it may have.
        """
        pool = self._pool
        try:
            connection = await pool.get_connection()
        except (redis.RedisError, OSError) as error:
            raise Unavailable(f"no connection to Redis: {error}") from error
        is_sent = intact = False
        try:
            run_id = await _run_of(connection)
            is_sent = True
            await connection.send_packed_command(b"".join([_packed(command, run_id) for command in commands]))
            replies = [await _read(connection) for _ in commands]
            intact = True
            return replies, [run_id] * len(replies)
        except (redis.RedisError, OSError) as error:
            if not is_sent:
                raise Unavailable(f"no connection to Redis: {error}") from error
            raise Unknown(f"the answer from Redis did not arrive: {error}") from error
        finally:
            if not intact:
                await connection.disconnect(nowait=True)
            await pool.release(connection)

    async def everywhere(self, commands: Sequence[Command]) -> dict[str, Replies | Unavailable | Unknown]:
        """Return what each server that takes purchases says, by its name: this one has no other name than Redis."""
        return {"Redis": await self.exchange(commands)}

    def place(self, key: str) -> object:
        """Return what stands for the server that holds a key."""
        return None

    async def close(self) -> None:
        await self._pool.disconnect()


class _TLSConnection(SSLConnection):
    """A connection that shares its context: to make one reads all certificates of the system, which takes 50 ms."""

    def __init__(self, **options: Any):
        super().__init__(**options)
        self.ssl_context = _shared_context()


@cache
def _shared_context() -> RedisSSLContext:
    """Return what redis-py makes of the options of REDIS_URL, of which there are no others."""
    made = SSLConnection(**{name: value for name, value in settings.REDIS_ADDRESS.tls.items() if name != "ssl"})
    return made.ssl_context


async def _greet(connection: Any) -> None:
    """Greet the server as redis-py does, and learn which run it is."""
    await connection.on_connect()
    await _learn_run(connection)


async def _run_of(connection: Any) -> str:
    """Return the run of the server at the other end."""
    if time.monotonic() > connection.believed_until:
        await _learn_run(connection)
    run_id: str = connection.run_id
    return run_id


async def _learn_run(connection: Any) -> None:
    await connection.send_packed_command(b"".join(map(hiredis.pack_command, _INFO)))
    server, replication = [await connection.read_response() for _ in range(2)]
    connection.run_id = name_run(_field(server, b"run_id"), _field(replication, b"master_replid2"))
    connection.believed_until = time.monotonic() + BELIEVED_SECONDS


def _field(info: bytes, name: bytes) -> str:
    return info.partition(b"\n" + name + b":")[2].partition(b"\r")[0].decode()


def _packed(command: Command, run_id: str) -> bytes:
    """Return the command as it goes on the wire. hiredis packs ten times as fast as the connection does."""
    if RUN_ID in command:
        place = command.index(RUN_ID)
        command = (*command[:place], run_id, *command[place + 1 :])
    return hiredis.pack_command(command)


async def _read(connection: Any) -> Any:
    try:
        return await connection.read_response()
    except (redis.ResponseError, redis.BusyLoadingError) as reply:
        connection.believed_until = 0
        return reply
