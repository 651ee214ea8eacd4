"""Each check of the preflight against what it is for, broken for real; the command; the page in the admin."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from django.conf import settings as project
from django.contrib.auth.models import Permission, User
from django.core.management import CommandError, call_command, load_command_class
from django.db import connection
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from sales import preflight, purchases, redis_checks, store
from sales.findings import Finding, worst
from sales.models import Sale
from sales.orders import consumer_name, run_once
from tests import parts
from tests.conftest import MakeSale
from tests.faults.programs import faketime_library, shifted_clock
from tests.servers import RedisServer, database_url, free_port
from tests.writers import OrderWriter

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("static_files")]


@pytest.fixture(autouse=True)
def _no_unsafe_async(monkeypatch: pytest.MonkeyPatch) -> None:
    """Django warns of this one, which only tests have a need for."""
    monkeypatch.delenv("DJANGO_ALLOW_ASYNC_UNSAFE")


@pytest.fixture
def upcoming_sale(make_sale: MakeSale) -> Sale:
    return make_sale(starts_in=3600)


@pytest.fixture
def fit_for_the_internet(settings: Settings) -> Settings:
    settings.ALLOWED_HOSTS = ["shop.example.com"]
    settings.SECRET_KEY = "".join(map(chr, range(33, 93)))
    settings.SECURE_HSTS_SECONDS, settings.SECURE_SSL_REDIRECT = 3600, True
    settings.SECURE_HSTS_INCLUDE_SUBDOMAINS = settings.SECURE_HSTS_PRELOAD = True
    settings.SESSION_COOKIE_SECURE = settings.CSRF_COOKIE_SECURE = True
    return settings


@pytest.fixture
def set_redis() -> Iterator[Callable[[str, str], None]]:
    """Change a setting of Redis until the test ends."""
    before: dict[str, str] = {}

    def change(name: str, value: str) -> None:
        before.update(store.client().config_get(name))
        store.client().config_set(name, value)

    yield change
    for name, value in before.items():
        store.client().config_set(name, value)


@pytest.fixture
def forbid() -> Iterator[Callable[[str], None]]:
    """Take a command from Redis's user until the test ends."""
    forbidden: list[str] = []

    def take(command: str) -> None:
        store.client().execute_command("ACL", "SETUSER", "default", f"-{command}")
        forbidden.append(command)

    yield take
    for command in forbidden:
        store.client().execute_command("ACL", "SETUSER", "default", f"+{command}")


def find(sale: Sale) -> dict[str, Finding]:
    findings = preflight.run(lambda: Sale.objects.get(pk=sale.pk))
    return {finding.name: finding for finding in findings}


def buy(sale: Sale, *user_ids: str) -> None:
    for user_id in user_ids:
        asyncio.run(purchases.buy(sale.id, user_id))


