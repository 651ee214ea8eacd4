"""Orders in the admin: found, read, exported, never edited."""

import csv
import tracemalloc
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, User
from django.test import Client
from pytest_django import Settings

from sales import csv_lines, shoppers, store
from sales.models import MissingOrder, Order, Quarantine, Sale
from tests.conftest import MakeSale

pytestmark = pytest.mark.usefixtures("static_files")

LIST = "/admin/sales/order/"
EXPORT = f"{LIST}export/"
MISSING = "/admin/sales/missingorder/"
NOON = datetime(2026, 2, 14, 12, 0, 0, 120_000, tzinfo=UTC)
LARGEST_GROWTH_BYTES = 12 * 1024 * 1024


@pytest.fixture
def viewer(db: None) -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("viewer"))
    return client


def add_orders(sale: Sale, count: int, *, first: int = 0) -> None:
    Order.objects.bulk_create(
        (
            Order(
                sale=sale,
                order_id=f"{1771070400000 + number}-0",
                user_id=f"shopper-{number}@example.com",
                purchased_at=NOON + timedelta(minutes=number),
                remaining_stock=first + count - number,
            )
            for number in range(first, first + count)
        ),
        batch_size=5_000,
    )


def rows(response: Iterable[bytes]) -> list[list[str]]:
    return list(csv.reader(b"".join(response).decode().splitlines()))


def test_an_order_is_found_by_shopper_and_by_number(viewer: Client, open_sale: Sale):
    add_orders(open_sale, 3)

    by_shopper = viewer.get(LIST, {"q": "shopper-1@"}).content.decode()
    by_number = viewer.get(LIST, {"q": "1771070400002"}).content.decode()

    assert "shopper-1@example.com" in by_shopper
    assert "shopper-2@example.com" not in by_shopper
    assert "shopper-2@example.com" in by_number


@pytest.mark.parametrize(
    "term",
    [
        *("Ada@Bücher.example", "ada@xn--bcher-kva.example", " ADA@BU\u0308CHER.EXAMPLE ", "ａｄａ", "@Bücher.example"),
        *("Ada Lovelace <Ada@Bücher.example>", '"Lovelace, Ada" <ada@bücher.example>', "mailto:ada@bücher.example"),
    ],
)
def test_a_search_spells_the_shopper_as_orders_do(viewer: Client, open_sale: Sale, term: str):
    add_orders(open_sale, 1)
    Order.objects.create(
        sale=open_sale,
        order_id="1771070500000-0",
        user_id=shoppers.normalise("Ada@Bücher.example"),
        purchased_at=NOON,
        remaining_stock=5,
    )

    page, export = viewer.get(LIST, {"q": term}).content.decode(), rows(viewer.get(EXPORT, {"q": term}))

    assert "ada@xn--bcher-kva.example" in page
    assert "shopper-0@" not in page
    assert [row[3] for row in export[1:]] == ["ada@xn--bcher-kva.example"]


def test_orders_are_filtered_by_sale_and_by_day(viewer: Client, make_sale: MakeSale):
    one, two = make_sale(name="one"), make_sale(name="two")
    add_orders(one, 1)
    add_orders(two, 1, first=2 * 24 * 60)

    of_one = viewer.get(LIST, {"sale__id__exact": one.id}).content.decode()
    day: dict[str, str | int] = {"purchased_at__year": 2026, "purchased_at__month": 2, "purchased_at__day": 16}
    of_the_day = viewer.get(LIST, day).content.decode()

    assert "shopper-0@" in of_one
    assert "shopper-2880@" not in of_one
    assert "shopper-2880@" in of_the_day
    assert "shopper-0@" not in of_the_day


def test_an_orders_page_says_what_there_is_to_say(viewer: Client, open_sale: Sale):
    add_orders(open_sale, 1)
    order = Order.objects.get()
    address = f"{LIST}{order.id}/change/"

    without = viewer.get(address).content.decode()
    store.client().hset(store.key(open_sale.id, "purchases"), order.user_id, f"{order.order_id} 1 ")
    page = viewer.get(address).content.decode()

    assert "14 Feb 2026, 12:00:00 UTC" in page
    assert f'<a href="/admin/sales/sale/{open_sale.id}/change/">Limited Edition Widget</a>' in page
    assert "bought without one" in page
    assert "1 unit was left after it" in page
    assert f"does not hold this purchase: run manage.py audit_sale {open_sale.slug}" in without
    assert "holds the same purchase" in page


def test_orders_are_read_only(viewer: Client, open_sale: Sale):
    add_orders(open_sale, 1)
    order = Order.objects.get()

    assert viewer.get(f"{LIST}{order.id}/change/").status_code == 200
    assert viewer.post(f"{LIST}{order.id}/change/", {"user_id": "x"}).status_code == 403
    assert viewer.get(f"{LIST}add/").status_code == 403
    assert viewer.post(f"{LIST}{order.id}/delete/", {"post": "yes"}).status_code == 403


def test_the_export_holds_what_the_list_shows(viewer: Client, make_sale: MakeSale):
    one, two = make_sale(name="one"), make_sale(name="Zwölf")
    add_orders(one, 2)
    add_orders(two, 1, first=2)
    Order.objects.filter(sale=two).update(order_code="K7QX-2M9P")

    everything = viewer.get(EXPORT)
    filtered = rows(viewer.get(f"{EXPORT}?sale__id__exact={two.id}&q=shopper-2"))

    assert everything["Content-Type"] == "text/csv; charset=utf-8"
    assert everything["Content-Disposition"].startswith('attachment; filename="orders-2')
    assert [row[3] for row in rows(everything)] == [
        "user_id",
        *(f"shopper-{number}@example.com" for number in (2, 1, 0)),
    ]
    assert filtered[1:] == [
        ["1771070400002-0", "zwolf", "Zwölf", "shopper-2@example.com", "2026-02-14T12:02:00.120Z", "1", "", "K7QX-2M9P"]
    ]


