"""deploy/nginx.conf in a real nginx, in front of a real web server: what the app cannot do for itself."""

import re
import socket
import ssl
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from sales import store
from sales.headers import OF_DATA, OF_PAGES
from sales.models import Sale
from tests.conftest import MakeSale
from tests.proxies import NAME, Nginx, nginx
from tests.servers import ICON, WebServer, free_port
from tests.test_cors import TO_NOBODY, to, told

pytestmark = pytest.mark.long

# Two proxies' worth of networks: nginx itself, and nothing that a client could be.
BEHIND_NGINX = {"ALLOWED_HOSTS": NAME + ",127.0.0.1", "TRUSTED_PROXIES": "127.0.0.1/32", "HTTPS": "on"}


@pytest.fixture(scope="module")
def web(redis_server: object, static_files: None, django_db_setup: None) -> Iterator[WebServer]:
    with WebServer(
        {"PORT": str(free_port()), "WEB_CONCURRENCY": "1", "ADDRESS_RATE": "20/10h", **BEHIND_NGINX}
    ) as server:
        yield server


@pytest.fixture(scope="module")
def proxy(web: WebServer) -> Iterator[Nginx]:
    with nginx([port_of(web)]) as server:
        yield server


@pytest.fixture
def shop(proxy: Nginx) -> Iterator[httpx.Client]:
    """A shopper of an address that no other test has, for the app's limit per address."""
    with proxy.client(local_address=next(ADDRESSES)) as client:
        yield client


ADDRESSES = (f"127.0.2.{number}" for number in range(1, 255))


def port_of(server: WebServer) -> int:
    return int(server.url.rpartition(":")[2])


def encrypted(proxy: Nginx, peer: str = "127.0.0.1") -> ssl.SSLSocket:
    context = ssl.create_default_context(cafile=str(proxy.certificate))
    connection = socket.create_connection(("127.0.0.1", proxy.https_port), timeout=60, source_address=(peer, 0))
    return context.wrap_socket(connection, server_hostname=NAME)


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer else 0


def test_nginx_finds_nothing_wrong_with_the_file(proxy: Nginx):
    tested = subprocess.run(proxy.command("-t"), capture_output=True, text=True)

    assert tested.returncode == 0, tested.stderr
    assert "[warn]" not in tested.stderr


def test_a_purchase_goes_through(proxy: Nginx, shop: httpx.Client, open_sale: Sale, seen: Callable[[], None]):
    seen()

    bought = shop.post("/api/sale/purchase", json={"userId": "ada"}, headers={"Origin": proxy.url})

    assert (bought.status_code, bought.json()["code"]) == (200, "purchased")
    assert bought.headers["ratelimit"] == '"shopper";r=9;t=1'
    assert "nginx/" not in bought.headers.get("server", ""), "no version"
    assert store.client().hlen(store.key(open_sale.id, "purchases")) == 1


def test_operators_reach_the_desk_over_https(shop: httpx.Client, db: None):
    assert shop.get("/admin/login/").status_code == 200


def over_http(proxy: Nginx, method: str, path: str, **options: Any) -> httpx.Response:
    return httpx.request(method, f"http://127.0.0.1:{proxy.http_port}{path}", headers={"Host": NAME}, **options)


def test_reads_over_http_are_redirected_to_https(proxy: Nginx):
    page, status = over_http(proxy, "GET", "/sales/?x=1"), over_http(proxy, "HEAD", "/api/sale/status")

    assert (page.status_code, page.headers["location"]) == (301, f"https://{NAME}/sales/?x=1")
    assert (status.status_code, status.headers["location"]) == (301, f"https://{NAME}/api/sale/status")


def test_writes_over_http_get_the_apps_refusal(proxy: Nginx, web: WebServer):
    refused = over_http(proxy, "POST", "/api/sale/purchase", json={"userId": "ada"})
    large = over_http(proxy, "POST", "/api/shopper/code", content=b"x" * 9000)
    form = over_http(proxy, "POST", "/", data={"userId": "ada"})
    apps = httpx.post(f"{web.url}/api/sale/purchase", headers={"Host": NAME}, json={"userId": "ada"})

    assert (refused.status_code, large.status_code, form.status_code) == (403, 403, 403)
    assert "it could be read on its way here" in form.text
    assert refused.json() == apps.json() | {"requestId": refused.headers["x-request-id"]}
    assert of_security(refused) == of_security(apps)
    assert "strict-transport-security" not in form.headers, "RFC 6797, section 7.2"


