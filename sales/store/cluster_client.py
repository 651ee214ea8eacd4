"""redis-py's client of a cluster, held to this project's rules: nothing is sent twice, every error is a RedisError."""

from contextlib import suppress
from typing import Any

import redis
from redis.client import Pipeline
from redis.cluster import ClusterNode, RedisCluster
from redis.exceptions import MovedError, RedisClusterException

from sales.store.keys import key_of, slot


class ClusterClient(RedisCluster):
    """A client of all servers. A command that a server sends on (MOVED, ASK) has not run there: it follows it.

    RedisCluster's own pipelines send again what may have run, and cannot ask a server for its time: `pipeline_to`
    returns one of the server that holds a slot.
    """

    def execute_command(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().execute_command(*args, **kwargs)
        except RedisClusterException as error:  # which is no RedisError
            raise redis.ConnectionError(str(error)) from error

    def determine_slot(self, *args: Any) -> int:
        """Return the slot of a command's key without asking a server, which may be the one that is away."""
        if "STREAMS" in args or b"STREAMS" in args:
            return slot(_text(args[list(map(_text, args)).index("STREAMS") + 1]))
        return slot(key_of(args))

    def pipeline_to(self, slot: int, *, transaction: bool) -> Pipeline:
        pool = self.master_of(slot).connection_pool
        return _Pipeline(self, pool, self.master_of(slot).response_callbacks, transaction, None)

    def masters(self) -> dict[str, Any]:
        """Return a client of each master, by its address."""
        return {node.name: self.get_redis_connection(node) for node in self.get_primaries()}

    def master_of(self, slot: int) -> Any:
        """Return a client of the master that holds a slot."""
        return self.get_redis_connection(self._node_of(slot))

    def name_of(self, slot: int) -> str:
        """Return the address of the master that holds a slot, or "" when none does."""
        try:
            return self._node_of(slot).name
        except redis.ConnectionError:
            return ""

    def learn(self) -> None:
        """Ask the servers again who holds what; when none tells, what was known stands."""
        with suppress(RedisClusterException):
            self.nodes_manager.initialize()

    def _node_of(self, slot: int) -> ClusterNode:
        try:
            return self.nodes_manager.get_node_from_slot(slot)
        except RedisClusterException as error:
            self.learn()
            raise redis.ConnectionError(str(error)) from error


class _Pipeline(Pipeline):
    """A pipeline to one server of a cluster. After a failure the next one goes to whoever holds the slot then."""

    def __init__(self, cluster: ClusterClient, *args: Any):
        super().__init__(*args)
        self._cluster = cluster

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        try:
            return super().execute(raise_on_error)
        except (MovedError, redis.ConnectionError, redis.TimeoutError):
            self._cluster.learn()
            raise


def _text(word: Any) -> str:
    return word.decode(errors="replace") if isinstance(word, bytes) else str(word)
