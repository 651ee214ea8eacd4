"""The deploy files: they parse, start what the Procfile starts, and set what the settings need."""

import json
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.conf import settings

from flashsale import gunicorn
from tests import parts

TOP = Path(settings.BASE_DIR)
DEPLOY = TOP / "deploy"
HEALTH = "/health/live"
# What a process cannot do without where nothing is on the same machine.
REQUIRED = {"SECRET_KEY", "ALLOWED_HOSTS", "REDIS_URL", "DATABASE_URL"}
# Read by the image and by other programs.
NOT_OURS = {"PATH", "PYTHONDONTWRITEBYTECODE"}


def read_procfile() -> dict[str, str]:
    lines = (TOP / "Procfile").read_text().splitlines()
    return dict(line.split(": ", 1) for line in lines)


def read_yaml(path: Path) -> dict[str, Any]:
    return dict(yaml.safe_load(path.read_text()))


def read_unit(name: str) -> dict[str, list[str]]:
    """Return a unit's settings, each with all of its values."""
    found: dict[str, list[str]] = {}
    for line in (DEPLOY / "systemd" / name).read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


def read_dockerfile() -> list[tuple[str, str]]:
    """Return the instructions of the Dockerfile, without those of earlier stages."""
    text = re.sub(r"^#.*\n", "", (DEPLOY / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    pairs = [(line.split(" ", 1)[0], line.split(" ", 1)[1].strip()) for line in lines if line.strip()]
    return pairs[max(number for number, (name, _) in enumerate(pairs) if name == "FROM") :]


def in_shell(command: str | list[str]) -> str:
    """Return what a command does, without the shell that it is given to."""
    words = shlex.split(command) if isinstance(command, str) else command
    return words[2] if words[:2] == ["sh", "-c"] else shlex.join(words)


def compose_commands() -> dict[str, str]:
    services = read_yaml(DEPLOY / "compose.yaml")["services"]
    return {name: in_shell(services[name]["command"]) for name in ("release", "web", "worker")}


def render_services() -> dict[str, dict[str, Any]]:
    return {service["type"]: service for service in read_yaml(TOP / "render.yaml")["services"]}


def render_commands() -> dict[str, str]:
    services = render_services()
    return {
        "release": in_shell(services["web"]["preDeployCommand"]),
        **{name: in_shell(services[name]["dockerCommand"]) for name in ("web", "worker")},
    }


def railway_commands() -> dict[str, str]:
    web, worker = (json.loads(path.read_text())["deploy"] for path in (TOP / "railway.json", RAILWAY_WORKER))
    return {
        "release": in_shell(*web["preDeployCommand"]),
        "web": in_shell(web["startCommand"]),
        "worker": in_shell(worker["startCommand"]),
    }


RAILWAY_WORKER = DEPLOY / "railway-worker.json"


def fly() -> dict[str, Any]:
    return tomllib.loads((TOP / "fly.toml").read_text())


def fly_commands() -> dict[str, str]:
    return {
        "release": in_shell(fly()["deploy"]["release_command"]),
        **{name: in_shell(command) for name, command in fly()["processes"].items()},
    }


def systemd_commands() -> dict[str, str]:
    commands = {name: read_unit(f"flashsale-{name}.service")["ExecStart"] for name in ("release", "web", "worker")}
    return {name: " && ".join(lines).replace("/opt/flashsale/.venv/bin/", "") for name, lines in commands.items()}


@pytest.mark.pure
@pytest.mark.parametrize(
    "commands", [compose_commands, render_commands, railway_commands, fly_commands, systemd_commands]
)
def test_every_host_runs_the_commands_of_the_procfile(commands: Callable[[], dict[str, str]]):
    assert commands() == read_procfile()


@pytest.mark.pure
def test_the_image_starts_the_web_server():
    (command,) = [json.loads(value) for name, value in read_dockerfile() if name == "CMD"]

    assert in_shell(command) == read_procfile()["web"]


def named_by_compose(service: str) -> set[str]:
    return set(read_yaml(DEPLOY / "compose.yaml")["services"][service]["environment"])


def render_group() -> dict[str, Any]:
    (group,) = read_yaml(TOP / "render.yaml")["envVarGroups"]
    return dict(group)


def named_by_render(kind: str) -> set[str]:
    """Return what a service has itself, and has of the group, in which Render ignores what it does not take there."""
    own, shared = render_services()[kind]["envVars"], render_group()["envVars"]
    assert {"fromGroup": render_group()["name"]} in own
    entries = [*own, *(entry for entry in shared if entry.keys() & {"value", "generateValue"})]
    return {entry["key"] for entry in entries if "key" in entry}


def named_by_fly() -> set[str]:
    secrets = re.search(r"# {3}fly secrets set (.*\\\n# .*)", (TOP / "fly.toml").read_text())
    assert secrets
    return set(fly()["env"]) | set(re.findall(r"([A-Z_]+)=", secrets[1]))


def named_in_operations(host: str) -> set[str]:
    """Return the variables in the block of operations.md that begins with this comment."""
    blocks = re.findall(r"```sh\n(.*?)```", (TOP / "docs/operations.md").read_text(), flags=re.DOTALL)
    (block,) = [block for block in blocks if block.startswith(f"# {host}")]
    return set(re.findall(r"^([A-Z_]+)=", block, flags=re.MULTILINE))


# Set by the add-on.
HEROKU_SETS = {"DATABASE_URL"}
NAMED = {
    **{f"compose {name}": named_by_compose(name) for name in ("web", "worker", "release")},
    **{f"render {kind}": named_by_render(kind) for kind in ("web", "worker")},
    "fly": named_by_fly(),
    "railway": named_in_operations("Railway"),
    "heroku": named_in_operations("Heroku") | HEROKU_SETS,
    "systemd": named_in_operations("/etc/flashsale/environment"),
}


@pytest.mark.pure
@pytest.mark.parametrize("host", NAMED)
def test_a_host_sets_what_is_required_and_nothing_unknown(host: str):
    explained = set(re.findall(r"^#?([A-Z_]+)=", (TOP / ".env.example").read_text(), flags=re.MULTILINE))

    assert NAMED[host] - explained == set()
    assert REQUIRED - NAMED[host] == set()
    assert "WEB_CONCURRENCY" in NAMED[host] or host.startswith("systemd"), (
        "elsewhere the machine's cores are others' too"
    )


@pytest.mark.pure
def test_a_group_of_render_has_only_what_render_takes_there():
    for entry in render_group()["envVars"]:
        assert entry.keys() in ({"key", "value"}, {"key", "generateValue"}), "no `sync: false`, and no reference"


@pytest.mark.pure
def test_render_refers_only_to_existing_services():
    services = {(kind, service["name"]): service for kind, service in render_services().items()}
    databases = {database["name"] for database in read_yaml(TOP / "render.yaml")["databases"]}
    entries = [entry for service in services.values() for entry in service.get("envVars", [])]
    of_services = [entry["fromService"] for entry in entries if "fromService" in entry]

    assert {entry["fromDatabase"]["name"] for entry in entries if "fromDatabase" in entry} == databases
    assert {reference["name"] for reference in of_services} == {"flashsale-redis", "flashsale-web"}
    for reference in of_services:
        named = services[reference["type"], reference["name"]].get("envVars", [])
        assert reference.get("property") == "hostport" or reference["envVarKey"] in {e.get("key") for e in named}


@pytest.mark.pure
def test_renders_first_comment_explains_each_value_it_asks_for():
    comment, _, _ = (TOP / "render.yaml").read_text().partition("services:")
    asked = {e["key"] for service in render_services().values() for e in service.get("envVars", []) if "sync" in e}

    assert set(re.findall(r"^# {3}([A-Z_]+) {2,}\S", comment, flags=re.MULTILINE)) == asked


@pytest.mark.pure
def test_the_guide_uses_no_railway_secret_function():
    assert "secret(" not in (TOP / "docs/operations.md").read_text(), "a function of Railway's templates alone"


@pytest.mark.pure
def test_the_image_sets_only_explained_or_foreign_variables():
    explained = set(re.findall(r"^#?([A-Z_]+)=", (TOP / ".env.example").read_text(), flags=re.MULTILINE))
    named = {word.split("=")[0] for name, value in read_dockerfile() if name == "ENV" for word in value.split()}

    assert named - explained <= NOT_OURS
    assert not named & {"SECRET_KEY", "DATABASE_URL", "REDIS_URL"}, "no secret in a layer"


@pytest.mark.pure
def test_ports_agree():
    compose = read_yaml(DEPLOY / "compose.yaml")["services"]
    exposed = [value for name, value in read_dockerfile() if name == "EXPOSE"]
    render = {str(entry["value"]) for entry in render_services()["web"]["envVars"] if entry.get("key") == "PORT"}

    assert fly()["env"]["PORT"] == str(fly()["http_service"]["internal_port"])
    assert {*exposed, *render, compose["web"]["environment"]["PORT"]} == {"8000"}
    assert "server web:8000" in compose["nginx"]["command"][2]
    assert read_unit("flashsale-web.socket")["ListenStream"] == ["127.0.0.1:8000"]
    assert "server 127.0.0.1:8000 max_fails" in (DEPLOY / "nginx.conf").read_text()


@pytest.mark.pure
def test_every_host_asks_whether_the_process_lives():
    (image,) = [value for name, value in read_dockerfile() if name == "HEALTHCHECK"]
    hosts = read_yaml(DEPLOY / "compose.yaml")["services"]["web"]["environment"]["ALLOWED_HOSTS"]

    assert HEALTH in image
    assert hosts.endswith(",localhost"), "the image's check asks for localhost"
    assert render_services()["web"]["healthCheckPath"] == HEALTH
    assert json.loads((TOP / "railway.json").read_text())["deploy"]["healthcheckPath"] == HEALTH
    (check,) = fly()["http_service"]["checks"]
    assert (check["path"], check["headers"]["Host"]) == (HEALTH, "localhost")


@pytest.mark.pure
def test_compose_releases_once_before_the_others_start():
    services = read_yaml(DEPLOY / "compose.yaml")["services"]

    assert services["release"]["restart"] == "no"
    for name in ("web", "worker"):
        assert services[name]["depends_on"] == {"release": {"condition": "service_completed_successfully"}}
    assert {entry["condition"] for entry in services["release"]["depends_on"].values()} == {"service_healthy"}


@pytest.mark.pure
def test_every_host_waits_out_the_web_servers_shutdown():
    services = read_yaml(DEPLOY / "compose.yaml")["services"]
    railway = [json.loads(path.read_text())["deploy"] for path in (TOP / "railway.json", RAILWAY_WORKER)]
    seconds = [
        *(int(services[name]["stop_grace_period"].rstrip("s")) for name in ("web", "worker")),
        int(fly()["kill_timeout"].rstrip("s")),
        *(int(read_unit(f"flashsale-{name}.service")["TimeoutStopSec"][0]) for name in ("web", "worker")),
        *(render_services()[kind]["maxShutdownDelaySeconds"] for kind in ("web", "worker")),
        *(deploy["drainingSeconds"] for deploy in railway),
    ]

    assert min(seconds) > gunicorn.graceful_timeout


def test_systemd_finds_nothing_wrong_with_the_units(tmp_path: Path):
    analyze = parts.need("systemd-analyze")
    for path in (DEPLOY / "systemd").iterdir():
        text = path.read_text().replace("/opt/flashsale/.venv/bin/gunicorn", sys.executable)
        (tmp_path / path.name).write_text(text.replace("/opt/flashsale/.venv/bin/python", sys.executable))

    units = [str(path) for path in sorted(tmp_path.iterdir())]
    found = subprocess.run([analyze, "verify", "--man=no", *units], capture_output=True, text=True)

    assert (found.returncode, found.stderr) == (0, "")


@pytest.mark.pure
def test_every_service_of_systemd_may_do_little():
    for name in ("release", "web", "worker"):
        unit = read_unit(f"flashsale-{name}.service")
        assert (unit["NoNewPrivileges"], unit["ProtectSystem"], unit["User"]) == (["yes"], ["strict"], ["flashsale"])
        assert (unit["KillMode"], unit["CapabilityBoundingSet"]) == (["mixed"], [""])


@pytest.mark.pure
@pytest.mark.parametrize("host", NAMED)
def test_every_host_names_the_metrics_token(host: str):
    """A platform's router, and the gateway of a container's network, have private addresses."""
    assert "METRICS_TOKEN" in NAMED[host]


def images() -> list[str]:
    compose = read_yaml(DEPLOY / "compose.yaml")["services"].values()
    fly_redis = tomllib.loads((DEPLOY / "fly-redis.toml").read_text())
    found = [service["image"] for service in compose if "build" not in service]
    found += [render_services()["pserv"]["image"]["url"], fly_redis["build"]["image"]]
    found += re.findall(r"the image `(.*?)`", (TOP / "docs/operations.md").read_text())
    found += re.findall(r"^FROM (\S+)", (DEPLOY / "Dockerfile").read_text(), flags=re.MULTILINE)
    return [name.removeprefix("docker.io/") for name in found]


@pytest.mark.pure
def test_each_image_is_of_one_exact_version():
    versions = dict(name.split(":") for name in images())

    assert set(images()) == {f"{name}:{version}" for name, version in versions.items()}, "the same everywhere"
    assert set(versions) == {"nginx", "postgres", "python", "valkey/valkey"}
    for name, version in versions.items():
        assert re.match(r"\d+\.\d+" if name == "postgres" else r"\d+\.\d+\.\d+", version), name