def test_other_names_get_nothing(proxy: Nginx):
    with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
        httpx.get(f"http://127.0.0.1:{proxy.http_port}/", headers={"Host": "evil.example"})
    with pytest.raises(ssl.SSLError), socket.create_connection(("127.0.0.1", proxy.https_port)) as connection:
        ssl.create_default_context().wrap_socket(connection, server_hostname="evil.example")


def of_security(response: httpx.Response) -> dict[str, list[str]]:
    """Return what an answer tells browsers, and caches, to do with it, but not the policy of a page."""
    names = {*OF_PAGES, "Strict-Transport-Security", "Cache-Control"} - {"Content-Security-Policy"}
    return {name: response.headers.get_list(name) for name in names if name in response.headers}


def test_a_clients_claimed_address_never_reaches_the_app(proxy: Nginx, open_sale: Sale):
    """The app allows 20 requests of an address: who writes another address in each has still one share."""
    with proxy.client(local_address=next(ADDRESSES)) as client, proxy.client(local_address=next(ADDRESSES)) as other:
        statuses = Counter(
            client.get(
                "/api/sale/user/ada",
                headers={
                    "X-Forwarded-For": f"198.51.100.{number}",
                    "X_Forwarded_For": "198.51.100.7",
                    "Forwarded": f"for=198.51.100.{number}",
                    "X-Forwarded-Proto": "http",
                },
            ).status_code
            for number in range(25)
        )
        elsewhere = other.get("/api/sale/user/ada").status_code

    assert statuses == {200: 20, 429: 5}
    assert elsewhere == 200


def test_headers_that_are_too_large_are_refused(shop: httpx.Client, proxy: Nginx):
    one = shop.get("/api/sale/status", headers={"X-Large": "x" * 9000})
    many = shop.get("/api/sale/status", headers={f"X-{number}": "x" * 6000 for number in range(8)})
    longest = shop.get("/api/sale/user/" + "x" * 9000)

    assert (one.status_code, many.status_code, longest.status_code) == (400, 400, 414)


@pytest.mark.parametrize(
    "head",
    [
        b"POST / HTTP/1.1\r\nHost: %b\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /api/sale/purchase HTTP/1.1\r\nHost: %b\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n123456",
        b"POST /api/sale/purchase HTTP/1.1\r\nHost: %b\r\nTransfer-Encoding: xchunked\r\n\r\n",
        b"GET /api/sale/status HTTP/1.1\r\nHost: %b\r\nHost: evil.example\r\n\r\n",
        b"GET /api/sale/status HTTP/1.1\r\nHost : %b\r\n\r\n",
    ],
    ids=["length and chunks", "two lengths", "unknown framing", "two hosts", "space in a name"],
)
def test_ambiguous_requests_are_refused(proxy: Nginx, head: bytes):
    with encrypted(proxy) as connection:
        connection.sendall(head % NAME.encode())
        answer = connection.recv(65536)

    assert status_of(answer) in (400, 501)


def test_a_body_over_the_limit_gets_the_matching_refusal(shop: httpx.Client, db: None):
    api = shop.post("/api/sale/purchase", content=b"x" * 8193)
    page = shop.post("/orders/find/", content=b"x" * 8193)
    desk = [shop.post("/admin/login/", content=b"x" * size) for size in (8_000, 9_000, 65_537)]

    assert (api.status_code, api.json()["code"]) == (413, "payload_too_large")
    assert (page.status_code, "Go back" in page.text) == (413, True)
    assert [answer.status_code for answer in desk] == [403, 413, 413], "Django has read the first"
    assert ["Sign in in another tab" in answer.text for answer in desk] == [False, True, False]


