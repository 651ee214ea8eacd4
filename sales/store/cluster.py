"""A Redis Cluster, as the lane talks to it: each command goes to the server that holds its key."""

import asyncio
import random
import time
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from django.conf import settings
from redis.exceptions import AskError, MovedError

from sales.store.failures import Failure, Unavailable, Unknown, may_have_successor
from sales.store.keys import key_of, slot
from sales.store.server import Command, Replies, Server

# A command that is sent on has not run; one that is sent on as often as this goes round in a circle.
MOST_HOPS = 5
LEARN_WITHIN_SECONDS = 1.0
# A server that hangs keeps no reader from what the others tell.
READ_WITHIN_SECONDS = 0.4
# However much goes wrong, the cluster is not asked more often than this how it is arranged.
LEARN_EVERY_SECONDS = 0.1

Address = tuple[str, int]


class _Errand(NamedTuple):
    """A command on its way: its place among those of the caller, and whether it is to ask for a slot that moves."""

    place: int
    command: Command
    is_asking: bool = False


# By the server that they go to; None where no server holds their slot.
_Errands = dict[Address | None, list[_Errand]]


class Cluster:
    """One loop's connections to the servers of a cluster, and what it knows of who holds which slot."""

    def __init__(self) -> None:
        self._holders: list[Address | None] = []
        self._servers: dict[Address, Server] = {}
        self._known = set(settings.REDIS_ADDRESS.hosts)
        self._learn_task: asyncio.Task[None] | None = None
        self._learned_at = -LEARN_EVERY_SECONDS

    async def read(self, commands: Sequence[Command]) -> Replies:
        """Return the replies as `exchange` does, but wait for no server longer than READ_WITHIN_SECONDS."""
        return await self.exchange(commands, READ_WITHIN_SECONDS)

    async def exchange(self, commands: Sequence[Command], within_seconds: float | None = None) -> Replies:
        """Send each server its commands in one write, to all at the same time, and return the replies.

        A server that fails leaves a Failure in place of its replies, and does not touch the others'; when none has
        given a reply, that Failure is raised. A server that sends a command on (MOVED, ASK) has not run it: only then
        is it sent again, to the server that was named.
        """
        if not self._holders:
            await self._learned()
        replies: list[Any] = [None] * len(commands)
        run_ids = [""] * len(commands)
        errands: _Errands = {}
        for place, command in enumerate(commands):
            errands.setdefault(self._holders[slot(key_of(command))], []).append(_Errand(place, command))
        for _ in range(MOST_HOPS):
            answers = await asyncio.gather(*(self._send(*pair, within_seconds) for pair in errands.items()))
            onward: _Errands = {}
            for (address, group), (found, run_id) in zip(errands.items(), answers, strict=True):
                for errand, reply in zip(group, found, strict=True):
                    replies[errand.place], run_ids[errand.place] = reply, run_id
                    if isinstance(reply, AskError):  # a MovedError is one, too
                        asking = errand._replace(is_asking=not isinstance(reply, MovedError))
                        onward.setdefault(self._follow(reply, address), []).append(asking)
            if not (errands := onward):
                break
        if replies and all(isinstance(reply, Failure) for reply in replies):
            raise replies[0]
        return replies, run_ids

    async def everywhere(self, commands: Sequence[Command]) -> dict[str, Replies | Unavailable | Unknown]:
        """Return what each master says, or the Failure that it met, by the first slot that it holds: everybody may know
        that, but not its address."""
        if not self._holders:
            await self._learned()
        masters = {address: self._holders.index(address) for address in dict.fromkeys(self._holders) if address}
        answers = await asyncio.gather(*(self._exchange(address, commands, READ_WITHIN_SECONDS) for address in masters))
        return {f"slot {first}": answer for first, answer in zip(masters.values(), answers, strict=True)}

    def place(self, key: str) -> object:
        """Return what stands for the server that holds a key, as far as it is known."""
        return self._holders[slot(key)] if self._holders else None

    async def close(self) -> None:
        if self._learn_task:
            self._learn_task.cancel()
        for server in self._servers.values():
            await server.close()

    async def _send(
        self, address: Address | None, errands: Sequence[_Errand], within_seconds: float | None
    ) -> tuple[list[Any], str]:
        """Return the replies of one server, or as often the Failure that it met, and its run id."""
        if address is None:
            self._learn_soon()
            return [Unavailable("no server of the cluster holds this sale")] * len(errands), ""
        # ASKING holds for the one command that follows it.
        commands = [word for one in errands for word in ([("ASKING",)] if one.is_asking else []) + [one.command]]
        answer = await self._exchange(address, commands, within_seconds)
        if isinstance(answer, Failure):
            return [answer] * len(errands), ""
        if any(map(may_have_successor, answer[0])):
            self._learn_soon()
        replies = iter(answer[0])
        return [(next(replies), next(replies))[1] if one.is_asking else next(replies) for one in errands], answer[1][0]

    async def _exchange(
        self, address: Address, commands: Sequence[Command], within_seconds: float | None
    ) -> Replies | Unavailable | Unknown:
        try:
            async with asyncio.timeout(within_seconds):
                return await self._server(address).exchange(commands)
        except (Unavailable, Unknown, TimeoutError) as failure:
            self._learn_soon()  # another one may be the master by now
            return Unknown("Redis did not answer in time") if isinstance(failure, TimeoutError) else failure

    def _server(self, address: Address) -> Server:
        if address not in self._servers:
            self._servers[address] = Server(settings.REDIS_ADDRESS.url_of(*address))
        return self._servers[address]

    def _follow(self, error: AskError, said_by: Address | None) -> Address:
        """Return where to send a command on, and learn it where the slot has moved for good."""
        onward = (error.host or (said_by or ("", 0))[0], error.port)
        if isinstance(error, MovedError):
            self._holders[error.slot_id] = onward
            self._learn_soon()
        return onward

    async def _learned(self) -> None:
        """Wait until it is known who holds what. Raises Unavailable."""
        task = self._learn_task = self._learn_task or asyncio.create_task(self._learn())
        await asyncio.wait([task], timeout=LEARN_WITHIN_SECONDS)
        if not self._holders:
            if task.done():
                self._learn_task = None
            raise Unavailable("no server of the cluster tells how it is arranged")

    def _learn_soon(self) -> None:
        """Learn anew in the background, unless that has just been done."""
        is_idle = self._learn_task is None or self._learn_task.done()
        if is_idle and time.monotonic() - self._learned_at > LEARN_EVERY_SECONDS:
            self._learn_task = asyncio.create_task(self._learn())

    async def _learn(self) -> None:
        """Ask one server after another who holds which slot, until one tells."""
        for address in random.sample(sorted(self._known), len(self._known)):
            try:
                ((reply,), _) = await self._server(address).exchange([("CLUSTER", "SLOTS")])
            except Failure:
                continue
            if isinstance(reply, list):
                self._holders, found = _read_slots(reply, address)
                self._known = found | set(settings.REDIS_ADDRESS.hosts)
                break
        self._learned_at = time.monotonic()


def _read_slots(reply: Iterable[Any], said_by: Address) -> tuple[list[Address | None], set[Address]]:
    """Return the master of each slot, and all servers, of a reply to CLUSTER SLOTS."""
    holders: list[Address | None] = [None] * 16_384
    servers = set()
    for first, last, *nodes in reply:
        # A server that does not know its own name is where it was asked.
        addresses = [((node[0] or b"").decode() or said_by[0], node[1]) for node in nodes]
        servers.update(addresses)
        holders[first : last + 1] = [addresses[0]] * (last + 1 - first)
    return holders, servers
