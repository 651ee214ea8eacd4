"""The page of a sale's invitations in the admin, and large uploads on their way to it."""

import socket
from collections.abc import Iterator
from http.client import HTTPConnection
from io import BytesIO
from urllib.parse import urlsplit

import httpx
import psutil
import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.test import Client
from playwright.sync_api import expect

from flashsale import uploads
from sales import invitations, invited_mirror, store
from sales.desk import proof
from sales.models import Sale
from tests.conftest import MakeSale
from tests.redis_servers import wait_until
from tests.servers import PATIENT, RedisServer, WebServer, free_port
from tests.test_accessibility import violations
from tests.test_desk_browser import PHONE, OpenDesk, open_desk  # noqa: F401 (a fixture)
from tests.test_roles import member

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("static_files")]


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(invited_mirror, "SETTLES_SECONDS", 0)


@pytest.fixture
def sale(make_sale: MakeSale) -> Sale:
    """A sale to which ada and bob are invited."""
    sale = make_sale(identity="invited")
    invitations.add(sale, ["ada@example.com", "bob@example.com"])
    invited_mirror.mirror(sale)
    return sale


def address(sale: Sale) -> str:
    return f"/admin/sales/sale/{sale.pk}/invitations/"


def text(response: object) -> str:
    return " ".join(response.content.decode().split())  # type: ignore[attr-defined]


def upload(client: Client, sale: Sale, content: bytes, mode: str = "add") -> str:
    """Upload a file, and return the page that comes of it."""
    file = BytesIO(content)
    file.name = "list.csv"
    return text(client.post(address(sale), {"step": "upload", "mode": mode, "file": file}, follow=True))


def listed(sale: Sale) -> list[str]:
    return sorted(Sale.objects.get(pk=sale.pk).invited().values_list("user_id", flat=True))


def test_an_operator_adds_a_file_to_the_list(sale: Sale):
    page = upload(member("operator"), sale, b"\xef\xbb\xbfemail\r\nbob@example.com\r\nCYD@example.com\r\n")

    assert "1 added, 1 were on the list already; 3 are invited. It is in force." in page
    assert listed(sale) == ["ada@example.com", "bob@example.com", "cyd@example.com"]
    assert invited_mirror.look(sale).members == 3
    assert LogEntry.objects.get().change_message == "Invitations. Addresses added. Invited: 2 → 3."


def test_an_operator_replaces_the_list(sale: Sale):
    page = upload(member("operator"), sale, b"cyd@example.com", "replace")

    assert "1 added, 0 were on the list already; 1 are invited." in page
    assert listed(sale) == ["cyd@example.com"]
    assert sale.invitations.count() == 1


def test_bad_lines_are_shown_and_change_nothing(sale: Sale):
    page = upload(member("operator"), sale, b"cyd@example.com\nd\x07d\n" + b"e" * 300 + b"\n", "replace")

    assert "2 lines name nobody, so nothing was changed." in page
    assert '<th scope="row">2</th> <td>The name has a control' in page
    assert '<th scope="row">3</th> <td>The name is longer than 254' in page
    assert listed(sale) == ["ada@example.com", "bob@example.com"]


def test_an_unclosed_quote_does_not_replace_the_list(sale: Sale):
    rows = "".join(f"u{number}@example.com,U\n" for number in range(500))

    page = upload(member("operator"), sale, f'email,name\nada@example.com,"Ada\n{rows}'.encode(), "replace")

    assert "1 line names nobody, so nothing was changed." in page
    assert '<th scope="row">2</th> <td>A quotation mark is open where the line ends.' in page
    assert listed(sale) == ["ada@example.com", "bob@example.com"]


def test_the_answer_counts_names_that_are_no_addresses(sale: Sale):
    page = upload(member("operator"), sale, b"# VIPs\ncyd@example.com\n<i>dan\n")

    assert "2 added, 0 were on the list already; 4 are invited. It is in force." in page
    assert '<li class="warning">1 of those in the file is no e-mail address, “&lt;i&gt;dan”: it is only good' in page
    assert "1 line that begins with “#” was left out." in page


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "The file is empty."), ("ada".encode("utf-16"), "CSV UTF-8"), (b"a,b\nc,d\n", "none is called “email”")],
)
def test_a_file_without_a_list_is_refused_with_advice(sale: Sale, content: bytes, words: str):
    assert words in upload(member("operator"), sale, content)


def test_a_form_that_lost_its_file_says_so(sale: Sale):
    file = BytesIO(b"cyd@example.com\n")
    file.name = "list.csv"

    page = text(member("operator").post(address(sale), {"step": "upload", "file": file}))

    assert "Choose whether it is added, or replaces the list." in page
    assert "Choose the file again: the form does not keep it." in page


def test_an_address_is_looked_up_and_removed(sale: Sale):
    client = member("operator")

    found, missing = (
        text(client.get(address(sale), {"who": who})) for who in (" ADA@example.com", "<b>eve@example.com</b>")
    )
    removed = text(client.post(address(sale), {"step": "remove", "who": "ada@example.com"}, follow=True))

    assert "ada@example.com is on the list." in found
    assert "&lt;b&gt;eve@example.com&lt;/b&gt; is not on the list." in missing
    assert "Taken off the list: ada@example.com. It is in force." in removed
    assert listed(sale) == ["bob@example.com"]