@pytest.mark.parametrize("page", ["add", "1/change", "1/invitations"])
def test_a_stranger_fills_no_disk(proxy: Nginx, shop: httpx.Client, db: None, page: str):
    """The app refuses before all of it has come."""
    head = b"POST /admin/sales/sale/%b/ HTTP/1.1\r\nHost: %b\r\nContent-Length: 9000000\r\n\r\n"

    with encrypted(proxy) as connection:
        connection.sendall(head % (page.encode(), NAME.encode()) + b"x" * 100_000)
        answer = connection.recv(65536)

    assert status_of(answer) == 413
    assert not list((proxy.directory / "var/lib/nginx/body").rglob("*.*"))


def test_status_is_asked_of_the_app_once_a_second(shop: httpx.Client, open_sale: Sale, seen: Callable[[], None]):
    seen()
    started = time.monotonic()
    first = shop.get("/api/sale/status")
    again = [shop.get("/api/sale/status").json()["serverTime"] for _ in range(20)]
    seconds = time.monotonic() - started
    time.sleep(2)
    later = shop.get("/api/sale/status").json()["serverTime"]

    assert first.headers["cache-control"] == "public, max-age=1"
    assert len({first.json()["serverTime"], *again}) <= 2 + seconds
    assert later != first.json()["serverTime"]


def test_a_client_that_wants_the_time_of_now_gets_it(shop: httpx.Client, open_sale: Sale, seen: Callable[[], None]):
    seen()

    answers = []
    for _ in range(5):
        answers.append(shop.get("/api/sale/status", params={"fresh": "1"}))
        time.sleep(0.005)  # the time has milliseconds

    assert len({answer.json()["serverTime"] for answer in answers}) == 5
    assert {answer.headers["cache-control"] for answer in answers} == {"no-store"}


def test_each_language_and_encoding_is_cached_separately(shop: httpx.Client, open_sale: Sale, seen: Callable[[], None]):
    seen()

    english = shop.get("/", headers={"Accept-Language": "en", "Accept-Encoding": "identity"})
    german = shop.get("/", headers={"Accept-Language": "de", "Accept-Encoding": "gzip"})
    known = shop.get(
        "/", headers={"Accept-Language": "en", "Accept-Encoding": "identity", "If-None-Match": english.headers["etag"]}
    )

    assert (english.headers["content-language"], german.headers["content-language"]) == ("en", "de")
    assert (english.headers.get("content-encoding"), german.headers["content-encoding"]) == (None, "gzip")
    assert known.status_code == 304


def test_events_come_as_they_happen(shop: httpx.Client, open_sale: Sale, seen: Callable[[], None]):
    seen()
    with shop.stream("GET", "/api/sale/events") as stream:
        lines = stream.iter_lines()
        first = next(line for line in lines if line.startswith("data:"))
        sold = shop.post("/api/sale/purchase", json={"userId": "ada"})
        second = next(line for line in lines if line.startswith("data:"))

    assert sold.status_code == 200
    assert ('"remainingStock":10' in first, '"remainingStock":9' in second) == (True, True)


@pytest.mark.parametrize(
    "path", ["/metrics", "//metrics", "/%6detrics", "/./metrics", "/static/../metrics", "/metrics?x=1"]
)
def test_the_metrics_are_not_served_through_nginx(proxy: Nginx, path: str):
    """Not even to who asks from this machine; of each web server itself they may be asked."""
    with encrypted(proxy) as connection:
        connection.sendall(b"GET %b HTTP/1.1\r\nHost: %b\r\nConnection: close\r\n\r\n" % (path.encode(), NAME.encode()))
        answer = b"".join(iter(lambda: connection.recv(65536), b""))

    assert status_of(answer) == 404
    assert b"flashsale_" not in answer