def manage(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(project.BASE_DIR / "manage.py"), "preflight", *arguments]
    environment = {**os.environ, "DATABASE_URL": database_url(), **environment}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let an order writer that a busy machine holds up not count as gone."""
    monkeypatch.setattr(preflight, "WRITER_IS_GONE_MS", 600_000)


def verdicts_of(sale: Sale, **environment: str) -> dict[str, dict[str, str]]:
    """Return what the command says in a process of its own."""
    printed = json.loads(manage(sale.slug, "--json", **environment).stdout)
    return {found["name"]: found for found in printed["checks"]}


@pytest.mark.usefixtures("patient")
@pytest.mark.django_db(transaction=True)
def test_a_sale_for_which_everything_is_ready(upcoming_sale: Sale, fit_for_the_internet: Settings):
    with OrderWriter() as writer:
        writer.wait_until_it_reads(upcoming_sale)

        found = find(upcoming_sale)

    failing = {name for name, finding in found.items() if finding.verdict != "ok"}
    assert failing == ({"SQL"} if connection.vendor == "sqlite" else set())
    assert [*preflight.CHECKS, "hosts", "Django's checks"] == list(found)


def test_without_redis_its_checks_fail_and_the_others_still_run(upcoming_sale: Sale, redis_server: RedisServer):
    redis_server.kill()
    try:
        found = find(upcoming_sale)
    finally:
        redis_server.start()

    failed = {name for name, finding in found.items() if finding.verdict == "failure"}
    without_redis = {"SQL", "who may buy", "invitations", "failover"}  # of an open sale, and of one server
    assert failed == set(preflight.CHECKS) - without_redis
    assert "Redis cannot be reached" in found["Redis"].reason
    assert found["Redis"].remedy == "Start it, or correct REDIS_URL."
    assert found["mirror"].reason.startswith("Not checked, because Redis failed")


def test_a_replica_takes_no_purchases(upcoming_sale: Sale, redis_server: RedisServer):
    store.client().replicaof("127.0.0.1", str(free_port()))
    try:
        found = find(upcoming_sale)["Redis"]
    finally:
        store.client().replicaof("NO", "ONE")

    assert (found.verdict, found.remedy) == ("failure", "Set REDIS_URL to its primary.")


def test_an_unverified_redis_certificate_is_a_warning(upcoming_sale: Sale, settings: Settings):
    settings.REDIS_ADDRESS = settings.REDIS_ADDRESS._replace(tls_options={"ssl_cert_reqs": "none"})

    found = find(upcoming_sale)["Redis"]

    assert (found.verdict, found.reason.split(":")[0]) == ("warning", "Redis's certificate is not verified")


def test_a_master_that_no_replica_follows(upcoming_sale: Sale, settings: Settings):
    settings.REDIS_ADDRESS = settings.REDIS_ADDRESS._replace(kind="sentinel")

    found = find(upcoming_sale)["failover"]

    assert (found.verdict, found.reason.split(":")[0]) == ("warning", "No replica follows Redis")


@pytest.mark.parametrize(("name", "weak"), [("appendfsync", "everysec"), ("maxmemory-policy", "allkeys-lru")])
def test_a_redis_that_may_lose_purchases(
    upcoming_sale: Sale, set_redis: Callable[[str, str], None], name: str, weak: str
):
    set_redis(name, weak)

    found = find(upcoming_sale)["durability"]

    assert found.verdict == "failure"
    assert f"{name} is {weak}, not" in found.reason


def test_a_redis_that_does_not_tell_its_settings(upcoming_sale: Sale, forbid: Callable[[str], None]):
    forbid("config")

    found = find(upcoming_sale)["durability"]

    assert found.verdict == "warning"
    assert "appendfsync always" in found.remedy


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("shift", "verdict"), [("+90s", "failure"), ("-5s", "warning")])
def test_clocks_that_differ(upcoming_sale: Sale, shift: str, verdict: str):
    parts.need("faketime", faketime_library())

    found = verdicts_of(upcoming_sale, **shifted_clock(FAKETIME=shift))["clock"]

    assert found["verdict"] == verdict
    assert ("behind" if shift[0] == "+" else "ahead of") in found["reason"]
    assert "NTP" in found["remedy"]


def test_a_script_that_is_missing_is_loaded(upcoming_sale: Sale):
    store.client().script_flush()

    first, second = find(upcoming_sale)["script"], find(upcoming_sale)["script"]

    assert (first.verdict, first.reason) == ("ok", "Redis had no purchase script, and has it now.")
    assert second.reason == "Redis has the purchase script."


@pytest.mark.parametrize(("name", "told"), [("maxmemory", "maxmemory"), ("min-replicas-to-write", "replicas")])
def test_a_redis_that_takes_no_purchase(
    upcoming_sale: Sale, set_redis: Callable[[str, str], None], name: str, told: str
):
    set_redis(name, "1")

    found = find(upcoming_sale)["writing"]

    assert found.verdict == "failure"
    assert found.reason.startswith("Redis takes no purchase: ")
    assert told in found.reason
    assert "script" not in found.reason


def test_a_redis_that_takes_no_scripts(upcoming_sale: Sale, forbid: Callable[[str], None]):
    forbid("script")

    found = find(upcoming_sale)["script"]

    assert found.verdict == "failure"
    assert "Allow EVALSHA and SCRIPT" in found.remedy


@pytest.mark.parametrize(
    ("damage", "reason", "remedy"),
    [
        (lambda sale: Sale.objects.update(name="Another"), "does not hold the sale as SQL has it", "publish_sales"),
        (lambda sale: store.client().hdel(store.DIRECTORY, sale.slug), "does not hold the sale", "publish_sales"),
        (lambda sale: store.client().decr(store.key(sale.id, "stock")), "9 remaining and 0 sold", "--repair"),
    ],
)
def test_a_mirror_that_differs(upcoming_sale: Sale, damage: Callable[[Sale], object], reason: str, remedy: str):
    damage(upcoming_sale)

    found = find(upcoming_sale)["mirror"]

    assert found.verdict == "failure"
    assert reason in found.reason
    assert remedy in found.remedy


@pytest.mark.parametrize("is_wiped", [True, False])
def test_a_sale_of_which_redis_lost_data(open_sale: Sale, redis_server: RedisServer, is_wiped: bool):
    buy(open_sale, "ada", "bob")
    run_once(consumer_name())
    if is_wiped:
        store.client().flushall()
    else:
        store.client().hdel(store.key(open_sale.id, "purchases"), "bob")
    redis_server.kill()
    redis_server.start()

    found = find(open_sale)["continuity"]

    assert found.verdict == "failure"
    assert found.reason.startswith("The sale is closed")
    assert found.remedy == f"Run manage.py restore_sale {open_sale.slug}."


def test_a_redis_that_started_again_and_lost_nothing_is_compared(open_sale: Sale, redis_server: RedisServer):
    redis_server.kill()
    redis_server.start()

    found = find(open_sale)["continuity"]

    assert (found.verdict, found.reason) == ("ok", "Redis has every order that SQL knows.")
    assert store.client().hget(store.key(open_sale.id, "config"), "run_id").decode() == store.run_id_blocking()


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"starts_in": -60}, "It started on"),
        ({"starts_in": -60, "lasts": 30}, "It ended on"),
        ({"starts_in": 3600, "paused": True}, "It is paused: nobody can buy."),
        ({"starts_in": 3600, "published": False}, "It is not published: nobody sees it."),
    ],
)
def test_a_window_that_may_not_be_meant(make_sale: MakeSale, fields: dict[str, Any], reason: str):
    found = find(make_sale(**fields))["window"]

    assert found.verdict == "warning"
    assert reason in found.reason
    assert found.remedy


def test_a_sale_that_was_never_published_has_nothing_in_redis(make_sale: MakeSale):
    found = find(make_sale(published=False))

    assert {found[name].verdict for name in ("mirror", "continuity", "order writer")} == {"ok"}


def test_a_sale_that_is_sold_out(make_sale: MakeSale):
    sale = make_sale(stock=2)
    buy(sale, "ada", "bob")

    found = find(sale)["stock"]

    assert (found.verdict, found.reason) == ("warning", "All 2 units are sold.")


@pytest.mark.parametrize(("room", "verdict"), [(0.5, "failure"), (1.5, "warning"), (3, "ok")])
def test_memory_for_the_whole_stock(
    make_sale: MakeSale, set_redis: Callable[[str, str], None], room: float, verdict: str
):
    sale = make_sale(stock=100_000)
    needed = 100_000 * redis_checks.BYTES_PER_PURCHASE
    set_redis("maxmemory", str(store.client().info("memory")["used_memory"] + int(needed * room)))

    found = find(sale)["memory"]

    assert found.verdict == verdict
    assert "Redis's maxmemory" in found.reason
    assert found.reason.startswith("100,000 purchases take 20.5 MB, and ")


def test_without_an_order_writer(open_sale: Sale):
    found = find(open_sale)["order writer"]

    assert (found.verdict, found.reason) == ("failure", "No order writer has looked at this sale for 5 s.")
    assert "write_orders" in found.remedy


@pytest.mark.usefixtures("patient")
@pytest.mark.django_db(transaction=True)
def test_an_order_writer_that_died(open_sale: Sale, monkeypatch: pytest.MonkeyPatch):
    with OrderWriter() as writer:
        writer.wait_until_it_reads(open_sale)
        alive = find(open_sale)["order writer"]
    monkeypatch.setattr(preflight, "WRITER_IS_GONE_MS", 1)

    dead = find(open_sale)["order writer"]

    assert (alive.verdict, dead.verdict) == ("ok", "failure")


def test_an_order_writer_that_is_far_behind(open_sale: Sale):
    store.client().xadd(store.key(open_sale.id, "orders"), {"user_id": "ada"}, id="1-0")

    found = find(open_sale)["order writer"]

    assert found.verdict == "failure"
    assert found.reason.startswith("1 purchases wait for the order writer, the oldest for")


@pytest.mark.usefixtures("patient")
def test_purchases_waiting_for_a_running_writer_are_a_warning(open_sale: Sale):
    run_once(consumer_name())
    buy(open_sale, "ada")

    found = find(open_sale)["order writer"]

    assert found.verdict == "warning"
    assert "1 purchases wait" in found.reason


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("sqlite:///{directory}/empty.sqlite3", "Migrations have not run: "),
        ("postgres://nobody:hunter2@127.0.0.1:{port}/none", "SQL cannot be used: "),
    ],
)
def test_sql_that_is_away_or_empty(upcoming_sale: Sale, tmp_path: Path, url: str, reason: str):
    found = verdicts_of(upcoming_sale, DATABASE_URL=url.format(directory=tmp_path, port=free_port()))

    assert found["SQL"]["verdict"] == "failure"
    assert found["SQL"]["reason"].startswith(reason)
    assert found["mirror"]["reason"].startswith("Not checked, because SQL failed")
    assert (found["Redis"]["verdict"], found["durability"]["verdict"]) == ("ok", "ok")
    assert "hunter2" not in str(found)


@pytest.mark.skipif(connection.vendor != "sqlite", reason="is about SQLite")
def test_sqlite_orders_are_a_warning_outside_make_run(upcoming_sale: Sale, settings: Settings):
    elsewhere = find(upcoming_sale)["SQL"]
    settings.ALLOWED_HOSTS = ["localhost", "127.0.0.1"]
    under_make_run = find(upcoming_sale)["SQL"]

    assert (elsewhere.verdict, under_make_run.verdict) == ("warning", "ok")
    assert "SQLite file" in elsewhere.reason
    assert "Set DATABASE_URL" in elsewhere.remedy


@pytest.mark.parametrize(
    ("change", "name", "reason"),
    [
        ({"ALLOWED_HOSTS": ["localhost", "[::1]"]}, "hosts", "shoppers on other machines are refused"),
        ({"ALLOWED_HOSTS": ["*"]}, "hosts", "takes any name"),
        ({"SECRET_KEY": "short"}, "security.W009", "SECRET_KEY"),
        ({"DEBUG": True}, "security.W018", "DEBUG"),
        ({"SESSION_COOKIE_SECURE": False}, "security.W012", "SESSION_COOKIE_SECURE"),
        ({"SECURE_SSL_REDIRECT": False}, "security.W008", "SECURE_SSL_REDIRECT"),
        ({"SECURE_HSTS_SECONDS": 0}, "security.W004", "SECURE_HSTS_SECONDS"),
    ],
)
def test_settings_that_are_not_fit_for_the_internet(
    upcoming_sale: Sale, fit_for_the_internet: Settings, change: dict[str, Any], name: str, reason: str
):
    for setting, value in change.items():
        setattr(fit_for_the_internet, setting, value)

    found = find(upcoming_sale)

    assert found[name].verdict == "warning"
    assert reason in found[name].reason
    assert found[name].remedy
    assert "Django's checks" not in found or name == "hosts"


def test_an_error_of_djangos_checks_is_a_failure(upcoming_sale: Sale, settings: Settings):
    settings.STATIC_URL = "static"

    findings = preflight.run(lambda: upcoming_sale)

    assert [finding.name for finding in findings if finding.verdict == "failure" and "STATIC_URL" in finding.reason]


def test_on_one_machine_the_warnings_on_https_are_explained(upcoming_sale: Sale, settings: Settings):
    settings.ALLOWED_HOSTS = ["localhost", "127.0.0.1", "[::1]"]

    found = find(upcoming_sale)

    assert found["security.W012"].remedy.startswith("Expected on this machine alone, as under `make run`.")
    assert "Expected" not in found["security.W009"].remedy


@pytest.mark.usefixtures("patient")
@pytest.mark.django_db(transaction=True)  # the command closes its connections
def test_exit_status_of_the_command(open_sale: Sale, capsys: pytest.CaptureFixture[str]):
    def run(*words: str) -> tuple[int, str, str]:
        """Run the command as manage.py does; return its exit status and what it printed."""
        status: object = 0
        try:
            load_command_class("sales", "preflight").run_from_argv(["manage.py", "preflight", *words])
        except SystemExit as ended:
            status = ended.code
        return int(str(status)), *capsys.readouterr()

    without_writer = run(open_sale.slug)
    unknown = run("no-such-sale")
    misused = run(open_sale.slug, "--no-such-option")
    run_once(consumer_name())
    with_warnings = run(open_sale.slug)

    assert [status for status, *_ in (with_warnings, without_writer, unknown, misused)] == [0, 1, 2, 2]
    assert f"There is no sale 'no-such-sale'. There are: {open_sale.slug}." in unknown[2]
    assert with_warnings[1].startswith(f"{open_sale.slug} is ready: ")
    assert without_writer[1].startswith(f"{open_sale.slug} is not ready: 1 failure, ")


def test_checks_leave_no_connection_behind(open_sale: Sale):
    find(open_sale)
    process = psutil.Process()  # web servers of other tests come and go in Redis's own list
    before = len(process.net_connections("all"))

    for _ in range(5):
        find(open_sale)

    assert len(process.net_connections("all")) <= before


def test_json_for_scripts(open_sale: Sale, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit, match="1"):
        call_command("preflight", open_sale.slug, "--json")

    printed = json.loads(capsys.readouterr().out)
    assert (printed["slug"], printed["verdict"]) == (open_sale.slug, "failure")
    assert [found["name"] for found in printed["checks"]][: len(preflight.CHECKS)] == list(preflight.CHECKS)
    assert {frozenset(found) for found in printed["checks"]} == {frozenset({"name", "verdict", "reason", "remedy"})}


def test_the_text_is_aligned_and_fits_the_terminal(
    open_sale: Sale, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        call_command("preflight", open_sale.slug)

    _, blank, *table = capsys.readouterr().out.splitlines()
    column = table[0].index("Redis answers")
    assert blank == ""
    assert max(map(len, table)) <= 80
    assert {line[column - 2 : column] for line in table} == {"  "}
    assert "→" in {line[column] for line in table}


@pytest.mark.pure
def test_usage_names_the_status(capsys: pytest.CaptureFixture[str], db: None):
    with pytest.raises(CommandError) as raised:
        call_command("preflight", "no-such-sale")

    assert raised.value.returncode == 2


@pytest.fixture
def page_of(upcoming_sale: Sale) -> Callable[[str], Any]:
    """Ask for the page, or the sale's form, as staff with that permission."""

    def ask(permission: str, page: str = "preflight") -> Any:
        user = User.objects.create_user("staff", is_staff=True)
        if permission:
            user.user_permissions.add(Permission.objects.get(codename=permission))
        client = Client()
        client.force_login(user)
        return client.get(f"/admin/sales/sale/{upcoming_sale.id}/{page}/")

    return ask


