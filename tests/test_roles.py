"""Who may see and do what in the admin."""

from datetime import UTC, datetime

import pytest
from django.apps import apps
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth.models import Group, Permission, User
from django.core.management import call_command
from django.test import Client
from pytest_django import Settings

from sales import roles
from sales.models import Order, Sale
from tests.conftest import MakeSale

pytestmark = pytest.mark.usefixtures("static_files")


def member(role: str) -> Client:
    user = User.objects.create_user(role, is_staff=True)
    user.groups.add(Group.objects.get(name=role))
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def order(make_sale: MakeSale) -> Order:
    sale = make_sale(name="Widget")
    return Order.objects.create(
        sale=sale, order_id="1-0", user_id="ada", purchased_at=sale.starts_at, remaining_stock=9
    )


def answers(client: Client, order: Order) -> dict[str, int]:
    """Return the HTTP status of each of the admin's pages, for that client."""
    sale = f"/admin/sales/sale/{order.sale_id}"
    second_factor = f"/admin/auth/user/{User.objects.earliest('id').pk}/second-factor/"
    get = {
        "the desk": "/admin/",
        "sales": "/admin/sales/sale/",
        "a sale": f"{sale}/change/",
        "its history": f"{sale}/history/",
        "its preflight": f"{sale}/preflight/",
        "its partner": f"{sale}/partner/",
        "a new sale": "/admin/sales/sale/add/",
        "orders": "/admin/sales/order/",
        "an order": f"/admin/sales/order/{order.id}/change/",
        "a cancellation, asked": f"/admin/sales/order/{order.id}/cancel/",
        "its order's history": f"/admin/sales/order/{order.id}/history/",
        "an export": "/admin/sales/order/export/",
        "quarantine": "/admin/sales/quarantine/",
        **{f"{step}, asked": f"{sale}/{step}-sale/" for step in STEPS},
        "people": "/admin/auth/user/",
        "roles": "/admin/auth/group/",
        "another's second factor": second_factor,
        "one's own second factor": "/admin/second-factor/",
    }
    post = {
        "a lost second factor": second_factor,
        "a changed sale": f"{sale}/change/",
        "its partner's key": f"{sale}/partner/",
        "a deleted sale": f"{sale}/delete/",
        "a changed order": f"/admin/sales/order/{order.id}/change/",
        "a cancellation": f"/admin/sales/order/{order.id}/cancel/",
        **{step: f"{sale}/{step}-sale/" for step in STEPS},
    }
    return {name: client.get(path).status_code for name, path in get.items()} | {
        name: client.post(path).status_code for name, path in post.items()
    }


STEPS = ("pause", "resume", "extend", "add-stock", "end", "unpublish", "publish", "new-key")
SEEN_OF_ORDERS = ("orders", "an order", "its order's history", "an export", "quarantine")
OWN = "one's own second factor"
SEEN = ("the desk", "sales", "a sale", "its history", *SEEN_OF_ORDERS, OWN)
CANCEL = ("a cancellation, asked", "a cancellation")
PREPARE = ("a new sale", "its preflight", "a changed sale", "its partner", "its partner's key")
RUN = (*PREPARE, *STEPS, *(f"{step}, asked" for step in STEPS), *CANCEL)
LED = ("people", "roles", "another's second factor", "a lost second factor")
NOBODYS = ("a deleted sale", "a changed order")


def allowed(statuses: dict[str, int]) -> set[str]:
    assert set(statuses.values()) <= {200, 302, 403}
    return {name for name, status in statuses.items() if status != 403}


def test_a_viewer_sees_sales_and_orders_and_changes_nothing(order: Order):
    assert allowed(answers(member("viewer"), order)) == {*SEEN}


def test_an_operator_prepares_and_runs_sales_and_cancels_orders(order: Order):
    assert allowed(answers(member("operator"), order)) == {*SEEN, *RUN}