def test_metrics_through_nginx_judge_the_client_address(db: None):
    """Both are another address than nginx's own, which is in the networks, too."""
    port = free_port()
    networks = {"METRICS_NETWORKS": "127.0.0.1/32,127.0.7.0/24", "WEB_CONCURRENCY": "1"}
    with (
        WebServer({"PORT": str(port), **networks, **BEHIND_NGINX}) as server,
        nginx([port], {"return 404;": "proxy_pass http://web;"}) as proxy,
    ):
        found = {}
        for client in ("127.0.7.1", "127.0.8.1"):
            with proxy.client(local_address=client) as asking:
                found[client] = asking.get("/metrics", headers={"X-Forwarded-For": "127.0.7.7"})
        direct = httpx.get(f"{server.url}/metrics")

    assert {client: answer.status_code for client, answer in found.items()} == {"127.0.7.1": 200, "127.0.8.1": 403}
    assert [b"flashsale_" in answer.content for answer in found.values()] == [True, False]
    assert direct.status_code == 200


@pytest.fixture
def strict(web: WebServer) -> Iterator[Nginx]:
    """The file with limits that a test reaches at once."""
    changes = {
        "limit_conn connections 1000;": "limit_conn connections 3;",
        "rate=200r/s": "rate=1r/m",
        "rate=50r/s": "rate=1r/m",
        "zone=requests burst=400": "zone=requests burst=9",
        "zone=attempts burst=100": "zone=attempts burst=4",
        "#set_real_ip_from 203.0.113.0/24;": "set_real_ip_from 127.0.9.0/24;",
        "#real_ip_header": "real_ip_header",
    }
    with nginx([port_of(web)], changes) as server:
        yield server


def test_a_header_or_body_that_stalls_is_cut_off(web: WebServer):
    changes = {
        "client_header_timeout 10s;": "client_header_timeout 1s;",
        "client_body_timeout 5s;": "client_body_timeout 1s;",
    }
    with nginx([port_of(web)], changes) as hasty, encrypted(hasty) as header, encrypted(hasty) as body:
        header.sendall(b"GET /api/sale/status HTTP/1.1\r\nHost: shop")
        body.sendall(b"POST /api/sale/purchase HTTP/1.1\r\nHost: %b\r\nContent-Length: 9\r\n\r\n{" % NAME.encode())
        answers = [status_of(header.recv(1000)), status_of(body.recv(1000))]

    assert set(answers) <= {0, 408}, "either is told so, or the connection is closed"


def test_connections_are_limited_per_address(strict: Nginx, open_sale: Sale):
    listening = b"GET /api/sale/events HTTP/1.1\r\nHost: %b\r\n\r\n" % NAME.encode()
    first, second = next(ADDRESSES), next(ADDRESSES)
    held = [encrypted(strict, first) for _ in range(4)]
    answers = []
    for connection in held:
        connection.sendall(listening)
        answers.append(connection.recv(65536))
    with encrypted(strict, second) as other:
        other.sendall(listening)
        elsewhere = status_of(other.recv(65536))
    for connection in held:
        connection.close()

    assert [status_of(answer) for answer in answers] == [200, 200, 200, 429]
    assert b'"code":"rate_limited"' in answers[3]
    assert elsewhere == 200


def test_attempts_are_limited_apart_from_polling(strict: Nginx, open_sale: Sale, seen: Callable[[], None]):
    seen()
    with strict.client(local_address=next(ADDRESSES)) as client:
        attempts = [client.post("/api/sale/purchase", json={"userId": f"{number}"}) for number in range(8)]
        form = client.post("/", data={"userId": "ada"})
        polls = Counter(client.get("/api/sale/status").status_code for _ in range(50))
        files = Counter(client.get(ICON).status_code for _ in range(50))
        pages = Counter(client.get("/").status_code for _ in range(20))

    assert [answer.status_code for answer in attempts] == [200] * 5 + [429] * 3
    assert attempts[7].json()["code"] == "rate_limited"
    assert int(attempts[7].headers["retry-after"]) == 1
    assert (form.status_code, "One moment" in form.text) == (429, True)
    assert polls == {200: 50}
    assert files == {200: 50}
    assert pages[429] >= 15


