"""No secret is shown in logs, answers, errors of settings and of commands: each is a canary, in whole processes."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.conf import settings
from pytest_django import Settings

from flashsale import embedded_redis, local
from flashsale.redaction import MASK
from flashsale.supervisor import Process, Supervisor
from sales import store
from sales.models import Sale
from tests.servers import WebServer, free_port

CANARY = "c4nary"
SECRETS = {
    "SECRET_KEY": f"{CANARY}-key-'\"<&%41",
    "SECRET_KEY_FALLBACKS": f"{CANARY}-old-key",
    "AWS_SECRET_ACCESS_KEY": f"{CANARY}-aws",
    "EMAIL_URL": f"smtp://shop:{CANARY}-mail@127.0.0.1:1",
}
MANAGE = str(Path(settings.BASE_DIR) / "manage.py")


@pytest.fixture
def guarded_redis(tmp_path: Path) -> Iterator[tuple[Process, int]]:
    """A Redis that asks for a password, and its port."""
    port = free_port()
    command = embedded_redis.command(tmp_path)
    process = Process("Redis", [*command, "--port", str(port), "--requirepass", f"{CANARY}-right"])
    process.start()
    yield process, port
    process.kill_group()
    embedded_redis.remove_short_link(tmp_path)


def manage(*arguments: str, **environment: str) -> str:
    """Return all that a command prints."""
    done = subprocess.run(
        [sys.executable, MANAGE, *arguments],
        env={**os.environ, **SECRETS, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return done.stdout + done.stderr


def drive(url: str) -> str:
    """Ask for everything that can fail, with secrets of a client's own; return all answers, heads and bodies."""
    cookie = {"Cookie": f"sessionid={CANARY}-session; csrftoken={CANARY}-csrf", "Authorization": f"Bearer {CANARY}-t"}
    answers = []
    with httpx.Client(base_url=url, headers=cookie, timeout=120) as client:
        for path in ("/", "/health", "/api/sale/status", "/api/sale/user/ada", "/sales/", "/orders/find/", "/admin/"):
            answers.append(client.get(path))
        for path in ("/crash", "/broken-page", f"/nowhere?token={CANARY}-query", f"/receipts/1.2-0.{CANARY}/"):
            answers.append(client.get(path))
        answers.append(client.post("/api/sale/purchase", json={"userId": "ada"}))
        answers.append(client.post("/api/sale/purchase", content=b"{", headers={"Content-Type": "application/json"}))
        answers.append(client.post("/admin/login/", data={"username": "admin", "password": f"{CANARY}-typed"}))
    return "".join(f"{answer.status_code} {answer.headers} {answer.text}\n" for answer in answers)


@pytest.mark.parametrize(("debug", "log_format"), [("off", "json"), ("on", "text")])
def test_a_server_without_redis_and_sql_shows_no_secret(
    static_files: None, guarded_redis: tuple[Process, int], debug: str, log_format: str
):
    redis, port = guarded_redis
    environment = {
        **SECRETS,
        "PORT": str(free_port()),
        "WEB_CONCURRENCY": "1",
        "DEBUG": debug,
        "LOG_FORMAT": log_format,
        "REDIS_URL": f"redis://:{CANARY}-wrong%2F%40@127.0.0.1:{port}/0",
        "DATABASE_URL": f"postgres://{CANARY}user:{CANARY}-sql%2F%40@127.0.0.1:{free_port()}/{CANARY}name",
    }
    with WebServer(environment, "tests.broken_views:application") as server:
        answers = drive(server.url)
        redis.kill_group()
        answers += drive(server.url)

    log = server.log.read_text()
    shown = answers.replace(f"{CANARY}user", "").replace(f"{CANARY}name", "") if debug == "on" else answers
    assert "500 " in answers
    assert "503 " in answers
    assert CANARY not in without_what_was_sent(shown)
    assert CANARY not in log.replace(f"{CANARY}user", "").replace(f"{CANARY}name", "")
    assert "ZeroDivisionError" in log
    assert "redis is unavailable: no connection to Redis" in log
    if debug == "on":
        assert MASK in answers, "Django's page of the error was not shown"