MAIL = "django.core.mail.backends.{}.EmailBackend"


@pytest.mark.parametrize(
    ("identity", "kind", "https", "verdict", "reason"),
    [
        ("open", "dummy", True, "ok", "Everybody may buy"),
        ("verified", "dummy", False, "warning", "no mail goes out"),
        ("invited", "dummy", True, "warning", "no mail goes out"),
        ("verified", "console", True, "warning", "printed here instead of sent"),
        ("verified", "console", False, "ok", "printed here"),
        ("verified", "smtp", True, "ok", "goes out by mail.example.com"),
        ("invited", "smtp", False, "ok", "goes out by mail.example.com"),
    ],
)
def test_confirmed_addresses_require_a_working_mail_setup(
    upcoming_sale: Sale, settings: Settings, identity: str, kind: str, https: bool, verdict: str, reason: str
):
    settings.EMAIL_BACKEND, settings.EMAIL_HOST, settings.HTTPS = MAIL.format(kind), "mail.example.com", https
    Sale.objects.update(identity=identity)

    (found,) = (finding for finding in preflight.run(Sale.objects.get) if finding.name == "who may buy")

    assert (found.verdict, reason in found.reason) == (verdict, True), found.reason
    assert bool(found.remedy) is (verdict != "ok")


def test_operators_read_the_preflight_in_the_admin(page_of: Callable[[str], Any]):
    response = page_of("change_sale")

    assert response.status_code == 200
    assert response["Cache-Control"].startswith("max-age=0, no-cache, no-store")
    page = response.content.decode()
    assert "is not ready: 1 failure" in page
    assert "No order writer has looked at this sale for 5 s." in page
    assert "Start manage.py write_orders" in page
    assert page.index("order writer</th>") < page.index("security.W009</th>") < page.index("Redis</th>")
    assert page.count('<th scope="row">') == len(preflight.run(Sale.objects.get)) > len(preflight.CHECKS)


