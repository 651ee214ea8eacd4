"""Several Redis servers on loopback: a cluster, and a master with replicas and sentinels."""

import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from flashsale import embedded_redis
from tests.faults import programs
from tests.servers import free_port

READY_WITHIN_SECONDS = 120.0
# A master that is silent for so long is failed over.
NODE_TIMEOUT_MS = 1_000
# How often sentinels look and tell each other what they see: the defaults, 1 to 10 s, are for networks.
SENTINEL_PERIODS = ("info-period", "ping-period", "ask-period", "publish-period")
SENTINEL_PERIOD_MS = 200


class Node:
    """One server, with the settings of the guarantee."""

    def __init__(self, directory: Path, *options: str):
        self.port, self._directory = free_port(), directory / str(free_port())
        self._directory.mkdir(parents=True)
        self._options = options
        self.start()

    def start(self) -> None:
        words = embedded_redis.command(self._directory)
        # A primary waits 5 s for further replicas before it sends its data, if it is not told otherwise.
        own = ["--port", str(self.port), "--bind", "127.0.0.1", "--repl-diskless-sync-delay", "0", *self._options]
        self.process = programs.start(
            [*words, *own], self._directory / "log", programs.environment(self._directory), self._directory
        )
        wait_until(lambda: _answers(self.client), "a server answers")

    @property
    def client(self) -> Any:
        return client_of(self.port)

    @property
    def run_id(self) -> str:
        return self.client.info("server")["run_id"]

    @property
    def is_master(self) -> bool:
        return self.is_alive and self._role() == "master"

    @property
    def is_alive(self) -> bool:
        return self.process.poll() is None

    def _role(self) -> str:
        try:
            return self.client.info("replication")["role"]
        except redis.ConnectionError:  # sentinels cut off everybody from a server that they make a replica
            return self.client.info("replication")["role"]

    def kill(self) -> None:
        programs.kill(self.process)

    def lose_link(self) -> None:
        """Make a replica lose its master, for good: what is bought from now on it does not get."""
        self.client.config_set("primaryuser", "nobody")
        self.client.config_set("primaryauth", "wrong")
        self.client.execute_command("CLIENT", "KILL", "TYPE", "MASTER")
        wait_until(lambda: self.client.info("replication")["master_link_status"] == "down", "the link is down")

    def mend_link(self) -> None:
        self.client.config_set("primaryauth", "")


