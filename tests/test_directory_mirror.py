"""The directory is what SQL says: while it is rebuilt, whatever becomes of a line, and at little cost."""

import logging
import threading
from collections.abc import Callable
from contextlib import nullcontext
from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.db import connection
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from sales import directory_mirror, publishing, store
from sales.clock import to_ms
from sales.management.commands import write_orders
from sales.models import Sale
from tests.conftest import MakeSale
from tests.traffic import writes

pytestmark = pytest.mark.django_db(transaction=True)

# Who changes a sale meanwhile has so much time to come as far as the lock; without a lock, all the time that it takes.
HELD_UP_SECONDS = 0.5


def directory() -> dict[str, str]:
    return {slug.decode(): line.decode() for slug, line in store.client().hgetall(store.DIRECTORY).items()}


def in_sql() -> dict[str, str]:
    return {sale.slug: directory_mirror.line_of(sale) for sale in Sale.objects.filter(published=True)}


def rebuild() -> None:
    directory_mirror.list_all(store.run_id_blocking())


# While it is rebuilt


def publish_another() -> None:
    ends_at = timezone.now() + timedelta(hours=1)
    publishing.publish(Sale.objects.create(name="Another", total_stock=1, ends_at=ends_at))


def extend() -> None:
    sale = Sale.objects.get(name="Limited Edition Widget")
    sale.ends_at += timedelta(hours=1)
    sale.save()
    publishing.publish(sale)


def hide() -> None:
    sale = Sale.objects.get(name="Limited Edition Widget")
    sale.published = False
    sale.save()
    publishing.publish(sale)


@pytest.fixture
def rebuilt_while(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Rebuild the directory, and change a sale in another thread between what is read for that and what is written."""

    def run(change: Callable[[], None], meanwhile_seconds: float = HELD_UP_SECONDS) -> None:
        failures: list[Exception] = []

        def work() -> None:
            try:
                change()
            except Exception as error:
                failures.append(error)
            finally:
                connection.close()

        thread, original = threading.Thread(target=work), directory_mirror._difference

        def read_then_wait() -> directory_mirror.Difference:
            found = original()
            if not thread.ident:
                thread.start()
                thread.join(meanwhile_seconds)
            return found

        with monkeypatch.context() as patch:
            patch.setattr(directory_mirror, "_difference", read_then_wait)
            rebuild()
        thread.join()
        assert failures == []

    return run


@pytest.mark.parametrize("change", [publish_another, extend, hide])
def test_changes_during_a_rebuild_are_in_the_directory(
    open_sale: Sale, rebuilt_while: Callable[..., None], change: Callable[[], None]
):
    open_sale.slug = "was-elsewhere"  # so that there is something to rebuild
    open_sale.save()

    rebuilt_while(change)

    assert directory() == in_sql()


def wipe_and_write() -> directory_mirror.Difference:
    """Rebuild the directory as if nobody else changed it."""
    lines = in_sql()
    directory_mirror._difference()
    store.client().delete(store.DIRECTORY)
    if lines:
        store.client().hset(store.DIRECTORY, mapping=lines)
    return directory_mirror.Difference({}, [])


@pytest.mark.parametrize("is_wiped", [False, True])
def test_control_without_the_lock_the_race_is_lost(
    open_sale: Sale,
    rebuilt_while: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    is_wiped: bool,
):
    monkeypatch.setattr(directory_mirror, "transaction", SimpleNamespace(atomic=nullcontext))
    monkeypatch.setattr(directory_mirror, "_lock", lambda: None)
    if is_wiped:
        monkeypatch.setattr(directory_mirror, "_mend", wipe_and_write)
    else:
        store.client().hdel(store.DIRECTORY, open_sale.slug)

    rebuilt_while(publish_another if is_wiped else extend, meanwhile_seconds=60)

    assert directory() != in_sql()


# Whatever becomes of a line


def missing(sale: Sale) -> None:
    store.client().hdel(store.DIRECTORY, sale.slug)


def too_many(sale: Sale) -> None:
    store.client().hset(store.DIRECTORY, "of-nobody", "99 0 1")


def at_another_address(sale: Sale) -> None:
    store.client().hset(store.DIRECTORY, "an-older-address", directory_mirror.line_of(sale))


def of_another_sale(sale: Sale) -> None:
    store.client().hset(store.DIRECTORY, sale.slug, f"{sale.id + 1} 0 1")


def no_line_at_all(sale: Sale) -> None:
    store.client().hset(store.DIRECTORY, sale.slug, b"\xff")


def all_lines_gone(sale: Sale) -> None:
    store.client().delete(store.DIRECTORY)


@pytest.mark.parametrize(
    "damage", [missing, too_many, at_another_address, of_another_sale, no_line_at_all, all_lines_gone]
)
def test_the_order_writer_mends_a_directory_that_differs(
    make_sale: MakeSale, damage: Callable[[Sale], None], caplog: pytest.LogCaptureFixture
):
    first, _, _ = make_sale(name="one"), make_sale(name="two"), make_sale(name="three", published=False)
    damage(first)
    caplog.set_level(logging.WARNING)

    writer = write_orders.Command()
    writer.tidied_at = 0.0
    writer._tidy()

    assert directory() == in_sql()
    assert "the directory differed from SQL" in caplog.text


def test_many_lines_are_mended(transactional_db: None):
    make_thousand()
    for number in range(1_000):
        store.client().hset(store.DIRECTORY, f"of-nobody-{number}", "99 0 1")

    directory_mirror.catch_up()

    assert directory() == in_sql()


# At little cost


def make_thousand() -> list[Sale]:
    now = timezone.now()
    ends_at = now + timedelta(hours=1)
    return Sale.objects.bulk_create(
        Sale(name=f"Widget {number}", slug=f"widget-{number}", total_stock=1, starts_at=now, ends_at=ends_at)
        for number in range(1_000)
    )


def test_a_thousand_sales_take_one_query_and_one_command(
    transactional_db: None, django_assert_num_queries: DjangoAssertNumQueries
):
    make_thousand()
    directory_mirror.catch_up()

    with django_assert_num_queries(1), writes() as written:
        directory_mirror.catch_up()

    assert len(written) == 1
    assert len(directory()) == 1_000


def test_a_line_is_written_as_its_sale_has_it(open_sale: Sale):
    line = f"{open_sale.id} {to_ms(open_sale.starts_at)} {to_ms(open_sale.ends_at)}"

    assert directory() == {open_sale.slug: line}