def test_an_administrator_may_do_all_that_anybody_may(order: Order):
    statuses = answers(member("administrator"), order)

    assert allowed(statuses) == {*SEEN, *RUN, *LED}
    assert set(statuses) - allowed(statuses) == {*NOBODYS}


@pytest.mark.pure
def test_every_permission_that_there_is_belongs_to_administrators(db: None):
    held = Group.objects.get(name="administrator").permissions.all()

    assert set(Permission.objects.all()) == set(held), "grant what is missing in a migration: see sales/roles.py"


def test_users_without_a_role_see_only_an_empty_desk(order: Order):
    client = Client()
    client.force_login(User.objects.create_user("nobody", is_staff=True))

    assert allowed(answers(client, order)) == {"the desk", OWN}


def test_the_desk_sends_anonymous_visitors_to_the_log_in(order: Order):
    paths = (f"/admin/sales/sale/{order.sale_id}/pause-sale/", "/admin/sales/order/export/", "/admin/sales/sale/")

    answers = [Client().get(path) for path in paths] + [Client().post(paths[0])]

    assert [answer.status_code for answer in answers] == [302] * 4
    assert all(answer["Location"].startswith("/admin/login/?next=") for answer in answers)
    assert not Sale.objects.get().paused


def test_a_viewer_is_offered_no_steps(order: Order):
    page = member("viewer").get(f"/admin/sales/sale/{order.sale_id}/change/").content.decode()

    assert "On sale now, ends in" in page
    assert "-sale/" not in page
    assert "Duplicate" not in page


def test_only_roles_that_may_cancel_see_the_button(order: Order):
    address = f"/admin/sales/order/{order.id}/"

    pages = {role: member(role).get(f"{address}change/").content.decode() for role in roles.ROLES}

    assert [f"{address}cancel/" in pages[role] for role in roles.ROLES] == [False, True, True]


def test_a_viewer_reads_times_with_utc_beside(order: Order, settings: Settings):
    settings.TIME_ZONE = "Asia/Tokyo"
    times = {"starts_at": datetime(2031, 4, 30, 21, tzinfo=UTC), "ends_at": datetime(2031, 5, 1, 1, tzinfo=UTC)}
    Sale.objects.update(**times)

    page = member("viewer").get(f"/admin/sales/sale/{order.sale_id}/change/").content.decode()

    assert "1 May 2031, 06:00:00 Asia/Tokyo (30 Apr, 21:00:00 UTC)" in page
    assert "1 May 2031, 10:00:00 Asia/Tokyo (01:00:00 UTC)" in page


def test_the_history_tells_the_second_and_the_zone(order: Order, settings: Settings):
    settings.TIME_ZONE = "Asia/Tokyo"
    viewer = member("viewer")
    entry = LogEntry.objects.log_actions(User.objects.get().pk, [order.sale], CHANGE, "Pause.", single_object=True)
    LogEntry.objects.filter(pk=entry.pk).update(action_time=datetime(2031, 4, 30, 21, 0, 7, tzinfo=UTC))

    page = viewer.get(f"/admin/sales/sale/{order.sale_id}/history/").content.decode()

    assert "1 May 2031, 06:00:07 JST" in page


@pytest.mark.pure
def test_granting_twice_changes_nothing(db: None):
    before = set(Group.objects.get(name="viewer").permissions.all())

    roles.grant(apps, "viewer", ("view_sale",))

    assert set(Group.objects.get(name="viewer").permissions.all()) == before


@pytest.mark.pure
@pytest.mark.django_db(transaction=True)
def test_a_test_that_empties_the_database_leaves_the_roles():
    def held() -> dict[str, set[str]]:
        return {group.name: {str(one) for one in group.permissions.all()} for group in Group.objects.all()}

    before = held()

    call_command("flush", verbosity=0, interactive=False)

    assert before.keys() == set(roles.ROLES)
    assert held() == before