class Installation:
    """Nodes in a directory that goes with them. Use it as a context manager."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="flashsale-redis-", dir="/tmp"))
        self.nodes: list[Node] = []

    def __enter__(self) -> Any:
        try:
            self.set_up()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for node in self.nodes:
            node.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def set_up(self) -> None: ...


class RedisCluster(Installation):
    """Three masters with a replica each."""

    size = 6

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes[:2])

    def set_up(self) -> None:
        for _ in range(self.size):
            options = ["--cluster-enabled", "yes", "--cluster-node-timeout", str(NODE_TIMEOUT_MS)]
            options += ["--cluster-port", str(free_port()), "--cluster-require-full-coverage", "no"]
            self.nodes.append(self.new_node(*options, "--cluster-allow-replica-migration", "no"))
        masters, replicas = self.nodes[:3], self.nodes[3:]
        for number, node in enumerate(self.nodes):
            node.client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for number, master in enumerate(masters):
            first, last = number * 16_384 // 3, (number + 1) * 16_384 // 3 - 1
            master.client.execute_command("CLUSTER", "ADDSLOTSRANGE", first, last)
        for node in self.nodes[1:]:
            node.client.execute_command(
                "CLUSTER", "MEET", "127.0.0.1", self.nodes[0].port, self._bus_port(self.nodes[0])
            )
        wait_until(lambda: all(self._knows_all(node) for node in self.nodes), "the nodes know each other")
        for master, replica in zip(masters, replicas, strict=False):
            replica.client.execute_command("CLUSTER", "REPLICATE", self.id_of(master))
        wait_until(self.is_whole, "the cluster is whole")

    def new_node(self, *options: str) -> Node:
        return Node(self.directory, *options)

    def is_whole(self) -> bool:
        """Return whether every slot has a master that everybody agrees on, and each living replica its link."""
        for node in filter(lambda node: node.is_alive, self.nodes):
            if node.client.execute_command("CLUSTER INFO")["cluster_state"] != "ok":
                return False
            replication = node.client.info("replication")
            if replication["role"] == "slave" and replication["master_link_status"] != "up":
                return False
        return True

    def id_of(self, node: Node) -> str:
        return node.client.execute_command("CLUSTER", "MYID")

    def master_of(self, slot: int) -> Node:
        """Return the living node that holds a slot, as it says itself."""
        return next(node for node in self.nodes if node.is_master and self._holds(node, slot))

    def replica_of(self, master: Node) -> Node:
        return next(
            node
            for node in self.nodes
            if node.is_alive and not node.is_master and node.client.info("replication")["master_port"] == master.port
        )

    def _holds(self, node: Node, slot: int) -> bool:
        ranges = node.client.execute_command("CLUSTER", "SLOTS")
        return any(first <= slot <= last and master[1] == node.port for first, last, master, *_ in ranges)

    def _knows_all(self, node: Node) -> bool:
        info = node.client.execute_command("CLUSTER INFO")
        return int(info["cluster_known_nodes"]) == len(self.nodes) and info["cluster_state"] == "ok"

    def _bus_port(self, node: Node) -> str:
        return node.client.config_get("cluster-port")["cluster-port"]


class WatchedMaster(Installation):
    """A master with two replicas, and three sentinels that watch it."""

    service = "shop"

    @property
    def url(self) -> str:
        sentinels = ",".join(f"127.0.0.1:{port}" for port in self.sentinel_ports)
        return f"redis+sentinel://{sentinels}/{self.service}/0"

    def set_up(self) -> None:
        self.sentinel_ports: list[int] = []
        self._sentinels: list[subprocess.Popen[bytes]] = []
        master = Node(self.directory)
        self.nodes.append(master)
        for _ in range(2):
            self.nodes.append(Node(self.directory, "--replicaof", f"127.0.0.1 {master.port}"))
        wait_until(lambda: all(self._has_link(node) for node in self.nodes[1:]), "the replicas have their link")
        for _ in range(3):
            self._start_sentinel(master)
        wait_until(lambda: all(map(self._sees_all, self.sentinel_ports)), "the sentinels see all")

    def __exit__(self, *_: object) -> None:
        for process in self._sentinels:
            programs.kill(process)
        super().__exit__()

    def master(self) -> Node:
        """Return the master that the sentinels name."""
        port = self._ask(self.sentinel_ports[0], "GET-MASTER-ADDR-BY-NAME", self.service)[1]
        return next(node for node in self.nodes if node.port == int(port))

    def replicas(self) -> list[Node]:
        return [node for node in self.nodes if node.is_alive and not node.is_master]

    def _start_sentinel(self, master: Node) -> None:
        port = free_port()
        directory = self.directory / f"sentinel-{port}"
        directory.mkdir()
        file = directory / "sentinel.conf"
        file.write_text(
            f"port {port}\nbind 127.0.0.1\ndir {directory}\n"
            f"sentinel monitor {self.service} 127.0.0.1 {master.port} 2\n"
            f"sentinel down-after-milliseconds {self.service} {NODE_TIMEOUT_MS}\n"
            f"sentinel failover-timeout {self.service} 5000\n"
        )
        command = [embedded_redis.server_binary(), str(file), "--sentinel"]
        process = programs.start(command, directory / "log", programs.environment(directory), directory)
        self._sentinels.append(process)
        self.sentinel_ports.append(port)
        wait_until(lambda: _answers(client_of(port)), "a sentinel answers")
        self._ask(port, "DEBUG", *(word for name in SENTINEL_PERIODS for word in (name, str(SENTINEL_PERIOD_MS))))

    def _sees_all(self, port: int) -> bool:
        words = self._ask(port, "MASTER", self.service)
        state = words if isinstance(words, dict) else dict(zip(words[::2], words[1::2], strict=True))
        return (int(state["num-slaves"]), int(state["num-other-sentinels"])) == (2, 2)

    def _has_link(self, node: Node) -> bool:
        return node.client.info("replication").get("master_link_status") == "up"

    def _ask(self, port: int, *words: str) -> Any:
        return client_of(port).execute_command("SENTINEL", *words)


def wait_until(is_so: Callable[[], bool], words: str, within_seconds: float = READY_WITHIN_SECONDS) -> None:
    """Return once it is so; fail when it is not within some seconds."""
    deadline = time.monotonic() + within_seconds
    while not is_so():
        assert time.monotonic() < deadline, f"not within {within_seconds} s: {words}"
        time.sleep(0.05)


def client_of(port: int) -> Any:
    """Return a client of one server, which asks once."""
    once = Retry(NoBackoff(), 0)
    return redis.Redis(port=port, decode_responses=True, socket_timeout=5, protocol=2, retry=once)


def _answers(client: Any) -> bool:
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False
