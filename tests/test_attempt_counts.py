"""Counts of attempts on their way into SQL: nothing, twice, killed half way, and what does not belong there."""

from collections import Counter

import pytest
from django.core.management import call_command

from sales import attempt_counts, store
from sales.attempts import Tally
from sales.models import AttemptCount, Sale, ShopperCount
from tests.conftest import MakeSale
from tests.writers import OrderWriter


class Killed(BaseException):
    """Stands for SIGKILL: nothing in the code under test catches it."""


def tell(sale: Sale, second: int, worker: str = "host-1", **outcomes: int) -> None:
    """Write what a worker would write."""
    tally = Tally(outcomes=Counter(outcomes), remaining_stock=7)
    tally.latencies[3] = sum(outcomes.values())
    store.client().hset(store.key(sale.id, "attempts"), f"{second} {worker}", tally.as_json())


def met(sale: Sale, *user_ids: str) -> None:
    store.client().pfadd(store.key(sale.id, "shoppers"), *user_ids)


def waiting(sale: Sale) -> int:
    return store.client().hlen(store.key(sale.id, "attempts"))


def killed_at(monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """Run a writer that is killed as it comes to `step`."""

    def die(*args: object, **kwargs: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(step, die)
        with pytest.raises(Killed):
            attempt_counts.store_counts()


def test_counts_become_rows_and_leave_redis(open_sale: Sale):
    tell(open_sale, 100, purchased=2, sold_out=3)
    tell(open_sale, 100, "host-2", sold_out=1)

    assert attempt_counts.store_counts() == 2

    assert waiting(open_sale) == 0
    row, _ = AttemptCount.objects.all()
    assert (row.sale, row.second, row.worker, row.attempts) == (open_sale, 100, "host-1", 5)
    assert (row.outcomes, row.latencies[3], row.remaining_stock) == ({"purchased": 2, "sold_out": 3}, 5, 7)


@pytest.mark.pure
def test_no_sale_at_all(db: None):
    assert attempt_counts.store_counts() == 0


def test_no_attempt_at_all(open_sale: Sale):
    assert attempt_counts.store_counts() == 0

    assert (AttemptCount.objects.count(), ShopperCount.objects.count()) == (0, 0)


def test_a_count_that_comes_twice_is_one_row(open_sale: Sale):
    tell(open_sale, 100, purchased=2)
    attempt_counts.store_counts()
    tell(open_sale, 100, purchased=2)

    attempt_counts.store_counts()

    assert AttemptCount.objects.get().attempts == 2
    assert waiting(open_sale) == 0


@pytest.mark.parametrize("step", ["redis.client.Redis.hdel", "django.db.models.query.QuerySet.bulk_create"])
def test_a_writer_killed_half_way_loses_and_doubles_nothing(
    open_sale: Sale, monkeypatch: pytest.MonkeyPatch, step: str
):
    tell(open_sale, 100, purchased=2)
    killed_at(monkeypatch, step)
    assert waiting(open_sale) == 1

    attempt_counts.store_counts()

    assert AttemptCount.objects.get().attempts == 2
    assert waiting(open_sale) == 0


def test_a_count_is_seen_once_wherever_it_is(open_sale: Sale, monkeypatch: pytest.MonkeyPatch):
    tell(open_sale, 100, purchased=2)
    killed_at(monkeypatch, "redis.client.Redis.hdel")
    tell(open_sale, 101, purchased=1)

    found = list(attempt_counts.by_second(attempt_counts.since(open_sale, 100, attempt_counts.in_redis(open_sale))))

    assert [(second.second, second.attempts) for second in found] == [(100, 2), (101, 1)]


def test_malformed_counts_are_removed_and_valid_ones_stored(open_sale: Sale, caplog: pytest.LogCaptureFixture):
    for field, value in {"nonsense": "1", "1 host": "{}", "x host": '{"outcomes":{}}', "2 host": "[]"}.items():
        store.client().hset(store.key(open_sale.id, "attempts"), field, value)
    tell(open_sale, 100, purchased=2)

    assert attempt_counts.store_counts() == 1

    assert AttemptCount.objects.get().attempts == 2
    assert waiting(open_sale) == 0
    assert "is no count of attempts" in caplog.text


def test_counts_of_a_sale_unknown_to_sql_are_dropped(open_sale: Sale, monkeypatch: pytest.MonkeyPatch):
    tell(open_sale, 100, purchased=2)
    met(open_sale, "ada")
    monkeypatch.setattr(attempt_counts, "_is_there", lambda sale_id: False)

    attempt_counts.store_counts()

    assert (AttemptCount.objects.count(), ShopperCount.objects.count(), waiting(open_sale)) == (0, 0, 0)


def test_shoppers_are_kept_in_sql_and_counted_on(open_sale: Sale):
    met(open_sale, "ada", "bob")
    attempt_counts.store_counts()
    met(open_sale, "bob", "eve")

    attempt_counts.store_counts()

    assert ShopperCount.objects.get().about == 3


def test_shoppers_that_redis_has_lost_are_given_back(open_sale: Sale):
    met(open_sale, "ada", "bob")
    attempt_counts.store_counts()
    store.client().delete(store.key(open_sale.id, "shoppers"))
    met(open_sale, "bob", "eve")
    tell(open_sale, 100, sold_out=2)

    attempt_counts.store_counts()

    assert ShopperCount.objects.get().about == 3
    assert store.client().pfcount(store.key(open_sale.id, "shoppers")) == 3
    assert not store.client().exists(store.key(open_sale.id, "shoppers:restored"))


def test_a_hundred_thousand_shoppers_are_counted_to_two_percent(open_sale: Sale):
    for start in range(0, 100_000, 1_000):
        met(open_sale, *(f"shopper-{number}@example.com" for number in range(start, start + 1_000)))
    attempt_counts.store_counts()

    assert ShopperCount.objects.get().about == pytest.approx(100_000, rel=0.02)


@pytest.mark.django_db(transaction=True)  # the order writer, another process, reads SQL
def test_a_stopping_order_writer_stores_the_last_counts(make_sale: MakeSale):
    sale = make_sale()
    with OrderWriter() as writer:
        writer.wait_until_it_reads(sale)
        tell(sale, 100, purchased=1)
        met(sale, "ada")

    assert AttemptCount.objects.get().attempts == 1
    assert ShopperCount.objects.get().about == 1


def test_the_order_writer_keeps_the_counts_of_several_sales(make_sale: MakeSale):
    one, two = make_sale(name="one"), make_sale(name="two")
    tell(one, 100, purchased=1)
    tell(two, 100, purchased=2)
    met(two, "ada")

    call_command("write_orders", "--once")

    assert set(AttemptCount.objects.values_list("sale_id", "attempts")) == {(one.id, 1), (two.id, 2)}
    assert ShopperCount.objects.get().sale == two
