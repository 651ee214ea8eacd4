"""Several web nodes that share Redis and PostgreSQL behind nginx: one of them dies while shoppers buy."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import parts
from tests.faults import programs
from tests.faults.databases import new_postgresql
from tests.postgresql import MISSING, find_binaries
from tests.redis_servers import Node, wait_until
from tests.servers import free_port
from tests.shops import Shop, SoldSale, check

pytestmark = pytest.mark.long

STOCK = 1_500
NGINX = shutil.which("nginx") or "/usr/sbin/nginx"
# nginx tries the other node where it could not connect; what a node has got and not answered it must not repeat.
CONFIGURATION = """
daemon off; master_process off; pid {directory}/nginx.pid; error_log {directory}/nginx.log; worker_rlimit_nofile 2048;
events {{ worker_connections 1024; }}
http {{
  access_log off; client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi; uwsgi_temp_path {directory}/uwsgi; scgi_temp_path {directory}/scgi;
  upstream nodes {{ {servers} keepalive 16; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://nodes; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_set_header Host $host; proxy_connect_timeout 1s; error_page 502 504 =503 @unknown;
    }}
    location @unknown {{ default_type application/json; return 503 '{{"success":false,"code":"unknown"}}'; }}
  }}
}}
"""


@pytest.fixture
def shop(redis_node: Node) -> Iterator[Shop]:
    if not find_binaries():
        parts.lack(MISSING)
    with Shop(f"redis://127.0.0.1:{redis_node.port}/0", stock=STOCK, web_servers=2, database=new_postgresql()) as shop:
        yield shop


@pytest.fixture
def balancer(shop: Shop) -> int:
    """The port of an nginx in front of all nodes."""
    parts.need("nginx", NGINX if Path(NGINX).exists() else None)
    port, file = free_port(), shop.var_dir / "nginx.conf"
    servers = " ".join(f"server 127.0.0.1:{node} max_fails=1 fail_timeout=1s;" for node in shop.ports)
    file.write_text(CONFIGURATION.format(directory=shop.var_dir, port=port, servers=servers))
    shop.start([NGINX, "-c", str(file)], "nginx-process")
    wait_until(lambda: shop.is_open("sale-0", port), f"nginx answers: {shop.logs()}")
    return port


def test_a_dying_node_loses_no_purchase_and_no_unit(shop: Shop, redis_node: Node, balancer: int):
    sale = SoldSale(shop, "sale-0", redis_node)
    sale.start(balancer, threads=12)
    wait_until(lambda: len(sale.bought_since(0)) > STOCK // 10, "some have bought")

    killed = time.monotonic()
    programs.kill(shop.web[0])
    wait_until(lambda: len(sale.bought_since(killed)) > STOCK // 10, "the other node sells on")
    shop.web[0] = shop.start_web(shop.ports[0])
    wait_until(lambda: shop.is_open("sale-0", shop.ports[0]), "the node is back")
    wait_until(lambda: any(answer.code == "sold_out" for answer in list(sale.load.answers)), "all is sold")
    sale.load.stop()

    check([sale])
    assert len(sale.purchases()) == STOCK
    wait_until(lambda: shop.health()["status"] == "ok", "all is well")
