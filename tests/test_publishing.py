"""The mirror: what operators configure is what Redis sells, and nothing is ever reset."""

import asyncio
import threading
from datetime import timedelta
from decimal import Decimal

import pytest
import redis
from django.conf import settings

from sales import continuity, publishing, purchases, store
from sales.models import Order, Sale
from sales.orders import consumer_name, run_once
from tests.conftest import MakeSale
from tests.servers import RedisServer


def buy(sale: Sale, *user_ids: str) -> list[str]:
    async def all_of_them() -> list[str]:
        return [(await purchases.buy(sale.id, user_id)).outcome for user_id in user_ids]

    return asyncio.run(all_of_them())


def change(sale: Sale, **fields: object) -> None:
    Sale.objects.filter(pk=sale.pk).update(**fields)


def test_a_sale_is_mirrored(make_sale: MakeSale):
    sale = make_sale(stock=7, name="Widget", description="Blue", display_price=Decimal("9.50"), currency="USD")

    config = publishing.standing(sale).config
    assert config == {
        "slug": "widget",
        "product_name": "Widget",
        "description": "Blue",
        "price": "9.50 USD",
        "image_url": "",
        "image_srcset": "",
        "image_width": "",
        "image_height": "",
        "starts_ms": str(round(sale.starts_at.timestamp() * 1000)),
        "ends_ms": str(round(sale.ends_at.timestamp() * 1000)),
        "paused": "0",
        "published": "1",
        "identity": "open",
        "one_mailbox": "0",
        "key_number": "1",
        "total_stock": "7",
        "epoch": sale.epoch,
        "run_id": store.run_id_blocking(),
    }
    assert publishing.standing(sale).is_mirrored(sale)


def test_publishing_twice_does_not_reset_the_stock(open_sale: Sale):
    buy(open_sale, "ada", "bob")

    for _ in range(2):
        standing = publishing.publish(open_sale)

    assert (standing.sold, standing.remaining_stock) == (2, 8)


@pytest.mark.parametrize(("total", "remaining"), [(15, 13), (5, 3), (2, 0)])
def test_a_new_total_is_applied_as_a_delta(open_sale: Sale, total: int, remaining: int):
    buy(open_sale, "ada", "bob")
    change(open_sale, total_stock=total)

    standing = publishing.publish(open_sale)

    assert (standing.sold, standing.remaining_stock) == (2, remaining)


def test_more_stock_reopens_a_sale_that_was_sold_out(make_sale: MakeSale):
    sale = make_sale(stock=1)
    assert buy(sale, "ada", "bob") == ["purchased", "sold_out"]
    change(sale, total_stock=2)

    publishing.publish(sale)

    assert buy(sale, "bob", "eve") == ["purchased", "sold_out"]


def test_a_total_below_the_units_sold_changes_nothing(open_sale: Sale):
    buy(open_sale, "ada", "bob")
    change(open_sale, total_stock=1)

    with pytest.raises(publishing.BelowSold, match="2 units are sold already: set the total stock to 2 or more"):
        publishing.publish(open_sale)

    assert publishing.standing(open_sale).remaining_stock == 8
    assert publishing.standing(open_sale).config["total_stock"] == "10"


def test_a_redis_that_lost_purchases_is_not_sold_from_again(open_sale: Sale):
    buy(open_sale, "ada", "bob")
    run_once(consumer_name())
    store.client().flushall()

    with pytest.raises(publishing.Lost, match="Redis has lost data"):
        publishing.publish(open_sale)

    assert Order.objects.count() == 2
    assert publishing.standing(open_sale).config == {}


def test_a_restart_of_redis_keeps_everything(open_sale: Sale, redis_server: RedisServer):
    buy(open_sale, "ada")

    redis_server.kill()
    redis_server.start()

    assert publishing.standing(open_sale).remaining_stock == 9
    assert publishing.publish(open_sale).remaining_stock == 9
    assert continuity.confirm(open_sale.id, store.run_id_blocking()) == ""
    assert buy(open_sale, "ada", "bob") == ["already_purchased", "purchased"]


def test_an_unpublished_sale_takes_no_purchase_and_keeps_its_own(open_sale: Sale):
    buy(open_sale, "ada")
    change(open_sale, published=False)

    publishing.publish(open_sale)

    with pytest.raises(store.Unavailable, match="NOTMIRRORED"):
        buy(open_sale, "bob")
    assert not store.client().hexists(store.DIRECTORY, open_sale.slug)
    change(open_sale, published=True)
    publishing.publish(open_sale)
    assert buy(open_sale, "ada", "bob") == ["already_purchased", "purchased"]


def test_pausing_and_moving_the_window_take_effect(open_sale: Sale):
    change(open_sale, paused=True)
    publishing.publish(open_sale)
    assert buy(open_sale, "ada") == ["paused"]

    change(open_sale, paused=False, ends_at=open_sale.starts_at + timedelta(seconds=1))
    publishing.publish(open_sale)
    assert buy(open_sale, "ada") == ["ended"]


def test_all_published_sales_are_mirrored(make_sale: MakeSale):
    first, second, hidden = make_sale(name="one"), make_sale(name="two"), make_sale(name="three", published=False)
    store.client().flushall()

    Sale.objects.update(first_published_at=None)

    results = publishing.publish_all()

    assert {sale.slug for sale, _ in results} == {first.slug, second.slug, hidden.slug}
    assert set(store.client().hkeys(store.DIRECTORY)) == {b"one", b"two"}
    assert publishing.standing(hidden).config == {}


def test_publishing_all_closes_what_was_unpublished_while_redis_was_away(open_sale: Sale):
    change(open_sale, published=False)

    publishing.publish_all()

    with pytest.raises(store.Unavailable, match="NOTMIRRORED"):
        buy(open_sale, "ada")
    assert not store.client().hlen(store.DIRECTORY)


def test_a_sale_stays_listed_while_it_is_published(open_sale: Sale):
    is_over, has_read, found = threading.Event(), threading.Event(), set()

    def read() -> None:
        client = redis.Redis.from_url(settings.REDIS_URL)
        while not is_over.is_set():
            found.add(client.hexists(store.DIRECTORY, open_sale.slug))
            has_read.set()

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(30):
        has_read.clear()
        publishing.publish(open_sale)
        assert has_read.wait(60)
    is_over.set()
    reader.join()

    assert found == {True}


def test_another_address_replaces_the_old_one(open_sale: Sale):
    change(open_sale, slug="another")

    publishing.publish(open_sale)

    assert store.client().hkeys(store.DIRECTORY) == [b"another"]


def test_a_lost_sale_without_orders_is_not_published_again(open_sale: Sale):
    store.client().flushall()

    with pytest.raises(publishing.Lost, match=f"restore_sale {open_sale.slug}"):
        publishing.publish(open_sale)

    assert store.client().hexists(store.DIRECTORY, open_sale.slug)


def test_another_databases_sale_of_the_same_number_is_left_alone(open_sale: Sale):
    buy(open_sale, "ada")
    change(open_sale, epoch="another", first_published_at=None)

    with pytest.raises(publishing.Lost):
        publishing.publish(open_sale)

    assert publishing.standing(open_sale).remaining_stock == 9
