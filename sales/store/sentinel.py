"""A master that sentinels watch: which server it is, the lane asks them when it does not know."""

import asyncio
import time
from collections.abc import Sequence

import redis
from django.conf import settings
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.retry import Retry

from sales.store.failures import Unavailable, Unknown, may_have_successor
from sales.store.server import Command, Replies, Server

# However often the master refuses, the sentinels are not asked more often than this who it is.
LOOK_EVERY_SECONDS = 0.1


class WatchedServer:
    """One loop's connections to whichever server is the master."""

    def __init__(self) -> None:
        self._address = settings.REDIS_ADDRESS
        self._sentinels = Sentinel(
            self._address.hosts,
            sentinel_kwargs={
                "protocol": 2,
                "socket_connect_timeout": settings.REDIS_CONNECT_TIMEOUT_SECONDS,
                "socket_timeout": settings.REDIS_CONNECT_TIMEOUT_SECONDS,
                "retry": Retry(NoBackoff(), 0),
                **self._address.sentinel_options,
            },
        )
        self._server: Server | None = None
        self._named: tuple[str, int] | None = None
        self._asking = asyncio.Lock()
        self._look_task: asyncio.Task[None] | None = None
        self._looked_at = -LOOK_EVERY_SECONDS

    async def exchange(self, commands: Sequence[Command]) -> Replies:
        """Send commands to the master as `Server.exchange` does. The next ones go to whoever is the master then."""
        server = await self._master()
        try:
            replies = await server.exchange(commands)
        except (Unavailable, Unknown):
            await self._forget(server)
            raise
        if any(map(may_have_successor, replies[0])):
            self._look_soon()
        return replies

    async def everywhere(self, commands: Sequence[Command]) -> dict[str, Replies | Unavailable | Unknown]:
        return {"Redis": await self.exchange(commands)}

    def place(self, key: str) -> object:
        return None

    async def close(self) -> None:
        if self._look_task:
            self._look_task.cancel()
        if self._server:
            await self._server.close()
        await self._sentinels.aclose()

    async def _master(self) -> Server:
        async with self._asking:  # of many who find it gone, one asks
            if not self._server:
                try:
                    self._named = await self._sentinels.discover_master(self._address.service)
                except (redis.RedisError, OSError) as error:
                    raise Unavailable(f"no sentinel names a master: {error}") from error
                self._server = Server(self._address.url_of(*self._named))
            return self._server

    def _look_soon(self) -> None:
        """Ask the sentinels in the background who the master is, unless that has just been done."""
        is_idle = self._look_task is None or self._look_task.done()
        if is_idle and time.monotonic() - self._looked_at > LOOK_EVERY_SECONDS:
            self._look_task = asyncio.create_task(self._look())

    async def _look(self) -> None:
        server = self._server
        try:
            found = await self._sentinels.discover_master(self._address.service)
        except (redis.RedisError, OSError):
            return  # the one that is known may still answer
        finally:
            self._looked_at = time.monotonic()
        if server and found != self._named:
            await self._forget(server)

    async def _forget(self, server: Server) -> None:
        if self._server is server:
            self._server = None
            await server.close()
