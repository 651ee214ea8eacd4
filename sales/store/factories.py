"""How django-redis connects where there is more than one server."""

import threading
from typing import Any

import redis
from django.conf import settings
from django_redis.pool import ConnectionFactory, SentinelConnectionFactory
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode
from redis.exceptions import RedisClusterException
from redis.retry import Retry

from sales.store.cluster_client import ClusterClient


class ClusterFactory(ConnectionFactory):
    """Gives django-redis, which has no client of a cluster, one of ours: as many threads as like share it."""

    _client: ClusterClient | None = None
    _making = threading.Lock()

    def connect(self, url: str) -> Any:
        with self._making:
            if ClusterFactory._client is None:
                ClusterFactory._client = self._new_client()
            return ClusterFactory._client

    def disconnect(self, connection: Any) -> None:
        connection.disconnect_connection_pools()

    def _new_client(self) -> ClusterClient:
        address, parameters = settings.REDIS_ADDRESS, self.make_connection_params("")
        try:
            return ClusterClient(
                startup_nodes=[ClusterNode(host, port) for host, port in address.hosts],
                username=address.username or None,
                password=address.password or None,
                **address.tls,
                protocol=2,
                socket_connect_timeout=parameters["socket_connect_timeout"],
                socket_timeout=parameters["socket_timeout"],
                retry=Retry(NoBackoff(), 0),
                reinitialize_steps=1,
                # The sales of the other servers go on where one has failed.
                require_full_coverage=False,
            )
        except RedisClusterException as error:
            raise redis.ConnectionError(str(error)) from error


class SentinelFactory(SentinelConnectionFactory):
    """django-redis's own, with the sentinels of REDIS_URL, which are asked once and not for long."""

    def __init__(self, options: dict[str, Any]):
        timeouts = {
            "socket_connect_timeout": options["SOCKET_CONNECT_TIMEOUT"],
            "socket_timeout": options["SOCKET_CONNECT_TIMEOUT"],
        }
        address = settings.REDIS_ADDRESS
        sentinels = {
            "SENTINELS": address.hosts,
            "SENTINEL_KWARGS": {**timeouts, "retry": Retry(NoBackoff(), 0), **address.sentinel_options},
        }
        pool = options["CONNECTION_POOL_KWARGS"] | address.tls
        super().__init__({**options, **sentinels, "CONNECTION_POOL_KWARGS": pool})
