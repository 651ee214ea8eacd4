"""A real nginx with the configuration that is shipped, in front of web servers of the tests."""

import os
import re
import shutil
import ssl
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
from django.conf import settings

from flashsale.supervisor import die_with_parent
from tests import parts
from tests.servers import free_port

SHIPPED = settings.BASE_DIR / "deploy" / "nginx.conf"
NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
NAME = "shop.example.com"


class Nginx:
    """nginx on free ports of 127.0.0.1, from the shipped file with its paths, ports and upstream servers replaced.

    `changes` are further texts to replace, for instance a limit that a test wants to reach sooner.
    """

    def __init__(self, upstream_ports: list[int], changes: Mapping[str, str]):
        self.directory = Path(tempfile.mkdtemp(prefix="flashsale-nginx-"))
        self.directory.chmod(0o755)  # nginx's workers are another user where the tests are root
        self.http_port, self.https_port = free_port(), free_port()
        self.url = f"https://{NAME}:{self.https_port}"
        self._write(upstream_ports, changes)
        self._popen: subprocess.Popen[bytes] | None = None

    def _write(self, upstream_ports: list[int], changes: Mapping[str, str]) -> None:
        servers = "\n".join(f"server 127.0.0.1:{port} max_fails=3 fail_timeout=5s;" for port in upstream_ports)
        text = SHIPPED.read_text()
        for old, new in {
            "user www-data;\n": "daemon off;\n" + ("user www-data;\n" if os.getuid() == 0 else ""),
            "worker_processes auto;": "worker_processes 1;",
            "worker_rlimit_nofile 65536;\n": "",
            "worker_connections 16384;": "worker_connections 1000;",
            "server 127.0.0.1:8000 max_fails=3 fail_timeout=5s;": servers,
            **changes,
        }.items():
            assert old in text, f"deploy/nginx.conf has no {old!r}"
            text = text.replace(old, new)
        text = re.sub(r"^\s*listen \[::\].*\n", "", text, flags=re.MULTILINE)
        text = text.replace("listen 80", f"listen 127.0.0.1:{self.http_port}")
        text = text.replace("listen 443", f"listen 127.0.0.1:{self.https_port}")
        for place in ("/run", "/var/log/nginx", "/var/lib/nginx", "/var/cache/nginx", "/etc/ssl/flashsale"):
            (self.directory / place[1:]).mkdir(parents=True, exist_ok=True)
            text = text.replace(f" {place}/", f" {self.directory}{place}/")
        self.configuration = self.directory / "nginx.conf"
        self.configuration.write_text(text)
        self._make_certificate(self.directory / "etc/ssl/flashsale")

    def _make_certificate(self, directory: Path) -> None:
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        command += ["-keyout", str(directory / "privkey.pem"), "-out", str(directory / "fullchain.pem"), "-days", "2"]
        command += ["-subj", f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME}"]
        subprocess.run(command, check=True, capture_output=True)
        self.certificate = directory / "fullchain.pem"

    def command(self, *arguments: str) -> list[str]:
        assert NGINX
        return [NGINX, "-p", str(self.directory), "-c", str(self.configuration), "-e", "stderr", *arguments]

    def start(self) -> None:
        with (self.directory / "stderr").open("wb") as log:
            self._popen = subprocess.Popen(self.command(), stderr=log, preexec_fn=die_with_parent)
        deadline = time.monotonic() + 60
        while True:
            try:
                httpx.get(f"http://127.0.0.1:{self.http_port}/", timeout=1)
            except (httpx.RemoteProtocolError, httpx.ReadError):  # it closes without an answer: that is not its name
                return
            except httpx.HTTPError:
                assert self._popen.poll() is None, (self.directory / "stderr").read_text()
                assert time.monotonic() < deadline, "nginx does not start"
                time.sleep(0.05)

    def processes(self) -> list[psutil.Process]:
        assert self._popen
        master = psutil.Process(self._popen.pid)
        return [master, *master.children()]

    def stop(self) -> None:
        if self._popen:
            self._popen.terminate()
            self._popen.wait(timeout=60)
        shutil.rmtree(self.directory)

    def client(self, **options: object) -> httpx.Client:
        """Return a client that finds NAME here, and believes the certificate."""
        context = ssl.create_default_context(cafile=str(self.certificate))
        return httpx.Client(base_url=self.url, transport=_Here(verify=context, **options), timeout=60)  # type: ignore[arg-type]


class _Here(httpx.HTTPTransport):
    """Connects to 127.0.0.1, whatever name is asked for, and checks the certificate for that name."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.extensions["sni_hostname"] = request.url.host
        request.url = request.url.copy_with(host="127.0.0.1")
        return super().handle_request(request)


@contextmanager
def nginx(upstream_ports: list[int], changes: Mapping[str, str] | None = None) -> Iterator[Nginx]:
    parts.need("nginx", NGINX)
    server = Nginx(upstream_ports, changes or {})
    try:
        server.start()
        yield server
    finally:
        server.stop()