def test_an_ipv6_network_counts_as_one_client(strict: Nginx, open_sale: Sale, seen: Callable[[], None]):
    """Behind a proxy that nginx believes, which here stands for clients of IPv6."""
    seen()

    def attempt(address: str) -> int:
        return client.post(
            "/api/sale/purchase", json={"userId": address}, headers={"X-Forwarded-For": address}
        ).status_code

    with strict.client(local_address="127.0.9.1") as client:
        same = Counter(attempt(f"2001:db8:0:1:{number:x}::1") for number in range(8))
        other = attempt("2001:db8:0:2::1")
        older = Counter(attempt(f"192.0.2.{number}") for number in range(8))

    assert same == {200: 5, 429: 3}
    assert other == 200
    assert older == {200: 4, 409: 4}, "ten units, and each IPv4 address counts for itself"


SECRETS = {
    "name": "/api/sale/user/grace%40example.com",
    "name of a mistyped address": "/api/sale/users/grace%40example.com",
    "name with a line break": "/API/sales/widget/user/%0Agrace",
    "receipt": "/receipts/1.1-0.5ec2e7c0de/",
    "code": "/shopper/confirm/?email=grace%40example.com&code=5ec2e7c0de",
    "token": "/shopper/enter/widget/?token=fs_5ec2e7c0de",
    "search": "/admin/sales/order/?q=grace%40example.com",
}
TOLD = ("grace", "5ec2e7c0de")


def ask_for_secrets(server: Nginx) -> Counter[int]:
    """Ask for each with a Referer as a browser would send it, over its size and over http, too; return the statuses."""
    answers = []
    with server.client(local_address=next(ADDRESSES)) as client:
        for path in SECRETS.values():
            headers = {"Referer": f"{server.url}{SECRETS['code']}"}
            answers.append(client.get(path, headers=headers))
            answers.append(client.post(path, headers=headers, content=b"x" * 9000))
            plain = f"http://127.0.0.1:{server.http_port}{path}"
            answers.append(httpx.post(plain, headers={**headers, "Host": NAME}, content=b"x" * 9000))
    return Counter(answer.status_code for answer in answers)


def accesses(server: Nginx, count: int) -> list[str]:
    """Return the log's lines of the last requests; a line is written after the answer is sent."""
    log, deadline = server.directory / "var/log/nginx/access.log", time.monotonic() + 60
    while len(lines := [line for line in log.read_text().splitlines() if '" 444 ' not in line]) < count:
        assert time.monotonic() < deadline, lines
        time.sleep(0.02)
    return lines[-count:]


@pytest.mark.parametrize("trouble", ["none", "limits", "no server"])
def test_no_log_has_a_secret_or_a_name(web: WebServer, open_sale: Sale, seen: Callable[[], None], trouble: str):
    seen()
    changes = {" buffer=64k flush=5s": ""}
    if trouble == "limits":
        changes |= {"rate=200r/s": "rate=1r/m", "zone=requests burst=400": "zone=requests burst=1"}
    with nginx([free_port() if trouble == "no server" else port_of(web)], changes) as server:
        statuses = ask_for_secrets(server)
        access = "\n".join(accesses(server, 3 * len(SECRETS)))
        errors = (server.directory / "var/log/nginx/error.log").read_text()

    assert not [line for line in [*access.splitlines(), *errors.splitlines()] if any(word in line for word in TOLD)]
    assert statuses[429 if trouble == "limits" else 413] > 5
    assert '"GET /api/sale/user/... HTTP/1.1"' in access
    assert '"GET /receipts/... HTTP/1.1"' in access
    assert '"GET /shopper/enter/widget/ HTTP/1.1"' in access
    assert '"GET /admin/sales/order/ HTTP/1.1"' in access
    assert ("/REJECTED " in access) == (trouble == "limits")
    assert ('upstream_status="502"' in access) == (trouble == "no server")


def test_the_log_has_the_id_that_the_answer_has(web: WebServer, open_sale: Sale, seen: Callable[[], None]):
    seen()
    with nginx([port_of(web)], {" buffer=64k flush=5s": ""}) as server:
        with server.client(local_address=next(ADDRESSES)) as client:
            refused = client.get("/api/sales/nothing/status")
            client.get("/api/sale/status", headers={"X-Request-Id": "mine-1"})
            client.get("/api/sale/user/ada", headers={"X-Request-Id": '" not mine'})
        lines = accesses(server, 3)

    assert lines[0].endswith(f" id={refused.json()['requestId']}")
    assert lines[1].endswith(" id=mine-1")
    assert re.search(r" id=[0-9a-f]+$", lines[2])