@pytest.mark.parametrize(
    ("language", "separator", "decimal"),
    [("de-DE,de;q=0.9", ";", ","), ("en-US,en", ",", "."), ("fr", ";", ","), ("de-ch", ";", "."), ("*", ",", ".")],
)
def test_a_file_for_excel_opens_in_the_readers_excel(
    viewer: Client, make_sale: MakeSale, settings: Settings, language: str, separator: str, decimal: str
):
    settings.TIME_ZONE = "Europe/Berlin"
    add_orders(make_sale(name="Größe"), 1)

    response = viewer.get(f"{EXPORT}for-excel/", headers={"accept-language": language})

    content = b"".join(response)
    assert content.startswith("\ufefforder_id".encode())
    header, order = csv.reader(content.decode("utf-8-sig").splitlines(), delimiter=separator)
    assert header[4:] == [
        "purchased_at (Europe/Berlin)",
        "remaining_stock",
        "cancelled_at (Europe/Berlin)",
        "order_code",
    ]
    assert order[2:] == ["Größe", "shopper-0@example.com", f"2026-02-14 13:00:00{decimal}120", "1", "", ""]


def test_a_file_for_excel_matches_the_list_without_formulas(viewer: Client, make_sale: MakeSale):
    add_orders(make_sale(name="=HYPERLINK(1)"), 2)

    content = b"".join(viewer.get(f"{EXPORT}for-excel/?q=shopper-1")).decode()

    assert "shopper-1@" in content
    assert "shopper-0@" not in content
    assert "'=HYPERLINK(1)" in content


def test_the_list_links_to_its_own_export(viewer: Client, open_sale: Sale):
    page = viewer.get(LIST, {"q": "ada"}).content.decode()

    assert f'href="{EXPORT}?q=ada"' in page


@pytest.mark.pure
def test_a_senseless_filter_leads_back_to_the_list(viewer: Client):
    assert viewer.get(EXPORT, {"purchased_at__year": "x"})["Location"] == LIST


@pytest.mark.pure
@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_a_cell_is_never_a_formula(start: str):
    assert csv_lines.harmless(f"{start}1+1") == f"'{start}1+1"


@pytest.mark.pure
@pytest.mark.parametrize("cell", ["ada@example.com", "", "1771070400000-0", "a=b"])
def test_other_cells_stay_as_they_are(cell: str):
    assert csv_lines.harmless(cell) == cell


@pytest.mark.long
def test_many_orders_take_the_memory_of_a_page(viewer: Client, make_sale: MakeSale):
    sale = make_sale(stock=40_000)
    add_orders(sale, 40_000)
    viewer.get(EXPORT)

    tracemalloc.start()
    lines = sum(chunk.count(b"\r\n") for chunk in viewer.get(EXPORT))
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert lines == 40_001
    assert peak_bytes < LARGEST_GROWTH_BYTES, f"{peak_bytes / 1024**2:.1f} MiB"


def test_a_quarantined_entry_shows_content_reason_and_time(viewer: Client, open_sale: Sale):
    entry = Quarantine.objects.create(sale=open_sale, entry_id="1-0", fields={"user_id": "ada"}, reason="No time.")
    Quarantine.objects.update(set_aside_at=NOON)

    pages = [viewer.get(f"/admin/sales/quarantine/{path}").content.decode() for path in ("", f"{entry.pk}/change/")]

    for page in pages:
        assert "No time." in page
        assert "14 Feb 2026, 12:00:00 UTC" in page
    assert "{&quot;user_id&quot;: &quot;ada&quot;}" in pages[1]


def test_a_missing_order_is_listed_and_can_be_settled(viewer: Client, open_sale: Sale):
    lost = {"sale": open_sale, "remaining_stock": 0}
    left_over = MissingOrder.objects.create(order_id="1771070400000-0", user_id="ada", state="left_over", **lost)
    found = MissingOrder.objects.create(order_id="1771070400001-0", user_id="bob", **lost)
    settle = {"action": "settle", "_selected_action": [left_over.pk, found.pk]}

    shown = viewer.get(MISSING).content.decode()
    told = viewer.post(MISSING, settle, follow=True).content.decode()

    assert all(word in shown for word in ("ada", "1771070400000-0", "Left over", "bob"))
    assert "1 settled." in told
    assert "1 are not left over: restore_sale comes first." in told
    states = dict(MissingOrder.objects.values_list("user_id", "state"))
    assert states == {"ada": "settled", "bob": "found"}
    assert LogEntry.objects.get().user.username == "viewer"


@pytest.mark.parametrize(("role", "may_settle"), [("viewer", False), ("operator", True)])
def test_only_operators_settle_a_missing_order(open_sale: Sale, role: str, may_settle: bool):
    user = User.objects.create_user("olga", is_staff=True)
    user.groups.add(Group.objects.get(name=role))
    client = Client()
    client.force_login(user)
    lost = MissingOrder.objects.create(
        sale=open_sale, order_id="1-1", user_id="ada", state="left_over", remaining_stock=0
    )

    assert client.get(MISSING).status_code == 200
    client.post(MISSING, {"action": "settle", "_selected_action": [lost.pk]})

    lost.refresh_from_db()
    assert (lost.state == "settled") is may_settle
