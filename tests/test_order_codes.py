"""Order codes: how they are made, written, read and kept in SQL."""

import asyncio
import re
from importlib import import_module
from types import SimpleNamespace

import pytest
from django.apps import apps
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from sales import archiving, order_codes, orders, publishing, purchases, restoring
from sales.models import Order, Sale
from tests.conftest import MakeSale

ORDER = (7, "1771063530000-0")
# Of one order under the tests' secret key: what was told once must go on finding it.
CODE = "HFKG-11BH"


def fill_codes() -> None:
    import_module("sales.migrations.0012_fill_order_codes").fill(apps, SimpleNamespace(connection=connection))


def buy(sale: Sale, user_id: str) -> str:
    order_id = asyncio.run(purchases.buy(sale.id, user_id)).order_id
    while not Order.objects.filter(order_id=order_id).exists():
        orders.run_once(orders.consumer_name())
    return order_id


# As text


@pytest.mark.pure
def test_a_code_stays_the_same_for_ever():
    assert order_codes.make(*ORDER) == CODE


@pytest.mark.pure
def test_a_code_is_eight_characters_of_crockfords_alphabet():
    codes = {order_codes.make(7, f"1771063530000-{number}") for number in range(2_000)}

    assert all(re.fullmatch("[0-9A-HJKMNP-TV-Z]{4}-[0-9A-HJKMNP-TV-Z]{4}", code) for code in codes)
    assert len(codes) == 2_000
    assert {character for code in codes for character in code} == {*order_codes.ALPHABET, "-"}


@pytest.mark.pure
def test_sale_order_and_secret_key_each_make_another_code(settings: Settings):
    codes = [order_codes.make(7, "1-0"), order_codes.make(8, "1-0"), order_codes.make(7, "1-1")]
    settings.SECRET_KEY = "another"

    assert len({*codes, order_codes.make(7, "1-0")}) == 4


@pytest.mark.pure
@pytest.mark.parametrize(
    "typed",
    [
        "K1QX-201P",
        "k1qx-201p",
        "K1QX201P",
        " k1qx 201p ",
        "kIqX–2olp",
        "KLQX—2Oip",
        "K1QX.201P",
        "Ｋ１ＱＸ－２０１Ｐ",
        "K1QX-201P.",
    ],
)
def test_every_way_to_type_a_code_is_the_same_code(typed: str):
    assert order_codes.read(typed) == "K1QX-201P"


@pytest.mark.pure
@pytest.mark.parametrize(
    "typed",
    ["", " ", "-", "K1QX-201", "K1QX-201PP", "U1QX-201P", "K1QX-201é", "K1QX-201P" * 1000, "\0", "1771063530000-0"],
)
def test_invalid_codes_read_as_empty(typed: str):
    assert order_codes.read(typed) == ""


@pytest.mark.pure
def test_a_code_fits_under_every_secret_key_and_as_stored(settings: Settings):
    earlier = settings.SECRET_KEY
    settings.SECRET_KEY = "another"
    now = order_codes.make(*ORDER)

    assert not order_codes.fits(CODE, *ORDER, "")
    assert order_codes.fits(CODE, *ORDER, CODE)
    assert order_codes.fits(now, *ORDER, CODE)
    settings.SECRET_KEY_FALLBACKS = ["unused", earlier]
    assert order_codes.fits(CODE, *ORDER, "")
    assert not order_codes.fits("0000-0000", *ORDER, "")


# In SQL


def test_the_order_writer_stores_the_code(open_sale: Sale):
    order_id = buy(open_sale, "ada")

    assert Order.objects.get().order_code == order_codes.make(open_sale.id, order_id)


def test_restoring_and_archiving_keep_a_code_of_an_earlier_key(make_sale: MakeSale, settings: Settings):
    sale = make_sale()
    code = order_codes.make(sale.id, buy(sale, "ada"))
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "another", [settings.SECRET_KEY]

    restoring.restore(sale)
    Sale.objects.update(ends_at=timezone.now())
    publishing.publish(Sale.objects.get())
    archiving.archive(Sale.objects.get())

    assert Order.objects.get().order_code == code


def test_orders_of_the_release_before_get_their_codes(open_sale: Sale, monkeypatch: pytest.MonkeyPatch):
    migration = import_module("sales.migrations.0012_fill_order_codes")
    monkeypatch.setattr(migration, "PAGE", 3)
    order_ids = [buy(open_sale, f"shopper-{number}") for number in range(7)]
    Order.objects.exclude(order_id=order_ids[4]).update(order_code="")
    Order.objects.filter(order_id=order_ids[4]).update(order_code="KEPT-KEPT")

    fill_codes()
    fill_codes()

    made = {order_id: order_codes.make(open_sale.id, order_id) for order_id in order_ids}
    assert dict(Order.objects.values_list("order_id", "order_code")) == made | {order_ids[4]: "KEPT-KEPT"}


def test_the_writer_of_the_release_before_can_go_on(open_sale: Sale):
    table = Order._meta.db_table
    columns = "sale_id, order_id, user_id, purchased_at, remaining_stock, key_digest"
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {table} ({columns}) VALUES (%s, '1-0', 'ada', '2026-02-14', 1, '')", [open_sale.id]
        )

    assert Order.objects.get().order_code == ""


# In the admin


@pytest.mark.usefixtures("static_files")
def test_an_order_is_found_by_any_spelling_of_its_code(client: Client, open_sale: Sale):
    client.force_login(User.objects.create_superuser("viewer"))
    code = order_codes.make(open_sale.id, buy(open_sale, "ada@example.com"))
    buy(open_sale, "bob@example.com")

    for typed in (code, code.lower().replace("-", ""), code.replace("-", " ")):
        page = client.get("/admin/sales/order/", {"q": typed}).content.decode()
        assert code in page
        assert "ada@example.com" in page
        assert "bob@example.com" not in page
    assert (
        code
        in client.get(f"/admin/sales/order/{Order.objects.get(user_id='ada@example.com').pk}/change/").content.decode()
    )


@pytest.mark.usefixtures("static_files")
def test_a_name_like_a_code_is_found_by_name(client: Client, open_sale: Sale):
    client.force_login(User.objects.create_superuser("viewer"))
    buy(open_sale, "ada12345")

    assert order_codes.read("ada12345")
    assert "1 order" in client.get("/admin/sales/order/", {"q": "ada12345"}).content.decode()


@pytest.mark.skipif(connection.vendor != "sqlite", reason="PostgreSQL reads small tables whole")
def test_looking_for_a_code_reads_its_index(open_sale: Sale):
    plan = Order.objects.filter(order_code=CODE).order_by().explain()

    assert "order_codes" in plan