def test_nginx_itself_would_log_them():
    """The control: what the line error_log of the servers is there for."""
    changes = {"error_log /dev/null emerg;": "", "rate=200r/s": "rate=1r/m", "zone=requests burst=400": "zone=requests"}
    with nginx([free_port()], changes) as server:
        ask_for_secrets(server)
        errors = (server.directory / "var/log/nginx/error.log").read_text()

    assert "limiting requests" in errors
    assert "grace%40example.com" in errors
    assert "5ec2e7c0de" in errors


def test_an_origin_may_be_as_long_as_names_are():
    origin = f"https://{'partner.' * 30}example.com:8443"
    with nginx([free_port()], {"#https://partner.example.com": origin}) as server, server.client() as client:
        refused = client.get("/api/sale/status", headers={"Origin": origin})

    assert refused.headers["access-control-allow-origin"] == origin


PARTNER = "https://partner.example.com"
FILLED_IN = {"#https://partner.example.com $http_origin;": "https://partner.example.com $http_origin;"}


def own_answers(web: WebServer, origin: str, path: str) -> list[httpx.Response]:
    """Return nginx's own 413, 429 and 503 to POSTs from an origin."""
    few = {"rate=50r/s": "rate=1r/m", "zone=attempts burst=100": "zone=attempts"}
    headers, found = {"Origin": origin, "X-Request-Id": "mine-1"}, []
    with nginx([port_of(web)], FILLED_IN | few) as server, server.client(local_address=next(ADDRESSES)) as client:
        found.append(client.post(path, headers=headers, content=b"x" * 9000))
        found += [client.post(path, headers=headers, content=b"x") for _ in range(2)][1:]
    with nginx([free_port()], FILLED_IN) as server, server.client() as client:
        found.append(client.post(path, headers=headers, content=b"x"))
    assert [response.status_code for response in found] == [413, 429, 503]
    return found


@pytest.mark.parametrize("path", ["/api/sale/purchase", "/api/sales/widget/purchase", "/api/shopper/code", "/api/x"])
def test_nginxs_own_answers_are_bound_and_named_as_the_apps(web: WebServer, path: str):
    apps = httpx.post(f"{web.url}/api/sale/purchase", headers={"Host": NAME, "X-Forwarded-Proto": "https"})

    for response in own_answers(web, PARTNER, path):
        assert of_security(response) == of_security(apps)
        assert response.headers.get_list("content-security-policy") == [OF_DATA["Content-Security-Policy"]]
        assert response.headers["content-type"] == "application/json"
        assert response.json()["requestId"] == response.headers["x-request-id"] == "mine-1"
        assert response.json().keys() == apps.json().keys()


def test_nginxs_own_pages_are_bound_as_the_apps(web: WebServer, shop: httpx.Client):
    apps = shop.post("/nowhere")

    for response in [*own_answers(web, PARTNER, "/orders/find/"), shop.get("/metrics")]:
        assert of_security(response) == of_security(apps)
        assert response.headers.get_list("content-security-policy") == [OF_DATA["Content-Security-Policy"]]
        assert response.headers["x-request-id"]
        assert not [name for name in response.headers if name.startswith("access-")]


@pytest.mark.parametrize("path", ["/api/sale/purchase", "/api/sales/widget/purchase"])
def test_an_allowed_origin_reads_nginxs_own_answers(web: WebServer, path: str):
    to_partner = own_answers(web, PARTNER, path)
    to_stranger = own_answers(web, "https://evil.example", path)

    assert [told(response) for response in to_partner] == [to(PARTNER)] * 3
    assert [told(response) for response in to_stranger] == [TO_NOBODY] * 3
    assert to_partner[2].json()["code"] == "unknown"
    assert to_partner[2].headers["retry-after"] == "1"


def test_unshared_answers_name_no_origin(web: WebServer):
    assert [told(response) for response in own_answers(web, PARTNER, "/api/shopper/code")] == [{}] * 3


