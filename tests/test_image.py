"""deploy/Dockerfile: what its last stage makes starts, and writes to nothing but /tmp."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from django.conf import settings

from flashsale import embedded_redis
from tests.prepared import made_once
from tests.servers import WebServer, free_port
from tests.test_deploy import DEPLOY, TOP, read_dockerfile, read_procfile


@pytest.fixture
def image(redis_server: object, transactional_db: None) -> Path:
    """What the last stage of the Dockerfile makes, but for the packages: the files that it copies, and what it runs."""
    return made_once("image", build)


def build(top: Path) -> None:
    for name, value in read_dockerfile():
        if name == "COPY" and not value.startswith("--from"):
            *sources, _ = value.split()
            assert all(f"!{source}" in (TOP / ".dockerignore").read_text().split() for source in sources)
            for source in sources:
                (copy_tree if (TOP / source).is_dir() else shutil.copy2)(TOP / source, top / source)
        if name == "RUN" and "manage.py" in value:
            environment = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "VAR_DIR": str(top / "var")}
            subprocess.run(["sh", "-c", value], cwd=top, env=environment, check=True)


def copy_tree(source: Path, target: Path) -> None:
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.pyc", ".env*"))


def image_environment(image: Path, temporary: Path) -> dict[str, str]:
    """Return what the Dockerfile sets, with places in `image`, and in `temporary` for /tmp."""
    places = {"/srv/var": str(image / "var"), "/tmp": str(temporary)}
    words = [word for name, value in read_dockerfile() if name == "ENV" for word in value.split()]
    pairs = [word.split("=", 1) for word in words if not word.startswith("PATH=")]
    return {name: re.sub("^(/srv/var|/tmp)", lambda found: places[found[1]], value) for name, value in pairs}


def when_written(directory: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in directory.rglob("*")}


@pytest.mark.long
def test_the_image_has_all_that_it_needs(image: Path, tmp_path: Path):
    (check,) = [value for name, value in read_dockerfile() if name == "HEALTHCHECK"]
    redis_url = f"unix://{embedded_redis.socket_path(settings.VAR_DIR)}"
    environment = {"PORT": str(free_port()), "REDIS_URL": redis_url, "WEB_CONCURRENCY": "1", "TMPDIR": str(tmp_path)}
    made = when_written(image)
    with WebServer({**image_environment(image, tmp_path), **environment}, directory=image) as server:
        command = json.loads(check[check.index("[") :])
        healthy = subprocess.run(
            [sys.executable, *command[1:]], env={"PORT": server.url.rpartition(":")[2]}, capture_output=True
        )

        assert healthy.returncode == 0, healthy.stderr
        assert httpx.get(f"{server.url}/metrics").status_code == 200
    assert when_written(image) == made, "the root file system may be read-only"
    assert subprocess.run([sys.executable, *command[1:]], env={"PORT": "1"}, capture_output=True).returncode != 0


@pytest.mark.long
@pytest.mark.parametrize(
    ("missing", "words"), [("DATABASE_URL", "unable to open database file"), ("REDIS_URL", "Redis cannot be reached")]
)
def test_the_release_fails_without_its_database_or_redis(image: Path, tmp_path: Path, missing: str, words: str):
    """Nobody may write to /srv/var there, as to /proc here: what `make run` makes for itself does not come about."""
    settings_of_host = {
        "SECRET_KEY": "only-for-tests",
        "ALLOWED_HOSTS": "shop.example.com",
        "REDIS_URL": f"unix://{embedded_redis.socket_path(settings.VAR_DIR)}",
        "DATABASE_URL": f"sqlite:///{tmp_path}/db.sqlite3",
    }
    environment = {**image_environment(image, tmp_path), **settings_of_host, "VAR_DIR": "/proc", missing: ""}
    environment["PATH"] = f"{Path(sys.executable).parent}:/usr/bin:/bin"

    release = subprocess.run(
        ["sh", "-c", read_procfile()["release"]], cwd=image, env=environment, capture_output=True, text=True
    )

    assert release.returncode != 0
    assert words in release.stderr
    made = [value for name, value in read_dockerfile() if name == "RUN" and "--owner" in value]
    assert re.findall(r"/srv/\S+", "".join(made)) == ["/srv/var/media"], "all that its user may write to"


@pytest.mark.pure
def test_the_image_runs_as_somebody_else_and_verifies_its_packages():
    assert [value for name, value in read_dockerfile() if name == "USER"] == ["10001"]
    assert "--require-hashes" in (DEPLOY / "Dockerfile").read_text()
