"""Sessions end, and where the site is served over HTTPS nothing travels over anything else."""

import os
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.test import Client
from django.utils import timezone

from sales import store
from sales.models import Sale
from tests.servers import PATIENT, WebServer, free_port

OVER_HTTPS = {"X-Forwarded-Proto": "https"}
PASSWORD = "correct horse battery staple"


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


def test_desk_visits_over_http_are_redirected_to_https(https_server: WebServer):
    response = httpx.get(f"{https_server.url}/admin/login/")

    assert response.status_code == 301
    assert response.headers["Location"] == f"{https_server.url.replace('http://', 'https://')}/admin/login/"


@pytest.mark.parametrize(("trusted", "status"), [("127.0.0.0/8", 200), ("10.0.0.0/8", 301)])
def test_only_named_proxies_are_trusted_about_https(server: WebServer, trusted: str, status: int):
    with WebServer(
        {"PORT": str(free_port()), "HTTPS": "on", "WEB_CONCURRENCY": "1", "TRUSTED_PROXIES": trusted}, PATIENT
    ) as named:
        found = [
            httpx.get(f"{named.url}{path}", headers=OVER_HTTPS).status_code for path in ("/admin/login/", "/sales/")
        ]

    assert found == [status] * 2


def test_a_forwarded_host_is_nobodys(https_server: WebServer):
    forwarded = {"X-Forwarded-Host": "evil.example", "X-Forwarded-Port": "1", "Forwarded": "host=evil.example"}

    response = httpx.get(f"{https_server.url}/admin/login/", headers=forwarded)

    assert response.headers["Location"] == f"{https_server.url.replace('http://', 'https://')}/admin/login/"


@pytest.mark.parametrize("path", ["/", "/sales/?page=1&q=%0d%0aX:%20y", "/api/sale/status", "/api/sale/user/a%0d%0ab"])
def test_lane_reads_over_http_are_redirected_to_https(https_server: WebServer, path: str):
    response = httpx.get(f"{https_server.url}{path}")

    assert response.status_code == 301
    assert response.headers["Location"].lower() == f"{https_server.url.replace('http://', 'https://')}{path}".lower()
    assert "Strict-Transport-Security" not in response.headers, "over http it must not be sent (RFC 6797)"


@pytest.mark.parametrize("path", ["/api/sale/purchase", "/", "/orders/find/", "/admin/login/"])
def test_data_sent_over_http_is_refused(https_server: WebServer, open_sale: Sale, path: str):
    response = httpx.post(f"{https_server.url}{path}", json={"userId": "ada@example.com"})

    assert response.status_code == 403
    assert "Send this over https" in response.text
    assert "Strict-Transport-Security" not in response.headers
    assert store.client().hlen(store.key(open_sale.id, "purchases")) == 0


def test_attempts_over_https_are_decided(https_server: WebServer, open_sale: Sale, seen: Callable[[], None]):
    seen()
    response = httpx.post(
        f"{https_server.url}/api/sale/purchase", json={"userId": "ada@example.com"}, headers=OVER_HTTPS
    )

    assert response.json()["code"] == "purchased"
    assert response.headers["Strict-Transport-Security"] == "max-age=31536000; includeSubDomains; preload"


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Forwarded-Proto": "http"},
        {"X-Forwarded-Proto": "http, https"},
        {"X-Forwarded-Proto": "HTTPS"},
        {"X_Forwarded_Proto": "https"},
        {"X-Forwarded-Protocol": "https"},
        {"X-Forwarded-Ssl": "on"},
        {"Forwarded": "proto=https"},
        {"Front-End-Https": "on"},
    ],
)
@pytest.mark.parametrize("path", ["/", "/admin/login/"])
def test_only_the_header_that_is_configured_tells_of_https(https_server: WebServer, path: str, headers: dict[str, str]):
    assert httpx.get(f"{https_server.url}{path}", headers=headers).status_code == 301


def test_without_https_nobody_is_redirected_or_bound_to_it(http: httpx.Client):
    for path in ("/sales/", "/api/sale/status", "/admin/login/"):
        response = http.get(path, headers=OVER_HTTPS)

        assert response.status_code in (200, 404)
        assert "Strict-Transport-Security" not in response.headers


@pytest.mark.parametrize("path", ["/health", "/health/live"])
def test_health_is_answered_over_http(https_server: WebServer, path: str):
    response = httpx.get(f"{https_server.url}{path}")

    assert response.json()["status"]
    assert "Strict-Transport-Security" not in response.headers


@pytest.mark.parametrize("path", ["/healthy", "/health/live/", "/api/sale/user/health"])
def test_addresses_like_health_are_redirected(https_server: WebServer, path: str):
    assert httpx.get(f"{https_server.url}{path}").status_code == 301


@pytest.mark.pure
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
        ("CORS_ORIGINS", "*", "name each origin"),
        ("CORS_ORIGINS", "https://*.example.com", "name each origin"),
        ("CORS_ORIGINS", "https://shop.example.com/", "not an origin as browsers write it"),
        ("CORS_ORIGINS", "https://shop.example.com,shop.example.com", "'shop.example.com' is not an origin"),
        ("CORS_ORIGINS", "https://Shop.example.com", "not an origin as browsers write it"),
        ("CORS_ORIGINS", "https://shop.example.com:443", "no default port"),
        ("CORS_ORIGINS", "http://shop.example.com:80", "no default port"),
        ("CORS_ORIGINS", "https://shop.example.com:70000", "CORS_ORIGINS"),
        ("CORS_ORIGINS", "https://user@shop.example.com", "not an origin as browsers write it"),
        ("CORS_ORIGINS", "https://bücher.example", "not an origin as browsers write it"),
        ("CORS_ORIGINS", "null", "not an origin as browsers write it"),
    ],
)
def test_a_senseless_setting_stops_the_start_with_one_line(name: str, value: str, words: str):
    result = run_manage("check", **{name: value})

    assert result.returncode == 1
    assert words in result.stderr
    assert result.stderr.count("\n") == 1
