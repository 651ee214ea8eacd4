"""What nginx does in front, with the configuration that is shipped: copies of status and page, TLS, and passing on."""

import re
import subprocess
import time
from typing import Any

import httpx

from tests.load.bench.contenders import FlashSale
from tests.load.bench.measure import cpu_seconds, wrk
from tests.load.scaling.web_worker import OneWorker
from tests.proxies import Nginx

CONNECTIONS, SECONDS, ROUNDS = 256, 2, 3
# wrk and openssl say no other name than that of the machine they go to; and all load comes from one address.
CHANGES = {
    "server_name shop.example.com;": "server_name localhost;",
    "listen 443 ssl default_server;": "listen 443 ssl;",
    "listen 443 ssl http2;": "listen 443 ssl http2 default_server;",
    "worker_connections 1000;": "worker_connections 8192;",
    "rate=200r/s;": "rate=1000000r/s;",
    "rate=50r/s;": "rate=1000000r/s;",
    "burst=400 nodelay;": "burst=100000 nodelay;",
    "burst=100 nodelay;": "burst=100000 nodelay;",
    "limit_conn connections 1000;": "limit_conn connections 60000;",
    "keepalive_requests 1000;": "keepalive_requests 1000000000;",
}
STATUS, PAGE, PURCHASE = "/api/sale/status", "/", "/api/sale/purchase"


def measure_saturation() -> list[dict[str, Any]]:
    """Return what one core of nginx serves a second: status, page and files from its copies, purchases passed on, and
    TLS handshakes (P-256, TLS 1.3); and how many of those requests the app saw."""
    points = []
    with OneWorker() as flashsale:
        nginx = Nginx([flashsale.port], CHANGES)
        try:
            nginx.start()
            works = {"status": STATUS, "page": PAGE, "file": _style_sheet(flashsale), "winning": PURCHASE}
            for _ in range(ROUNDS):
                points += [_requests(flashsale, nginx, *work) for work in works.items()]
                points.append(_handshakes(nginx))
        finally:
            nginx.stop()
    return points


def measure_sizes() -> dict[str, int]:
    """Return the bytes of each answer, head and body, as a browser gets them that takes brotli and gzip."""
    with OneWorker() as flashsale, httpx.Client(base_url=flashsale.address) as client:
        time.sleep(0.5)
        page = client.get(PAGE, headers={"Accept-Encoding": "br, gzip"})
        files = set(re.findall(r"/static/[^\"' )?]+\.(?:css|js)", page.text))
        sizes = {
            "page": _size(page),
            "files": sum(_size(client.get(file, headers={"Accept-Encoding": "br, gzip"})) for file in files),
            "status": _size(client.get(STATUS)),
            "purchase": _size(client.post(PURCHASE, json={"userId": "ada@example.com"})),
        }
    print("  " + ", ".join(f"{name} {size:,} bytes" for name, size in sizes.items()))
    return sizes


def _size(response: httpx.Response) -> int:
    response.raise_for_status()
    return response.num_bytes_downloaded + sum(len(name) + len(value) + 4 for name, value in response.headers.raw) + 17


def _style_sheet(flashsale: FlashSale) -> str:
    """Return the path of the sale page's style sheet, which its content names."""
    found = re.search(r"/static/sales/sale\.[0-9a-f]+\.css", httpx.get(f"{flashsale.address}{PAGE}").text)
    assert found
    return found[0]


def _requests(flashsale: FlashSale, nginx: Nginx, work: str, path: str) -> dict[str, Any]:
    url = f"https://localhost:{nginx.https_port}{path}"
    seen, cpu, app_cpu = _seen(flashsale), cpu_seconds(nginx.processes()), cpu_seconds(flashsale.processes())
    found = wrk(url, work, CONNECTIONS, SECONDS)
    assert found["refused"] + found["broken"] == 0, found
    requests = found["requests"]
    point = {
        "work": work,
        "per_second": requests / found["seconds"],
        "nginx_us": (cpu_seconds(nginx.processes()) - cpu) * 1e6 / requests,
        "app_us": (cpu_seconds(flashsale.processes()) - app_cpu) * 1e6 / requests,
        "seen_per_second": (_seen(flashsale) - seen) / found["seconds"],
    }
    _tell(point)
    return point


def _handshakes(nginx: Nginx) -> dict[str, Any]:
    """Open connections one after the other and in two processes, each with a handshake of its own."""
    command = ["openssl", "s_time", "-connect", f"localhost:{nginx.https_port}", "-new", "-time", str(SECONDS)]
    cpu, started = cpu_seconds(nginx.processes()), time.monotonic()
    clients = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) for _ in range(2)
    ]
    told = [client.communicate(timeout=SECONDS + 30)[0] for client in clients]
    seconds = time.monotonic() - started
    connections = sum(map(int, re.findall(r"(\d+) connections in \d+ real seconds", "".join(told))))
    used = (cpu_seconds(nginx.processes()) - cpu) * 1e6 / connections
    point = {"work": "handshake", "per_second": connections / seconds, "nginx_us": used}
    _tell(point)
    return point


def _seen(flashsale: FlashSale) -> float:
    """Return how many requests the app has answered, by its own metrics."""
    text = httpx.get(f"{flashsale.address}/metrics", timeout=5).raise_for_status().text
    return sum(float(line.split()[-1]) for line in text.splitlines() if re.match(r"\w*request\w*_count\b", line))


def _tell(point: dict[str, Any]) -> None:
    rest = f", the app saw {point['seen_per_second']:,.0f}/s" if "seen_per_second" in point else ""
    print(f"  {point['work']:9} {point['per_second']:7,.0f}/s, {point['nginx_us']:5.1f} us of nginx{rest}", flush=True)