def test_the_list_is_emptied_once_that_is_confirmed(sale: Sale):
    client = member("operator")

    asked = text(client.get(address(sale), {"empty": ""}))
    before = listed(sale)
    emptied = text(client.post(address(sale), {"step": "empty"}, follow=True))

    assert "Empty the list?" in asked
    assert len(before) == 2
    assert "The list is empty: nobody is invited. It is in force." in emptied
    assert listed(sale) == []


def test_a_viewer_sees_how_many_are_invited_and_no_more(sale: Sale):
    client = member("viewer")

    page = text(client.get(address(sale), {"who": "ada@example.com"}))
    statuses = [client.post(address(sale), {"step": step}).status_code for step in ("upload", "remove", "empty")]

    assert "<strong>2</strong> shoppers are invited." in page
    assert "is on the list" not in page
    assert "<form method" not in page
    assert statuses == [403] * 3
    assert len(listed(sale)) == 2


def test_users_without_a_role_cannot_open_the_page(sale: Sale):
    nobody = Client()
    nobody.force_login(User.objects.create_user("nobody", is_staff=True))

    assert nobody.get(address(sale)).status_code == 403
    assert Client().get(address(sale)).status_code == 302


def test_only_sales_with_a_list_link_to_the_page(sale: Sale, make_sale: MakeSale):
    client = member("viewer")
    others = [make_sale(name="open"), make_sale(name="verified", identity="verified")]

    pages = [text(client.get(f"/admin/sales/sale/{one.pk}/change/")) for one in (sale, *others)]

    assert [address(one) in page for one, page in zip((sale, *others), pages, strict=True)] == [True, False, False]


def test_the_page_tells_what_is_in_force(sale: Sale, redis_server: RedisServer):
    client = member("operator")
    current = text(client.get(address(sale)))
    invitations.add(sale, ["cyd"])
    outdated = text(client.get(address(sale)))
    store.client().delete(store.key(sale.id, "invited"))
    lost = text(client.get(address(sale)))
    Sale.objects.update(identity="open")

    assert "The list is in force." in current
    assert "The list before this one is in force" in outdated
    assert "sells nothing until it does" in lost
    assert "Nobody is asked for an invitation" in text(client.get(address(sale)))


def test_without_redis_the_list_is_saved_with_a_notice(sale: Sale, redis_server: RedisServer):
    client = member("operator")
    redis_server.stop()
    try:
        page = upload(client, sale, b"cyd@example.com")
    finally:
        redis_server.start()

    assert "It is saved, but Redis has not taken it yet" in page
    assert Sale.objects.get().list_due
    assert len(listed(sale)) == 3


# On the way through the web server.


@pytest.fixture(scope="module")
def one_worker(redis_server: RedisServer, static_files: None, django_db_setup: None) -> Iterator[WebServer]:
    """One worker, so that its slots and its memory are those that are asked."""
    with WebServer({"PORT": str(free_port()), "WEB_CONCURRENCY": "1"}, PATIENT) as server:
        yield server


@pytest.fixture
def signed_in(one_worker: WebServer, transactional_db: None) -> Iterator[httpx.Client]:
    client = Client()
    client.force_login(User.objects.create_superuser("olga"))
    client.get("/admin/login/")
    cookies = {name: client.cookies[name].value for name in ("sessionid", proof.COOKIE)} | {"csrftoken": "x" * 32}
    headers = {"X-CSRFToken": "x" * 32}
    with httpx.Client(base_url=one_worker.url, cookies=cookies, headers=headers, timeout=120) as http:
        yield http


def send(http: httpx.Client, sale: Sale, content: bytes) -> httpx.Response:
    return http.post(
        address(sale), data={"step": "upload", "mode": "add"}, files={"file": ("list.csv", content, "text/csv")}
    )


def memory_bytes(server: WebServer) -> int:
    assert server.popen
    return max(child.memory_info().rss for child in psutil.Process(server.popen.pid).children())


@pytest.mark.long
def test_a_very_large_file_arrives_without_using_memory(signed_in: httpx.Client, one_worker: WebServer, sale: Sale):
    line = b"c" * 60 + b"@department.of.a.company.with.a.long.name.example.com\n"
    content = b"\n" * 1_000 + line * 260_000  # 30 MB
    before = memory_bytes(one_worker)

    answer = send(signed_in, sale, content)

    assert answer.status_code == 302, answer.text
    assert len(listed(sale)) == 3
    assert memory_bytes(one_worker) - before < 20_000_000


def test_a_file_over_the_limit_is_refused_with_advice(signed_in: httpx.Client, sale: Sale):
    answer = send(signed_in, sale, b"\n" * (uploads.BOUNDS[0].largest_bytes + 1))

    assert answer.status_code == 413
    assert "send at most 48 MB" in answer.text


