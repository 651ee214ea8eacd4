"""No command keeps Redis from the purchases for long, however large a sale is: none takes or returns many members."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from sales import (
    archiving,
    attempt_counts,
    cancelling,
    continuity,
    directory_mirror,
    invitations,
    invited_mirror,
    orders,
    publishing,
    restoring,
    store,
)
from sales.audit import audit, repair
from sales.models import Identity, Invitation, Order, Sale
from sales.paging import AT_ONCE
from tests.conftest import MakeSale
from tests.traffic import commands

pytestmark = pytest.mark.django_db(transaction=True)

SHOPPERS = 3 * AT_ONCE + 1
# A member takes two words at most, as where purchases are put back; and a command has some words before them.
MOST_WORDS = 2 * AT_ONCE + 40
# What returns everything that a key holds. A sale's configuration is short, and so is a hash of lines or of workers.
WHOLE = {"HGETALL", "HKEYS", "HVALS", "SMEMBERS", "LRANGE"}
SHORT = (":config", store.DIRECTORY, store.REHEARSALS, store.WORKERS)


@pytest.fixture
def large_sale(make_sale: MakeSale, monkeypatch: pytest.MonkeyPatch) -> Sale:
    """All have bought, with a key each, and are invited; each worker's counts wait for the order writer."""
    monkeypatch.setattr(orders._new, "__defaults__", (1,))  # it waits for no further purchases
    sale = make_sale(stock=SHOPPERS, identity=Identity.INVITED)
    names = [f"shopper-{number}" for number in range(SHOPPERS)]
    Invitation.objects.bulk_create(Invitation(sale=sale, list_number=0, user_id=name) for name in names)
    rows = [
        orders.row(sale.id, name, f"{1_700_000_000_000 + number}-0", SHOPPERS - number - 1, f"key-{number}")
        for number, name in enumerate(names)
    ]
    Order.objects.bulk_create(rows)
    pipeline = store.pipeline(store.key(sale.id, "orders"), transaction=False)
    for row in rows:
        fields = {"user_id": row.user_id, "remaining_stock": row.remaining_stock, "key_digest": row.key_digest}
        pipeline.xadd(store.key(sale.id, "orders"), fields, id=row.order_id)
        pipeline.hset(store.key(sale.id, "purchases"), row.user_id, f"{row.order_id} 1 {row.key_digest}")
        pipeline.sadd(store.key(sale.id, "keys"), row.key_digest)
    count = '{"outcomes": {"sold_out": 1}, "latencies": [], "remaining_stock": 0}'
    for second in range(SHOPPERS):
        pipeline.hset(store.key(sale.id, "attempts"), f"{second} worker", count)
    pipeline.execute()
    publishing.publish(sale)
    invited_mirror.mirror(sale)
    return sale


def cancel_all(sale: Sale) -> None:
    sale.orders.update(cancelled_at=timezone.now(), cancellation_due=True)
    cancelling.enforce(sale)


def archive(sale: Sale) -> None:
    sale.starts_at, sale.ends_at = timezone.now() - timedelta(2), timezone.now() - timedelta(1)
    sale.save()
    publishing.publish(sale)
    archiving.archive(sale)


def restore(sale: Sale) -> None:
    store.client().flushall()
    restoring.restore(sale)


def write_orders(sale: Sale) -> None:
    while orders.run_once(orders.consumer_name()):
        pass
    orders.tidy()
    attempt_counts.store_counts()


def drain(sale: Sale) -> None:
    orders.drain(sale)


def look(sale: Sale) -> None:
    assert not audit(sale).drift
    assert continuity.confirm(sale.id, store.run_id_blocking()) == ""
    assert len(attempt_counts.in_redis(sale)) == SHOPPERS


def mend(sale: Sale) -> None:
    sale.orders.all().delete()
    repair(sale)


def change_list(sale: Sale) -> None:
    names = [f"new-{number}" for number in range(SHOPPERS)]
    invitations.replace(sale, names, User.objects.create_user("otto"))
    invited_mirror.mirror(sale)


def list_many(sale: Sale) -> None:
    now = timezone.now()
    Sale.objects.bulk_create(
        Sale(name="W", slug=f"w-{number}", total_stock=1, ends_at=now + timedelta(1)) for number in range(SHOPPERS)
    )
    directory_mirror.catch_up()
    Sale.objects.exclude(pk=sale.pk).delete()
    directory_mirror.catch_up()


@pytest.mark.parametrize(
    "work", [cancel_all, archive, restore, write_orders, drain, look, mend, change_list, list_many]
)
def test_no_command_takes_or_asks_for_many_members(large_sale: Sale, work: Callable[[Sale], None]):
    with commands() as ran:
        work(large_sale)

    assert ran
    assert max(len(words) for words in ran) <= MOST_WORDS
    for name, *words in ran:
        assert name.upper() not in WHOLE or words[0].endswith(SHORT), (name, words)
        upper = [word.upper() for word in words]
        if "COUNT" in upper:
            assert int(words[upper.index("COUNT") + 1]) <= AT_ONCE, (name, words)


def test_control_a_command_with_many_members_is_seen(large_sale: Sale):
    with commands() as ran:
        store.client().hmget(store.key(large_sale.id, "purchases"), [str(number) for number in range(MOST_WORDS)])

    assert max(len(words) for words in ran) > MOST_WORDS
