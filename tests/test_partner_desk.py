"""The partner's key in the admin: who sees it, when, and how another one takes its place."""

import html
import itertools
from pathlib import Path

import httpx
import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.test import Client
from playwright.sync_api import expect

from sales import publishing, store, tokens
from sales.models import Sale
from tests import browsers
from tests.conftest import MakeSale
from tests.redis_servers import wait_until
from tests.servers import WebServer
from tests.test_accessibility import violations
from tests.test_roles import member

pytestmark = pytest.mark.usefixtures("static_files")

ADA = "ada@example.com"


def address(sale: Sale) -> str:
    return f"/admin/sales/sale/{sale.id}/partner/"


def history(sale: Sale) -> list[str]:
    entries = LogEntry.objects.filter(object_id=str(sale.id)).order_by("id")
    return [f"{entry.user}: {html.unescape(entry.change_message)}" for entry in entries]


@pytest.mark.parametrize("role", ["operator", "administrator"])
def test_the_key_is_shown_on_demand_and_noted(verified_sale: Sale, role: str):
    client, key = member(role), tokens.partner_key(verified_sale.id, 1)

    opened, shown = client.get(address(verified_sale)), client.post(address(verified_sale), follow=True)

    assert key not in opened.content.decode()
    assert f'<code class="secret" id="key">{key}</code>' in shown.content.decode()
    assert history(verified_sale) == [f"{role}: Looked at the partner’s key, number 1."]
    for response in (opened, shown):
        assert "no-store" in response["Cache-Control"]
        assert "private" in response["Cache-Control"]


def test_a_viewer_cannot_see_or_reach_the_key(verified_sale: Sale):
    viewer = member("viewer")

    form = viewer.get(f"/admin/sales/sale/{verified_sale.id}/change/").content.decode()

    assert viewer.get(address(verified_sale)).status_code == 403
    assert viewer.post(address(verified_sale)).status_code == 403
    assert viewer.post(f"/admin/sales/sale/{verified_sale.id}/new-key-sale/").status_code == 403
    assert address(verified_sale) not in form
    assert history(verified_sale) == []
    assert Sale.objects.get().key_number == 1


def test_an_operator_finds_the_way_in_the_sales_form(verified_sale: Sale):
    form = member("operator").get(f"/admin/sales/sale/{verified_sale.id}/change/").content.decode()

    assert f'href="{address(verified_sale)}"' in form


def test_the_key_needs_a_form_of_ours(verified_sale: Sale):
    user = User.objects.create_superuser("olga")
    client = Client(enforce_csrf_checks=True)
    client.force_login(user)

    refused = client.post(address(verified_sale))

    assert refused.status_code == 403
    assert history(verified_sale) == []


def test_each_existing_sale_has_its_own_key(verified_sale: Sale, make_sale: MakeSale):
    other, operator = make_sale(name="Other"), member("operator")

    page = operator.post(address(other), follow=True).content.decode()

    assert tokens.partner_key(verified_sale.id, 1) not in page
    assert tokens.partner_key(other.id, 1) in page
    assert operator.post("/admin/sales/sale/999/partner/").status_code == 404


def test_an_open_sale_needs_no_key(open_sale: Sale, verified_sale: Sale):
    operator = member("operator")

    assert "This sale is open" in operator.get(address(open_sale)).content.decode()
    assert "This sale is open" not in operator.get(address(verified_sale)).content.decode()


def test_a_new_key_is_asked_for_first_and_noted(verified_sale: Sale):
    operator, step = member("operator"), f"/admin/sales/sale/{verified_sale.id}/new-key-sale/"

    asked = html.unescape(operator.get(step).content.decode())
    number_then = Sale.objects.get().key_number
    made = operator.post(step)
    shown = operator.post(address(verified_sale), follow=True).content.decode()

    assert "is refused within a second" in asked
    assert number_then == 1
    assert made["Location"] == address(verified_sale)
    assert tokens.partner_key(verified_sale.id, 2) in shown
    assert tokens.partner_key(verified_sale.id, 1) not in shown
    assert history(verified_sale)[0] == "operator: Make a new key. Key number: 1 → 2."
    assert publishing.standing(verified_sale).config["key_number"] == "2"


def test_a_new_key_voids_the_old_one_within_a_second(verified_sale: Sale, server: WebServer):
    path = f"/api/sales/{verified_sale.slug}/user/{ADA}"
    old = tokens.vouch(ADA, verified_sale.id, 1, seconds=600)
    entered = tokens.issue(ADA, sale_id=verified_sale.id, key_number=1)
    own = tokens.issue(ADA)

    def statuses(token: str) -> dict[int, int]:
        """Return what each worker answers, by its process."""
        found: dict[int, int] = {}
        while len(found) < 2:
            with httpx.Client(base_url=server.url) as connection:
                pid = connection.get("/health/live").json()["pid"]
                answer = connection.get(path, headers={"Authorization": f"Bearer {token}"})
                found[pid] = answer.status_code
        return found

    before = {*statuses(old).values(), *statuses(entered).values()}
    member("operator").post(f"/admin/sales/sale/{verified_sale.id}/new-key-sale/")

    assert before == {200}
    wait_until(lambda: set(statuses(old).values()) == {401}, "the old key is void")
    assert set(statuses(entered).values()) == {401}
    assert set(statuses(own).values()) == {200}
    assert set(statuses(tokens.vouch(ADA, verified_sale.id, 2, seconds=600)).values()) == {200}


def test_the_key_is_in_no_log_and_in_neither_database(
    verified_sale: Sale, server: WebServer, project_dir: Path, caplog: pytest.LogCaptureFixture
):
    key = tokens.partner_key(verified_sale.id, 1)

    member("operator").post(address(verified_sale))

    held = store.client().hgetall(store.key(verified_sale.id, "config"))
    assert key not in str(held) + str(Sale.objects.values()) + str(LogEntry.objects.values())
    assert key not in caplog.text + server.log.read_text()


@pytest.mark.long
def test_the_page_is_for_everyone(own_visitor: browsers.Visitor, make_sale: MakeSale):
    User.objects.create_superuser("olga", password="correct horse")
    sale = make_sale(name="Donaudampfschifffahrtsgesellschaftskapitänsmütze", identity="verified")
    page = own_visitor.open(f"/admin/login/?next={address(sale)}", reduced_motion="reduce")
    page.get_by_label("Username").fill("olga")
    page.get_by_label("Password").fill("correct horse")
    page.get_by_role("button", name="Log in").click()
    found: dict[tuple[str, str, int], list[str]] = {}

    def look(what: str) -> None:
        for scheme, width in itertools.product(("light", "dark"), (360, 1280)):
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            browsers.resize(page, width)
            found[what, scheme, width] = violations(page)
            if page.evaluate("document.documentElement.scrollWidth") != width:
                found[what, scheme, width].append("it scrolls sideways")

    expect(page.get_by_role("button", name="Show the key")).to_be_visible()
    look("the way to the key")
    page.get_by_role("button", name="Show the key").click()
    expect(page.locator("#key")).to_have_text(tokens.partner_key(sale.id, 1))
    look("the key")
    page.get_by_role("link", name="Make a new key …").click()
    expect(page.get_by_role("button", name="Yes, make a new key")).to_be_visible()
    look("a new key")

    assert {where: wrong for where, wrong in found.items() if wrong} == {}
