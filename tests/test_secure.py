"""Sessions end, and where the site is served over HTTPS nothing travels over anything else."""

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.test import Client
from django.utils import timezone

from tests.servers import WebServer, free_port

OVER_HTTPS = {"X-Forwarded-Proto": "https"}
PASSWORD = "correct horse battery staple"


@pytest.fixture(scope="module")
def https_server(server: WebServer) -> Iterator[WebServer]:
    found = WebServer({"PORT": str(free_port()), "HTTPS": "on", "WEB_CONCURRENCY": "1"})
    found.start()
    yield found
    found.stop()


def sign_in(server: WebServer, headers: dict[str, str]) -> httpx.Response:
    with httpx.Client(base_url=server.url, headers=headers) as client:
        page = client.get("/admin/login/")
        token = page.text.partition('name="csrfmiddlewaretoken" value="')[2].partition('"')[0]
        form = {"username": "olga", "password": PASSWORD, "csrfmiddlewaretoken": token}
        # The cookies are given by hand: they are Secure, and the tests' own way to the server is not.
        cookies = "; ".join(f"{name}={value}" for name, value in page.cookies.items())
        client.cookies.clear()
        origin = server.url.replace("http://", "https://") if headers else server.url
        return client.post("/admin/login/", data=form, headers={"Cookie": cookies, "Origin": origin})


def test_over_http_an_operator_signs_in_on_their_own_machine(server: WebServer, transactional_db: None):
    User.objects.create_superuser("olga", password=PASSWORD)

    response = sign_in(server, {})

    assert response.status_code == 302
    (session,) = (line for line in response.headers.get_list("Set-Cookie") if line.startswith("sessionid="))
    assert "Secure" not in session
    assert "Max-Age" not in session, "it must end with the browser"
    assert "Strict-Transport-Security" not in response.headers


def test_over_https_the_session_travels_over_nothing_else(https_server: WebServer, transactional_db: None):
    User.objects.create_superuser("olga", password=PASSWORD)

    response = sign_in(https_server, OVER_HTTPS)

    assert response.status_code == 302
    assert all("Secure" in cookie for cookie in response.headers.get_list("Set-Cookie"))
    assert "HttpOnly" in response.headers["Set-Cookie"]
    assert response.headers["Strict-Transport-Security"] == "max-age=31536000; includeSubDomains; preload"


def test_who_comes_over_http_is_sent_to_https(https_server: WebServer):
    response = httpx.get(f"{https_server.url}/admin/login/")

    assert response.status_code == 301
    assert response.headers["Location"] == f"{https_server.url.replace('http://', 'https://')}/admin/login/"


def test_health_is_answered_over_http_to_who_watches_from_inside(https_server: WebServer):
    assert httpx.get(f"{https_server.url}/health/live").status_code == 200


def test_a_session_ends_after_twelve_hours(db: None, static_files: None):
    User.objects.create_superuser("olga", password=PASSWORD)
    client = Client()
    client.force_login(User.objects.get())
    session = Session.objects.get()

    expires_in = session.expire_date - timezone.now()
    first = client.get("/admin/")
    session.expire_date -= timedelta(hours=12)
    session.save()
    later = client.get("/admin/")

    assert timedelta(hours=11, minutes=59) < expires_in <= timedelta(hours=12)
    assert (first.status_code, later.status_code) == (200, 302)
    assert later["Location"].startswith("/admin/login/")


def run_manage(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(Path(settings.BASE_DIR) / "manage.py"), *arguments]
    variables = {**os.environ, **environment}
    del variables["DJANGO_ALLOW_ASYNC_UNSAFE"]
    return subprocess.run(command, env=variables, capture_output=True, text=True, check=False)


def test_djangos_own_check_for_deployment_finds_nothing():
    secret_key = "0123456789abcdefghijklmnopqrstuvwxyz-0123456789abcdefghijklmnopqrstuvwxyz"
    production = {"SECRET_KEY": secret_key, "ALLOWED_HOSTS": "shop.example.com", "HTTPS": "on"}

    result = run_manage("check", "--deploy", "--fail-level", "WARNING", **production)

    assert result.returncode == 0, result.stderr
    assert "no issues (0 silenced)" in result.stdout


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("TIME_ZONE", "Mars/Olympus", "they are named like Europe/Zurich"),
        ("HTTPS", "maybe", "neither true nor false"),
        ("SECOND_FACTOR", "maybe", "neither optional nor required"),
    ],
)
def test_a_setting_that_makes_no_sense_stops_the_start_with_one_line(name: str, value: str, words: str):
    result = run_manage("check", **{name: value})

    assert result.returncode == 1
    assert words in result.stderr
    assert result.stderr.count("\n") == 1