def test_the_apps_headers_pass_unchanged(proxy: Nginx, shop: httpx.Client, web: WebServer, open_sale: Sale, seen):
    seen()
    with httpx.Client(base_url=web.url, headers={"Host": NAME, "X-Forwarded-Proto": "https"}) as client:
        for path in (
            "/",
            "/sales/",
            "/nowhere",
            "/api/sale/status",
            "/api/sale/user/ada",
            "/api/docs",
            "/admin/login/",
        ):
            apps, passed = client.get(path).headers, shop.get(path).headers
            for name in {*apps, *passed} - {"date", "server", "connection", "transfer-encoding", "content-length"}:
                if name not in ("set-cookie", "x-request-id"):
                    assert passed.get_list(name) == apps.get_list(name), (path, name)
            assert ("x-request-id" in passed) == ("x-request-id" in apps), path


def test_a_copy_has_the_name_of_its_own_request(shop: httpx.Client, open_sale: Sale, seen: Callable[[], None]):
    seen()
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    sent = [{"X-Request-Id": "first", "Traceparent": trace}, {}, {"X-Request-Id": "second"}, {"X-Request-Id": "a b"}]
    sent.append({"Traceparent": trace})

    for _ in range(20):  # a machine that needs a second for them gets another copy in between
        time.sleep(2)
        answers = [shop.get("/api/sale/status", headers=headers) for headers in sent]
        if len({answer.json()["serverTime"] for answer in answers}) == 1:
            break

    names = [answer.headers.get("x-request-id") for answer in answers]
    assert len({answer.json()["serverTime"] for answer in answers}) == 1, "they are copies"
    assert names[:3] == ["first", None, "second"]
    assert names[3] not in (None, "first", "a b")
    assert [answer.headers.get("traceparent") for answer in answers] == [trace, None, None, None, trace]


class Silent:
    """An upstream that takes each request whole, and closes without an answer."""

    def __init__(self) -> None:
        self.requests: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            with connection:
                self.requests.append(connection.recv(65536))


def test_a_purchase_is_never_sent_twice(web: WebServer):
    first, second = Silent(), Silent()
    with nginx([first.port, second.port]) as server, server.client() as client:
        lost = client.post("/api/sale/purchase", json={"userId": "ada"})
        sent = len(first.requests) + len(second.requests)
        form = client.post("/", data={"userId": "ada"})
        sent_form = len(first.requests) + len(second.requests) - sent
        client.get("/api/sale/user/ada")
        asked = len(first.requests) + len(second.requests) - sent - sent_form

    assert (sent, sent_form) == (1, 1)
    assert asked == 2, "the control: what changes nothing is asked of the other"
    assert (lost.status_code, lost.json()["code"], lost.headers["retry-after"]) == (503, "unknown", "1")
    assert (form.status_code, "you cannot buy twice" in form.text) == (503, True)


def test_a_server_that_cannot_be_reached_is_passed_over(web: WebServer, open_sale: Sale, seen: Callable[[], None]):
    seen()
    with nginx([free_port(), port_of(web)]) as server, server.client(local_address=next(ADDRESSES)) as client:
        bought = [client.post("/api/sale/purchase", json={"userId": f"{number}"}).status_code for number in range(4)]

    assert bought == [200] * 4


def test_without_a_server_each_hears_what_to_do(proxy: Nginx):
    with nginx([free_port()]) as server, server.client() as client:
        status, page = client.get("/api/sale/status"), client.get("/")

    assert (status.status_code, status.json()["code"]) == (503, "unavailable")
    assert (page.status_code, page.headers["content-type"]) == (503, "text/html; charset=utf-8")
    assert "Load this page again" in page.text


def test_a_crowd_of_one_address_polls_through_nginx(proxy: Nginx, make_sale: MakeSale, seen: Callable[[], None]):
    make_sale()
    seen()
    with proxy.client(local_address=next(ADDRESSES)) as client, ThreadPoolExecutor(8) as pool:
        statuses = Counter(pool.map(lambda _: client.get("/api/sale/status").status_code, range(1000)))

    assert statuses == {200: 1000}
