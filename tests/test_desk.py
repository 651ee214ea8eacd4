"""The steps of the operator's desk, as an operator takes them, and what shoppers notice of each."""

import asyncio
import html
import threading
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from sales import publishing, purchases, store
from sales.desk import mirroring, steps
from sales.models import MOST_UNITS, Sale
from tests.conftest import MakeSale
from tests.redis_servers import wait_until
from tests.servers import RedisServer, WebServer, of_both_workers
from tests.writers import OrderWriter

pytestmark = [pytest.mark.usefixtures("static_files"), pytest.mark.django_db(transaction=True)]

DATETIME_LOCAL = "%Y-%m-%dT%H:%M"


@pytest.fixture
def operator(transactional_db: None) -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("olga"))
    return client


def address(sale: Sale, step: str) -> str:
    return f"/admin/sales/sale/{sale.id}/{step}-sale/"


def ask(operator: Client, sale: Sale, step: str, **values: str | int) -> str:
    return html.unescape(operator.get(address(sale, step), values).content.decode())


def take(operator: Client, sale: Sale, step: str, **values: object) -> str:
    """Take a step, and return the page that the operator then reads."""
    page = html.unescape(operator.post(address(sale, step), values, follow=True).content.decode())
    sale.refresh_from_db()
    return page


def buy(sale: Sale, user_id: str) -> str:
    return asyncio.run(purchases.buy(sale.id, user_id)).outcome


def history(sale: Sale) -> list[str]:
    entries = LogEntry.objects.filter(object_id=str(sale.id)).order_by("id")
    return [f"{entry.user}: {entry.change_message}" for entry in entries]


def test_pausing_refuses_and_resuming_sells_again(operator: Client, open_sale: Sale):
    paused = take(operator, open_sale, "pause")
    while_paused = buy(open_sale, "ada")
    resumed = take(operator, open_sale, "resume")

    assert "is paused (Paused: selling → paused). It is in force: 0 sold, 10 remaining." in paused
    assert "Paused, ends in" in paused
    assert (while_paused, buy(open_sale, "ada")) == ("paused", "purchased")
    assert "On sale now, ends in" in resumed
    assert history(open_sale) == ["olga: Pause. Paused: selling → paused.", "olga: Resume. Paused: paused → selling."]


def test_ending_ends_at_once_and_extending_opens_again(operator: Client, open_sale: Sale):
    take(operator, open_sale, "end")
    when_ended = buy(open_sale, "ada")
    ended_at = open_sale.ends_at
    before = timezone.now()
    take(operator, open_sale, "extend", minutes=5)

    assert (when_ended, buy(open_sale, "ada")) == ("ended", "purchased")
    assert ended_at <= before <= open_sale.ends_at - timedelta(minutes=5) <= timezone.now()
    assert len(history(open_sale)) == 2
    assert history(open_sale)[0].startswith("olga: End now. End: ")


def test_extending_counts_from_the_end(operator: Client, open_sale: Sale):
    ends_at = open_sale.ends_at

    take(operator, open_sale, "extend", minutes=10)

    assert open_sale.ends_at == ends_at + timedelta(minutes=10)
    assert publishing.standing(open_sale).is_mirrored(open_sale)


def test_extending_to_a_time(operator: Client, open_sale: Sale):
    until = (timezone.now() + timedelta(days=2)).replace(second=0, microsecond=0)

    take(operator, open_sale, "extend", until=until.strftime(DATETIME_LOCAL))

    assert open_sale.ends_at == until


def test_adding_stock_sells_again_what_was_sold_out(operator: Client, make_sale: MakeSale):
    sale = make_sale(stock=1)
    before = [buy(sale, "ada"), buy(sale, "bob")]

    page = take(operator, sale, "add-stock", units=2)

    assert before == ["purchased", "sold_out"]
    assert "is given more stock (Total stock: 1 → 3). It is in force: 1 sold, 2 remaining." in page
    assert buy(sale, "bob") == "purchased"
    assert history(sale) == ["olga: Add stock. Total stock: 1 → 3."]


def test_publishing_shows_and_unpublishing_hides(operator: Client, make_sale: MakeSale):
    sale = make_sale(published=False)

    published = take(operator, sale, "publish")
    is_listed = store.client().hexists(store.DIRECTORY, sale.slug)
    unpublished = take(operator, sale, "unpublish")

    assert "View on site" in published
    assert is_listed
    assert not store.client().hexists(store.DIRECTORY, sale.slug)
    assert "It is hidden from shoppers." in unpublished
    assert "Hidden from shoppers" in unpublished
    assert history(sale)[0] == "olga: Publish. Published: hidden from shoppers → shown to shoppers."


