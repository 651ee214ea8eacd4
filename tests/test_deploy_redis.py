"""The Redis of each deploy file: it keeps what it has answered, and has a bound below its container's memory."""

import re
import shlex
import subprocess
import tempfile
import tomllib
from pathlib import Path

import pytest
import redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from flashsale import embedded_redis
from sales.durability import EXPECTED, verdict
from tests.test_deploy import DEPLOY, TOP, read_yaml, render_services

GUIDE = TOP / "docs/operations.md"
HOSTS = ["compose", "render", "fly", "railway", "debian"]
GB = 1024**3
# What the plans of Render have (https://render.com/pricing).
RENDER_MEMORY = {"starter": GB // 2, "standard": 2 * GB, "pro": 4 * GB}


def fly_redis() -> dict:
    return tomllib.loads((DEPLOY / "fly-redis.toml").read_text())


def arguments(host: str) -> list[str]:
    """Return what the server of a host is started with."""
    return {
        "compose": lambda: read_yaml(DEPLOY / "compose.yaml")["services"]["redis"]["command"][1:],
        "render": lambda: shlex.split(render_services()["pserv"]["dockerCommand"])[1:],
        "fly": lambda: shlex.split(fly_redis()["processes"]["redis"])[1:],
        "railway": lambda: shlex.split(in_guide(r"`valkey-server ([^`]*)`")),
        "debian": lambda: [word for name, value in debian_settings() for word in (f"--{name}", value)],
    }[host]()


def memory(host: str) -> int:
    """Return the bytes that a host gives its Redis."""
    return {
        "compose": lambda: size(read_yaml(DEPLOY / "compose.yaml")["services"]["redis"]["mem_limit"]),
        "render": lambda: RENDER_MEMORY[render_services()["pserv"]["plan"]],
        "fly": lambda: size(fly_redis()["vm"][0]["memory"]),
        "railway": lambda: size(in_guide(r"a memory limit of (\d+ GB), and the start command")),
        "debian": lambda: size(in_guide(r"# Two fifths of what the machine has for it, here (\d+ GB)\.")),
    }[host]()


def debian_settings() -> list[list[str]]:
    lines = in_guide(r"```\n(appendonly .*?)```").splitlines()
    return [line.split(" ", 1) for line in lines if not line.startswith("#")]


def in_guide(pattern: str) -> str:
    (found,) = re.findall(pattern, GUIDE.read_text(), flags=re.DOTALL)
    return str(found)


def size(words: str) -> int:
    found = re.fullmatch(r"(\d+) ?gb?", words.lower())
    assert found, words
    return int(found[1]) * GB


@pytest.mark.parametrize("host", HOSTS)
def test_every_redis_is_durable_and_bounded_in_memory(host: str, tmp_path: Path):
    """The command itself, with the embedded server, in a place where it may run."""
    words = [word.replace("/data", str(tmp_path)) for word in arguments(host)]

    with tempfile.TemporaryDirectory(dir="/tmp") as place:  # a socket's path must be short
        socket = f"{place}/redis.sock"
        command = [embedded_redis.server_binary(), *words, "--port", "0", "--unixsocket", socket]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=tmp_path) as server:
            try:
                found = settings_of(socket)
            finally:
                server.terminate()

    assert verdict(found) == "ok"
    assert 0.3 < int(found["maxmemory"]) / memory(host) <= 0.4, "docs/operations.md says two fifths, and why"


def settings_of(socket: str) -> dict[str, str]:
    client = redis.Redis(unix_socket_path=socket, decode_responses=True, retry=Retry(ConstantBackoff(0.05), 1200))
    return {name: str(client.config_get(name)[name]) for name in [*EXPECTED, "maxmemory"]}


@pytest.mark.pure
def test_no_other_file_starts_a_redis():
    files = [path for path in [*TOP.glob("*"), *DEPLOY.rglob("*"), *(TOP / "docs").glob("*.md")] if path.is_file()]
    found = {path.name for path in files if re.search(rb"(valkey|redis)-server[\s\"'/-]+-", path.read_bytes())}

    assert found == {"compose.yaml", "fly-redis.toml", "render.yaml", "operations.md"}
