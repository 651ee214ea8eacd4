"""Archiving from the operator's desk, and what the desk refuses of an archived sale."""

import asyncio
import html
from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from sales import publishing, purchases, store
from sales.archiving import archive
from sales.audit import audit
from sales.models import Sale
from sales.orders import consumer_name, run_once
from tests.conftest import MakeSale

pytestmark = [pytest.mark.usefixtures("static_files"), pytest.mark.django_db(transaction=True)]


@pytest.fixture
def operator(transactional_db: None) -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("olga"))
    return client


@pytest.fixture
def ended_sale(make_sale: MakeSale) -> Sale:
    sale = make_sale()
    asyncio.run(purchases.buy(sale.id, "ada"))
    run_once(consumer_name())
    sale.ends_at = timezone.now() - timedelta(seconds=1)
    sale.save()
    publishing.publish(sale)
    return sale


@pytest.fixture
def archived_sale(ended_sale: Sale) -> Sale:
    archive(ended_sale)
    return ended_sale


def address(sale: Sale, step: str) -> str:
    return f"/admin/sales/sale/{sale.id}/{step}-sale/"


def take(operator: Client, sale: Sale, step: str, **values: object) -> str:
    page = html.unescape(operator.post(address(sale, step), values, follow=True).content.decode())
    sale.refresh_from_db()
    return page


def steps_of(operator: Client, sale: Sale) -> list[str]:
    page = operator.get(f"/admin/sales/sale/{sale.id}/change/").content.decode()
    return [part.partition('"')[0] for part in page.split('data-step="')[1:]]


def history(sale: Sale) -> list[str]:
    entries = LogEntry.objects.filter(object_id=str(sale.id)).order_by("id")
    return [f"{entry.user}: {entry.change_message}" for entry in entries]


def test_an_ended_sale_is_archived_by_a_button(operator: Client, ended_sale: Sale):
    asked = html.unescape(operator.get(address(ended_sale, "archive")).content.decode())

    told = take(operator, ended_sale, "archive")

    assert "SQL alone keeps its purchases" in asked
    assert "is archived (Archived: empty → " in told
    assert "It is in force: 1 sold, 9 remaining." in told
    assert "Archived; it ended" in told
    (entry,) = history(ended_sale)
    assert entry.startswith("olga: Archive. Archived: empty → ")
    assert audit(ended_sale).drift == {}


def test_the_button_is_there_for_what_has_ended(operator: Client, ended_sale: Sale, make_sale: MakeSale):
    never = make_sale(name="Never published", published=False, starts_in=-7200, lasts=60)

    assert "archive" in steps_of(operator, ended_sale)
    assert "archive" not in steps_of(operator, make_sale(name="Open"))
    assert "archive" not in steps_of(operator, never)
    assert "never published" in take(operator, never, "archive")


def test_an_archived_sale_offers_what_makes_sense(operator: Client, archived_sale: Sale):
    assert steps_of(operator, archived_sale) == ["unpublish"]


@pytest.mark.parametrize(
    ("step", "values"),
    [("extend", {"minutes": 5}), ("add-stock", {"units": 5}), ("publish", {}), ("resume", {}), ("pause", {})],
)
def test_other_steps_are_refused_with_the_remedy(
    operator: Client, archived_sale: Sale, step: str, values: dict[str, int]
):
    page = take(operator, archived_sale, step, **values)

    assert f"This sale is archived. Run manage.py restore_sale {archived_sale.slug} first" in page
    assert history(archived_sale) == []


def test_a_sale_that_differs_is_refused_with_the_reason(operator: Client, ended_sale: Sale):
    store.client().incr(store.key(ended_sale.id, "stock"))

    page = take(operator, ended_sale, "archive")

    assert f"run manage.py audit_sale {ended_sale.slug}" in page
    assert ended_sale.archived_at is None
    assert history(ended_sale) == []


def test_an_open_sale_is_refused(operator: Client, make_sale: MakeSale):
    assert "Archive it after that." in take(operator, make_sale(), "archive")


def test_unpublishing_hides_an_archived_sale(operator: Client, archived_sale: Sale):
    page = take(operator, archived_sale, "unpublish")

    assert "It is hidden from shoppers." in page
    assert not store.client().hexists(store.DIRECTORY, archived_sale.slug)
    assert audit(archived_sale).drift == {}


def test_the_form_refuses_only_changes_that_would_sell_again(operator: Client, archived_sale: Sale):
    path = f"/admin/sales/sale/{archived_sale.id}/change/"
    form = operator.get(path).context["adminform"].form
    values = {name: form[name].value() for name in ("name", "description", "total_stock", "currency", "identity")}
    values |= {name: form[name].value() for name in ("starts_at", "ends_at")}
    values |= {"seen": form.seen}

    refused = operator.post(path, values | {"total_stock": 50}).content.decode()
    taken = operator.post(path, values | {"description": "It was nice."}, follow=True).content.decode()

    archived_sale.refresh_from_db()
    assert f"This sale is archived: run manage.py restore_sale {archived_sale.slug} first." in refused
    assert (archived_sale.total_stock, archived_sale.description) == (10, "It was nice."), taken
    assert publishing.standing(archived_sale).config["description"] == "It was nice."
    assert audit(archived_sale).drift == {}


def test_an_order_is_cancelled_from_its_page(operator: Client, archived_sale: Sale):
    order = archived_sale.orders.get()
    path = f"/admin/sales/order/{order.id}/"

    asked = html.unescape(operator.get(f"{path}cancel/").content.decode())
    told = html.unescape(operator.post(f"{path}cancel/", {"may_buy_again": "no"}, follow=True).content.decode())

    assert "Units remaining" in asked
    assert "is cancelled. It is in force: 0 sold, 10 remaining." in told
    assert "holds no purchases of this sale, which is archived" in told
    assert audit(archived_sale).drift == {}


def test_the_pages_of_an_archived_sale_open(operator: Client, archived_sale: Sale):
    path = f"/admin/sales/sale/{archived_sale.id}"
    pages = {
        name: operator.get(f"{path}/{name}/").content.decode()
        for name in ("change", "live", "analytics", "preflight", "history")
    }
    numbers = operator.get(f"{path}/live/data/").json()
    listed = operator.get("/admin/sales/sale/").content.decode()

    assert all(pages.values())
    assert numbers["isRedisThere"]
    assert 'data-state="archived"' in listed
    assert operator.get(f"/admin/sales/order/export/?sale__id__exact={archived_sale.id}").status_code == 200