@pytest.mark.parametrize(
    ("step", "values", "then"),
    [
        ("pause", {}, "<td>selling</td> <td> <strong>paused</strong>"),
        ("add-stock", {"units": 5}, "<td>10</td> <td> <strong>15</strong>"),
        ("extend", {"until": "2031-05-01T10:00"}, "<strong>1 May 2031, 10:00:00 UTC</strong>"),
        ("end", {}, "<strong>{today}, "),
        ("unpublish", {}, "<td>shown to shoppers</td> <td> <strong>hidden from shoppers</strong>"),
    ],
)
def test_the_confirmation_shows_old_and_new_and_changes_nothing(
    operator: Client, open_sale: Sale, step: str, values: dict[str, str | int], then: str
):
    config = publishing.standing(open_sale).config

    today = f"{timezone.now():%-d %b %Y}"
    page = ask(operator, open_sale, step, **values)
    if today not in page:  # it became another day
        today = f"{timezone.now():%-d %b %Y}"

    assert then.replace("{today}", today) in " ".join(page.split())
    assert f"Yes, {steps.STEPS[step].verb.lower()}" in page
    assert publishing.standing(open_sale).config == config
    assert history(open_sale) == []


@pytest.mark.parametrize(
    ("step", "values", "words"),
    [
        ("resume", {}, "This sale is not paused."),
        ("publish", {}, "Shoppers see this sale already."),
        ("add-stock", {"units": "0"}, "Add one unit at least."),
        ("add-stock", {"units": ""}, "Say how many units to add."),
        ("add-stock", {"units": MOST_UNITS}, f"Ensure this value is less than or equal to {MOST_UNITS}."),
        ("extend", {"minutes": ""}, "Write either how many minutes longer, or the new end."),
        ("extend", {"minutes": "5", "until": "2031-01-01T10:00"}, "Write either how many minutes longer"),
        ("extend", {"until": "2020-01-01T10:00"}, "To end the sale earlier, choose “End now”."),
    ],
)
def test_senseless_values_are_refused_with_an_explanation(
    operator: Client, open_sale: Sale, step: str, values: dict[str, str], words: str
):
    before = Sale.objects.values().get()

    pages = ask(operator, open_sale, step, **values), take(operator, open_sale, step, **values)

    assert all(words in page for page in pages)
    assert Sale.objects.values().get() == before
    assert history(open_sale) == []


def test_steps_that_come_too_late_or_too_early_are_refused(operator: Client, make_sale: MakeSale):
    upcoming, ended = make_sale(name="early", starts_in=600), make_sale(name="late", starts_in=-600, lasts=60)
    hidden = make_sale(name="hidden", starts_in=-600, lasts=60, published=False)

    assert "This sale has not started." in take(operator, upcoming, "end")
    assert "This sale has ended already, at" in take(operator, ended, "end")
    assert "there is nothing to pause" in take(operator, ended, "pause")
    assert "Give it a new start and end first" in take(operator, hidden, "publish")
    assert "hidden from shoppers already" in take(operator, hidden, "unpublish")
    assert "Starts in" in ask(operator, upcoming, "pause")
    assert operator.get(address(upcoming, "explode")).status_code == 404
    assert operator.get("/admin/sales/sale/4711/pause-sale/").status_code == 404


def test_the_sales_page_offers_the_steps_that_make_sense(operator: Client, make_sale: MakeSale):
    sales = {
        "open": make_sale(name="open"),
        "paused": make_sale(name="paused", paused=True),
        "ended": make_sale(name="ended", starts_in=-600, lasts=60),
        "upcoming": make_sale(name="upcoming", starts_in=600),
        "hidden": make_sale(name="hidden", published=False),
    }

    offered = {
        name: [step.name for step in operator.get(f"/admin/sales/sale/{sale.id}/change/").context["steps"]]
        for name, sale in sales.items()
    }

    assert offered == {
        "open": ["pause", "extend", "add-stock", "end", "unpublish"],
        "paused": ["resume", "extend", "add-stock", "end", "unpublish"],
        "ended": ["extend", "add-stock", "unpublish", "archive"],
        "upcoming": ["pause", "extend", "add-stock", "unpublish"],
        "hidden": ["publish"],
    }


def test_a_step_from_another_site_is_refused(open_sale: Sale):
    client = Client(enforce_csrf_checks=True)
    client.force_login(User.objects.create_superuser("olga"))

    assert client.post(address(open_sale, "pause")).status_code == 403
    assert not Sale.objects.get().paused


