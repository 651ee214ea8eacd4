"""Redis over TLS: one server, a cluster, and sentinels with a login of their own. Nothing is believed unverified."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import redis

from flashsale import embedded_redis
from tests.faults import programs
from tests.faults.load import Client
from tests.redis_servers import Installation, Node, RedisCluster, wait_until
from tests.servers import free_port
from tests.shops import Shop
from tests.tls import Certificate, Door

pytestmark = pytest.mark.long

SENTINEL_LOGIN = {"sentinel_username": "watcher", "sentinel_password": "s3same?"}
# Whether both ways to Redis find it.
LOOK = """
import asyncio, json
from django.conf import settings
from django.core.cache import cache
from sales import store
settings.REDIS_CONNECT_TIMEOUT_SECONDS = settings.CACHES["default"]["OPTIONS"]["SOCKET_CONNECT_TIMEOUT"] = 10
found = {}
try:
    found["blocking"] = str(cache.get("nothing"))
except Exception as error:
    found["blocking"] = str(error)
try:
    found["lane"] = str(asyncio.run(store.call(("GET", "nothing")))[0])
except store.Failure as error:
    found["lane"] = str(error)
print(json.dumps(found))
"""


class OneServer(Installation):
    """A server whose shoppers come through a door."""

    def set_up(self) -> None:
        self.certificate = Certificate(self.directory)
        self.nodes.append(Node(self.directory))
        self.door = Door(self.certificate)
        self.door.open(self.nodes[0].port)

    def url(self, **options: str) -> str:
        return f"rediss://127.0.0.1:{self.door.port}/0?{urlencode(options)}"


class GuardedCluster(RedisCluster):
    """Three masters that tell everybody to come through their doors."""

    size = 3

    def set_up(self) -> None:
        self.certificate = Certificate(self.directory)
        self.doors: list[Door] = []
        super().set_up()

    def new_node(self, *options: str) -> Node:
        door = Door(self.certificate)
        node = super().new_node(*options, "--cluster-announce-port", str(door.port))
        door.open(node.port)
        self.doors.append(door)
        return node

    def url(self, **options: str) -> str:  # type: ignore[override]
        return f"rediss+cluster://127.0.0.1:{self.doors[0].port}?{urlencode(options)}"


class GuardedSentinel(Installation):
    """A master with a login, and a sentinel with another one."""

    def set_up(self) -> None:
        self.certificate = Certificate(self.directory)
        master, door = Node(self.directory), Door(self.certificate, lets_plain_in=True)
        self.nodes.append(master)
        master.client.execute_command("ACL", "SETUSER", "shop", "on", ">p@ss", "~*", "&*", "+@all")
        door.open(master.port)
        self.door = Door(self.certificate)
        self.door.open(self._start_sentinel(door.port))

    def _start_sentinel(self, master_port: int) -> int:
        port, file = free_port(), self.directory / "sentinel.conf"
        user, password = SENTINEL_LOGIN.values()
        file.write_text(
            f"port {port}\nbind 127.0.0.1\ndir {self.directory}\n"
            f"user {user} on >{password} ~* &* +@all\nuser default off\n"
            f"sentinel monitor shop 127.0.0.1 {master_port} 1\n"
        )
        words = [embedded_redis.server_binary(), str(file), "--sentinel"]
        self.sentinel = programs.start(
            words, self.directory / "log", programs.environment(self.directory), self.directory
        )
        asked = redis.Redis(port=port, username=user, password=password)
        wait_until(lambda: _is_sure(asked), "the sentinel knows the master")
        return port

    def __exit__(self, *_: object) -> None:
        programs.kill(self.sentinel)
        super().__exit__()

    def url(self, **options: str) -> str:
        return f"rediss+sentinel://shop:p%40ss@127.0.0.1:{self.door.port}/shop/0?{urlencode(SENTINEL_LOGIN | options)}"


def _is_sure(sentinel: Any) -> bool:
    try:
        return sentinel.sentinel_masters()["shop"]["flags"] == "master"
    except redis.RedisError:
        return False


KINDS = {"single": OneServer, "cluster": GuardedCluster, "sentinel": GuardedSentinel}


@pytest.fixture(scope="module", params=list(KINDS.values()), ids=list(KINDS))
def guarded(request: pytest.FixtureRequest) -> Iterator[OneServer | GuardedCluster | GuardedSentinel]:
    with request.param() as installation:
        yield installation


@pytest.fixture
def trusting(guarded: OneServer) -> dict[str, str]:
    """The options of who knows the certificate, and has one."""
    known = guarded.certificate
    return {"ssl_ca_certs": str(known.file), "ssl_certfile": str(known.file), "ssl_keyfile": str(known.key)}


def settled(client: Client, user_id: str) -> str:
    """Buy, and repeat it while a busy machine is too slow; return the code of the answer."""
    codes: list[str] = []

    def is_settled() -> bool:
        codes.append(client.buy(user_id, user_id).code)
        return codes[-1] not in {"unavailable", "unknown"}

    wait_until(is_settled, f"{user_id} has an answer")
    return codes[-1]


def test_a_shop_sells_through_tls(guarded: OneServer, trusting: dict[str, str]):
    with Shop(guarded.url(**trusting), count=3, stock=1) as shop:
        codes = {
            slug: [settled(Client(shop.ports[0], slug), user_id) for user_id in ("ada", "bob", "ada")]
            for slug in shop.sale_ids
        }
        wait_until(lambda: shop.health()["writer"].get("backlog") == 0, "the orders are written")
        wait_until(lambda: shop.health()["status"] == "ok", "all is well")
        health, audits = shop.health(), shop.audits()

    assert codes == {slug: ["purchased", "sold_out", "purchased"] for slug in shop.sale_ids}
    assert health["redis"]["durability"] == "ok"
    assert not [found["drift"] for found in audits.values() if found["drift"]]


def look(url: str, var_dir: Path) -> dict[str, str]:
    settings = programs.environment(var_dir, REDIS_URL=url)
    found: dict[str, str] = json.loads(
        programs.run_manage(programs.PROJECT_DIR, settings, "shell", "--no-imports", "-c", LOOK)
    )
    return found


def test_a_server_with_an_untrusted_certificate_is_not_believed(
    guarded: OneServer, trusting: dict[str, str], tmp_path: Path
):
    other = Certificate(tmp_path)

    found = look(guarded.url(**trusting | {"ssl_ca_certs": str(other.file)}), tmp_path)
    unverified = look(guarded.url(**trusting | {"ssl_ca_certs": str(other.file), "ssl_cert_reqs": "none"}), tmp_path)

    assert set(found) == {"blocking", "lane"}
    # The clients of a cluster and of sentinels keep to themselves what each server said.
    words = ("CERTIFICATE_VERIFY_FAILED", "cannot be connected", "No master found", "no server of the cluster tells")
    assert all(any(word in said for word in words) for said in found.values()), found
    assert unverified == dict.fromkeys(found, "None")


def test_a_certificate_is_of_the_name_that_was_asked_for(tmp_path: Path):
    with OneServer() as server:
        known = server.certificate
        options = {"ssl_ca_certs": str(known.file), "ssl_certfile": str(known.file), "ssl_keyfile": str(known.key)}
        elsewhere = server.url(**options).replace("127.0.0.1", "localhost")
        found, unnamed = look(elsewhere, tmp_path), look(f"{elsewhere}&ssl_check_hostname=false", tmp_path)

    assert all("CERTIFICATE_VERIFY_FAILED" in said for said in found.values()), found
    assert unnamed == dict.fromkeys(found, "None")