@pytest.mark.parametrize(("permission", "status"), [("", 403), ("view_sale", 403), ("change_order", 403)])
def test_users_without_change_permission_see_no_preflight(page_of: Callable[[str], Any], permission: str, status: int):
    assert page_of(permission).status_code == status


def test_a_stranger_is_asked_to_sign_in(upcoming_sale: Sale):
    address = f"/admin/sales/sale/{upcoming_sale.id}/preflight/"

    response = Client().get(address)

    assert (response.status_code, response["Location"]) == (302, f"/admin/login/?next={address}")


@pytest.mark.pure
def test_a_sale_that_is_not_there_has_no_preflight(admin_client: Client):
    assert admin_client.get("/admin/sales/sale/999/preflight/").status_code == 404


def test_the_form_of_the_sale_links_to_it(page_of: Callable[..., Any], upcoming_sale: Sale):
    page = page_of("change_sale", "change").content.decode()

    assert f'href="/admin/sales/sale/{upcoming_sale.id}/preflight/"' in page


def test_viewers_do_not_see_the_link(page_of: Callable[..., Any]):
    assert "/preflight/" not in page_of("view_sale", "change").content.decode()


def test_without_redis_the_page_tells_so(admin_client: Client, upcoming_sale: Sale, redis_server: RedisServer):
    redis_server.kill()
    try:
        page = admin_client.get(f"/admin/sales/sale/{upcoming_sale.id}/preflight/").content.decode()
    finally:
        redis_server.start()

    assert "Redis cannot be reached" in page
    assert worst(preflight.run(lambda: upcoming_sale)) == "failure"
    assert timezone.now().strftime("%B %Y") in page