@pytest.mark.parametrize(
    ("step", "values", "fields"),
    [
        ("pause", {}, {"status": "paused"}),
        ("resume", {}, {"status": "active"}),
        ("extend", {"until": "2126-02-14T10:00"}, {"endTime": "2126-02-14T10:00:00Z"}),
        ("add-stock", {"units": 5}, {"totalStock": 15, "remainingStock": 15}),
        ("end", {}, {"status": "ended"}),
    ],
)
def test_a_step_takes_effect_everywhere_within_a_second(
    operator: Client,
    server: WebServer,
    make_sale: MakeSale,
    seen: Callable[[], None],
    step: str,
    values: dict[str, int],
    fields: dict[str, object],
):
    sale = make_sale(paused=step == "resume")
    seen()
    connections = of_both_workers(server)
    path = f"/api/sales/{sale.slug}/status"
    assert not any(fields.items() <= connection.get(path).json().items() for connection in connections)

    take(operator, sale, step, **values)
    wait_until(
        lambda: all(fields.items() <= connection.get(path).json().items() for connection in connections),
        "it is in force on both workers",
    )

    for connection in connections:
        connection.close()


def test_without_redis_a_step_says_so_and_takes_effect_later(
    operator: Client, redis_server: RedisServer, open_sale: Sale
):
    redis_server.kill()
    try:
        page = take(operator, open_sale, "pause")
    finally:
        redis_server.start()
    in_redis_meanwhile = publishing.standing(open_sale).config["paused"]

    assert "It is saved, but not in force: Redis cannot be reached." in page
    assert "it takes effect when Redis is back" in page
    assert (open_sale.paused, open_sale.mirror_due, in_redis_meanwhile) == (True, True, "0")
    publishing.catch_up()
    open_sale.refresh_from_db()
    assert publishing.standing(open_sale).config["paused"] == "1"
    assert not open_sale.mirror_due
    assert history(open_sale) == ["olga: Pause. Paused: selling → paused."]


def test_a_total_below_sales_reverts_to_the_current_one(open_sale: Sale):
    for user_id in ("ada", "bob"):
        buy(open_sale, user_id)
    Sale.objects.filter(pk=open_sale.pk).update(total_stock=1, paused=True, mirror_due=True)

    for _ in range(2):
        publishing.catch_up()

    open_sale.refresh_from_db()
    assert (open_sale.total_stock, open_sale.mirror_due) == (10, False)
    assert publishing.standing(open_sale).is_mirrored(open_sale)


def test_a_change_by_a_killed_process_is_mirrored(open_sale: Sale):
    olga = User.objects.create_superuser("olga")
    steps.take(open_sale, steps.STEPS["pause"], {}, olga)  # and is killed before it tells Redis

    publishing.catch_up()

    assert buy(open_sale, "ada") == "paused"


def test_the_order_writer_sees_to_it(open_sale: Sale):
    olga = User.objects.create_superuser("olga")
    with OrderWriter() as writer:
        writer.wait_until_it_reads(open_sale)
        steps.take(open_sale, steps.STEPS["pause"], {}, olga)

        wait_until(lambda: publishing.standing(open_sale).config["paused"] == "1", "Redis has it")


def test_a_lost_sale_waits_for_its_restoration(open_sale: Sale):
    store.client().flushall()
    Sale.objects.filter(pk=open_sale.pk).update(mirror_due=True)

    assert publishing.catch_up() == 0
    assert Sale.objects.get().mirror_due


def together(*calls: Callable[[], object]) -> None:
    barrier = threading.Barrier(len(calls))

    def run(call: Callable[[], object]) -> None:
        from django.db import connection

        barrier.wait()
        try:
            call()
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_simultaneous_additions_of_stock_both_take_effect(open_sale: Sale):
    olga = User.objects.create_superuser("olga")

    def add_often() -> None:
        for _ in range(10):
            sale = Sale.objects.get(pk=open_sale.pk)
            steps.take(sale, steps.STEPS["add-stock"], {"units": 1}, olga)
            mirroring.mirror(sale)

    together(add_often, add_often)

    open_sale.refresh_from_db()
    assert open_sale.total_stock == 30
    assert publishing.standing(open_sale).remaining_stock == 30
    assert len(history(open_sale)) == 20


def test_control_without_the_lock_one_of_two_operators_is_lost(open_sale: Sale):
    """The same, over a twin that adds to the total that it has read earlier."""
    both_have_read = threading.Barrier(2)

    def add() -> None:
        sale = Sale.objects.get(pk=open_sale.pk)
        both_have_read.wait()
        sale.total_stock += 1
        sale.save(update_fields=["total_stock"])

    together(add, add)

    open_sale.refresh_from_db()
    assert open_sale.total_stock == 11