@pytest.mark.django_db(transaction=True)
def test_a_stranger_cannot_send_more_than_a_form(one_worker: WebServer, sale: Sale):
    for cookies in ({}, {"sessionid": "x" * 32}, {"sessionid": "x" * 32, proof.COOKIE: "0" * 64}):
        with httpx.Client(base_url=one_worker.url, cookies=cookies, timeout=60) as stranger:
            answer = send(stranger, sale, b"\n" * 9_000)

        assert answer.status_code == 413
        assert "Sign in in another tab" in answer.text


def test_a_signed_out_operator_cannot_send_large_files(signed_in: httpx.Client, sale: Sale):
    Session.objects.all().delete()

    answer = send(signed_in, sale, b"\n" * 9_000)

    assert answer.status_code == 413
    assert "Sign in in another tab" in answer.text


@pytest.mark.parametrize(
    ("path", "largest_bytes", "words"),
    [
        ("/admin/sales/sale/add/", 10 * 1024 * 1024, "at most 10 MB"),
        ("/admin/sales/sale/1/change/", 10 * 1024 * 1024, "at most 10 MB"),
        ("/admin/sales/order/", 64 * 1024, "too many parts"),
        ("/admin/login/", 64 * 1024, "too many parts"),
    ],
)
def test_each_address_takes_what_it_needs(signed_in: httpx.Client, path: str, largest_bytes: int, words: str):
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    answers = [signed_in.post(path, content=b"x" * size, headers=form) for size in (largest_bytes, largest_bytes + 1)]

    assert answers[0].status_code != 413
    assert (answers[1].status_code, words in answers[1].text) == (413, True)


def test_too_many_simultaneous_uploads_wait_and_leave_nothing(signed_in: httpx.Client, sale: Sale):
    largest_bytes = uploads.BOUNDS[0].largest_bytes
    answers: list[httpx.Response] = []

    def is_answered(status: int, content: bytes) -> bool:
        answers.append(send(signed_in, sale, content))
        return answers[-1].status_code == status

    held = [begin(signed_in, sale, largest_bytes) for _ in range(uploads.MOST_BYTES // largest_bytes)]
    try:
        rest = b"\n" * (uploads.MOST_BYTES % largest_bytes + 1)
        wait_until(lambda: is_answered(503, rest), "all have begun")
        refused = answers[-1]
    finally:
        for connection in held:
            connection.close()
    wait_until(lambda: is_answered(302, b"cyd@example.com"), "they are given up")

    assert "Enough files are being uploaded already" in refused.text
    assert refused.headers["Retry-After"] == "60"
    assert "cyd@example.com" in listed(sale)


def begin(http: httpx.Client, sale: Sale, declared_bytes: int) -> HTTPConnection:
    """Begin an upload that does not end."""
    connection = HTTPConnection(urlsplit(str(http.base_url)).netloc)
    connection.putrequest("POST", address(sale))
    connection.putheader("Cookie", "; ".join(f"{name}={value}" for name, value in http.cookies.items()))
    connection.putheader("Content-Length", str(declared_bytes))
    connection.endheaders(b"x")
    assert isinstance(connection.sock, socket.socket)
    return connection


# In a browser.


@pytest.mark.django_db(transaction=True)
def test_an_operator_uploads_a_list_in_a_browser(open_desk: OpenDesk, sale: Sale):  # noqa: F811
    page = open_desk(f"/admin/sales/sale/{sale.pk}/change/")
    page.get_by_role("link", name="Invitations").click()
    page.get_by_label("File").set_input_files(
        {"name": "list.csv", "mimeType": "text/csv", "buffer": b"email\ncyd@example.com\n"}
    )
    page.get_by_role("button", name="Upload").click()
    expect(page.get_by_text("1 added, 0 were on the list already; 3 are invited.")).to_be_visible()
    page.get_by_label("Address").fill("Cyd@example.com")
    page.get_by_role("button", name="Look up").click()
    expect(page.get_by_text("cyd@example.com is on the list.")).to_be_visible()
    page.get_by_role("button", name="Take off the list").click()

    expect(page.get_by_text("Taken off the list: cyd@example.com.")).to_be_visible()
    assert listed(sale) == ["ada@example.com", "bob@example.com"]


@pytest.mark.long
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("query", ["", "?who=ada@example.com", "?who=eve", "?empty", "?bad-lines"])
def test_nobody_is_kept_out_of_the_page(open_desk: OpenDesk, sale: Sale, query: str):  # noqa: F811
    found: dict[str, list[str]] = {}

    for scheme in ("light", "dark"):
        page = open_desk(address(sale) + query, viewport=PHONE, color_scheme=scheme)
        if query == "?bad-lines":
            lines = b"a@b.example\n\x07\n" + b"d" * 300 + b"\n"
            page.get_by_label("File").set_input_files({"name": "l.csv", "mimeType": "text/csv", "buffer": lines})
            page.get_by_role("button", name="Upload").click()
            expect(page.get_by_text("2 lines name nobody")).to_be_visible()
        found[scheme] = violations(page)

    assert found == {"light": [], "dark": []}
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], "a phone shows all of it"