def without_what_was_sent(answers: str) -> str:
    """Leave out what Django's page under DEBUG says of the request itself: its asker knows that."""
    for sent in ("session", "csrf", "t", "query", "typed"):
        answers = answers.replace(f"{CANARY}-{sent}", "")
    return answers.replace(f"/receipts/1.2-0.{CANARY}/", "").replace(f"1.2-0.{CANARY}", "")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("REDIS_URL", f"redis://:{CANARY}/slash@127.0.0.1:6379/0"),
        ("REDIS_URL", f"redis://:6379/{CANARY}@127.0.0.1:6379/0"),
        ("REDIS_URL", f"redis://:{CANARY}#hash@127.0.0.1:6379/0"),
        ("REDIS_URL", f"redis://:{CANARY}[@127.0.0.1:6379/0"),
        ("REDIS_URL", f"reddis://:{CANARY}@127.0.0.1:6379/0"),
        ("REDIS_URL", f"redis://:{CANARY}@127.0.0.1:port/0"),
        ("REDIS_URL", f"{CANARY}"),
        ("DATABASE_URL", f"postgres://u:{CANARY}/slash@127.0.0.1:5432/x"),
        ("DATABASE_URL", f"postgres://u:5432/{CANARY}@127.0.0.1:5432/x"),
        ("DATABASE_URL", f"postgres://u:{CANARY}#hash@127.0.0.1:5432/x"),
        ("DATABASE_URL", f"postgres://u:{CANARY}?x@127.0.0.1:5432/x"),
        ("DATABASE_URL", f"posgres://u:{CANARY}@127.0.0.1:5432/x"),
        ("DATABASE_URL", f"{CANARY}"),
        ("EMAIL_URL", f"smtp://u:{CANARY}/slash@127.0.0.1:587"),
        ("EMAIL_URL", f"smtpx://u:{CANARY}@127.0.0.1:587"),
        ("PUBLIC_URL", f"https://u:{CANARY}@shop.example.com/path"),
        ("MEDIA_STORAGE", f"s3://key:{CANARY}@bucket"),
        ("MEDIA_STORAGE", f"https://key:{CANARY}@bucket"),
    ],
)
def test_a_wrong_setting_is_reported_without_its_secret(name: str, value: str):
    told = manage("check", **{name: value})

    assert told.startswith(f"flashsale: {name}: ")
    assert told.count("\n") == 1
    assert CANARY not in told


@pytest.mark.parametrize("command", ["write_orders --once", "audit_sale", "publish_sales", "preflight x", "migrate"])
def test_a_command_without_redis_and_sql_shows_no_secret(command: str):
    port = free_port()
    urls = {
        "REDIS_URL": f"redis://:{CANARY}@127.0.0.1:{port}/0",
        "DATABASE_URL": f"postgres://u:{CANARY}-sql@127.0.0.1:{port}/x",
    }

    told = manage(*command.split(), **urls)

    assert told
    assert CANARY not in told


def test_a_preflight_without_redis_shows_no_secret(open_sale: Sale):
    told = manage("preflight", open_sale.slug, REDIS_URL=f"redis://:{CANARY}@127.0.0.1:{free_port()}/0")

    assert "Redis cannot be reached" in told
    assert CANARY not in told


@pytest.mark.pure
def test_make_run_hides_the_password_of_an_unreachable_redis(monkeypatch: pytest.MonkeyPatch, settings: Settings):
    def away() -> Any:
        raise store.RedisError(f"Error 111 connecting, {CANARY}-redis")

    monkeypatch.setattr(local, "READY_WITHIN_SECONDS", -1)
    monkeypatch.setattr(store, "client", away)
    settings.REDIS_URL = f"redis://:{CANARY}-redis@127.0.0.1:6379/0"

    with pytest.raises(SystemExit) as stopped:
        local.wait_for_redis(Supervisor())

    assert "redis://…@127.0.0.1:6379/0 does not answer" in str(stopped.value)
    assert CANARY not in str(stopped.value)


def test_health_does_not_name_hosts_and_accounts(static_files: None, guarded_redis: tuple[Process, int]):
    environment = {
        "PORT": str(free_port()),
        "WEB_CONCURRENCY": "1",
        "REDIS_URL": f"redis://127.0.0.1:{free_port()}/0",
        "DATABASE_URL": f"postgres://owner:x@127.0.0.1:{free_port()}/x",
    }
    with WebServer(environment) as server:
        found = httpx.get(f"{server.url}/health").json()
        again = httpx.get(f"{server.url}/health").json()

    assert found["redis"]["reason"] == again["redis"]["reason"] == "no connection to Redis; the log says why"
    assert found["database"]["reason"] == "SQL cannot be used; the log says why"
    assert "127.0.0.1" not in str(found)
    log = server.log.read_text()
    assert log.count("database is unavailable: ") == log.count("redis is unavailable: ") == 1
