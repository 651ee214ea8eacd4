"""docs/operations.md: what it quotes is what users and operators read, and what it tells to type works."""

import ast
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.core.management import call_command

from flashsale.redis_address import parse_redis_address
from tests import parts
from tests.test_deploy import read_dockerfile, read_unit

TOP = Path(settings.BASE_DIR)
GUIDE = TOP / "docs" / "operations.md"
ANYTHING = "…"


def quoted() -> list[str]:
    return re.findall(r"^> (.+)$", GUIDE.read_text(), flags=re.MULTILINE)


def said_in(path: Path) -> Iterator[str]:
    """Return the sentences of a module, with ANYTHING for what they are formatted with."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else ANYTHING for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield re.sub(r"%[sdr]", ANYTHING, node.value)


@pytest.fixture(scope="module")
def sentences() -> list[str]:
    modules = [path for place in ("flashsale", "sales") for path in (TOP / place).rglob("*.py")]
    found = {sentence for path in modules for sentence in said_in(path) if len(sentence) > 10}
    return [*found, *re.findall(r'"message":"([^"]+)"', (TOP / "deploy" / "nginx.conf").read_text())]


@pytest.mark.pure
@pytest.mark.parametrize("message", quoted())
def test_a_quoted_message_is_one_of_ours(message: str, sentences: list[str]):
    reason, advice, _ = message.partition(" Run manage.py restore_sale")  # a sentence of its own in the code

    assert reason in ({sentence.removesuffix(f" {ANYTHING}") for sentence in sentences} if advice else sentences)


@pytest.mark.pure
def test_each_kind_of_trouble_is_there():
    headings = re.findall(r"^### (.+)$", GUIDE.read_text(), flags=re.MULTILINE)

    assert {"Redis connection failed", "Overselling suspected", "Answers are slow", "CORS and foreign hosts"} <= set(
        headings
    )
    assert len(quoted()) > 20


@pytest.mark.pure
def test_links_lead_somewhere():
    text = GUIDE.read_text()
    anchors = {
        re.sub(r"[^a-z0-9 -]", "", line.lower()).replace(" ", "-")
        for line in re.findall(r"^##+ (.+)$", text, flags=re.M)
    }

    for target in re.findall(r"\]\(([^)]+)\)", text):
        if target.startswith("#"):
            assert target[1:] in anchors
        elif not target.startswith("http"):
            assert (GUIDE.parent / target.partition("#")[0]).exists(), target


def commands() -> dict[str, str]:
    """Return what runs `manage.py COMMAND` on each host."""
    section = GUIDE.read_text().partition("\n### Commands\n")[2].partition("\n### ")[0]
    rows = re.findall(r"^\| (\w[\w.]*) \| (.+) \|$", section, flags=re.MULTILINE)
    return {host: " ".join(re.findall("`([^`]+)`", cell)) for host, cell in rows if "COMMAND" in cell}


@pytest.mark.pure
def test_every_host_has_a_way_to_run_commands():
    deploy = GUIDE.read_text().partition("\n## Deploy\n")[2].partition("\n**")[0]
    hosts = {re.sub(r"[\[\],].*", "", row.lstrip("[")) for row in re.findall(r"^\| (.+?) \|", deploy, flags=re.M)}

    assert {host.split()[0] for host in hosts} - {"host", "---"} == set(commands())
    assert all("manage.py COMMAND" in command for command in commands().values())


@pytest.mark.pure
def test_image_commands_use_absolute_paths():
    """A shell that a host opens there may be in another directory, and have a PATH of its own."""
    (path,) = [re.findall(r"PATH=([^:]+):", value)[0] for name, value in read_dockerfile() if name == "ENV"]
    (workdir,) = [value for name, value in read_dockerfile() if name == "WORKDIR"]

    for host in ("Render", "Railway", "Fly.io"):
        assert f"{path}/python {workdir}/manage.py COMMAND" in commands()[host]


def test_a_command_on_debian_has_what_the_units_have():
    unit, words = read_unit("flashsale-release.service"), shlex.split(commands()["Debian"])
    options = dict(word.removeprefix("--").partition("=")[::2] for word in words if word.startswith("--"))

    assert [options["uid"]] == unit["User"]
    assert [options["working-directory"]] == unit["WorkingDirectory"]
    assert options["property"].split("=") == ["EnvironmentFile", *unit["EnvironmentFile"]]
    assert [options["setenv"]] == unit["Environment"]
    assert unit["ExecStart"][0].startswith(" ".join(words[words.index("manage.py") - 1 : -1]))
    assert {f"--{name}" for name in options} <= set(re.findall(r"--[a-z-]+", help_of("systemd-run")))


def help_of(program: str) -> str:
    found = parts.need(program)
    return subprocess.run([found, "--help"], capture_output=True, text=True, check=True).stdout


@pytest.mark.pure
@pytest.mark.django_db
def test_the_guide_creates_the_first_administrator_without_a_terminal(monkeypatch: pytest.MonkeyPatch):
    names = re.findall(r"`(DJANGO_SUPERUSER_\w+)`", GUIDE.read_text())
    for name, value in zip(names, ("ada", "ada@example.com", "engine-of-1843"), strict=True):
        monkeypatch.setenv(name, value)

    call_command("createsuperuser", "--noinput", verbosity=0)

    assert User.objects.get(username="ada", is_superuser=True).check_password("engine-of-1843")


@pytest.mark.pure
def test_debian_has_its_settings_before_what_needs_them():
    section = GUIDE.read_text().partition("\n### Debian\n")[2].partition("\n### ")[0]
    steps = ["useradd ", "--directory --mode=0700 /etc/flashsale ", "# /etc/flashsale/environment\n", "maxmemory 800mb"]
    steps += ["cp deploy/systemd/*", "systemctl start flashsale-release", "systemctl enable"]

    assert sorted(steps, key=section.index) == steps


def test_heroku_adds_to_the_address_that_the_add_on_sets():
    (line,) = re.findall(r"^export REDIS_URL=.*$", GUIDE.read_text(), flags=re.MULTILINE)
    environment = {"REDIS_URL": "rediss://:p4ss@ec2-1.compute-1.amazonaws.com:24909"}

    made = subprocess.run(
        ["sh", "-c", f"{line}; printf %s $REDIS_URL"], env=environment, capture_output=True, text=True
    )

    address = parse_redis_address(made.stdout)
    assert (address.kind, address.is_tls, address.is_verified) == ("single", True, False)
