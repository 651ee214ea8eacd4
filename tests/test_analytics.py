"""The analytics of a sale: what became of it, from SQL alone."""

import csv
import tracemalloc
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from pytest_django import Settings

from sales import analytics, attempt_counts, histogram, store
from sales.desk import analytics_words
from sales.models import AttemptCount, Order, Sale, ShopperCount

pytestmark = [pytest.mark.usefixtures("static_files"), pytest.mark.django_db]

START = datetime(2026, 2, 14, 10, 0, tzinfo=UTC)
START_SECOND = int(START.timestamp())
LARGEST_GROWTH_BYTES = 4 * 1024 * 1024


@pytest.fixture
def viewer(db: None) -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("viewer"))
    return client


def past_sale(slug: str = "widget", stock: int = 4, *, days_ago: int = 0, name: str = "Widget") -> Sale:
    start = START - timedelta(days=days_ago)
    ends_at = start + timedelta(hours=1)
    return Sale.objects.create(
        name=name, slug=slug, total_stock=stock, starts_at=start, ends_at=ends_at, first_published_at=start
    )


def sell(sale: Sale, *after_seconds: float) -> None:
    """Write the orders of a sale, bought so long after its start."""
    for number, seconds in enumerate(after_seconds, 1):
        Order.objects.create(
            sale=sale,
            order_id=f"{number}-0",
            user_id=f"shopper-{number}",
            purchased_at=sale.starts_at + timedelta(seconds=seconds),
            remaining_stock=sale.total_stock - number,
        )


def attempt(sale: Sale, after_seconds: int, worker: str = "host-1", remaining: int | None = 0, **outcomes: int) -> None:
    latencies = [0] * histogram.BUCKETS
    latencies[4] = sum(outcomes.values())
    AttemptCount.objects.create(
        sale=sale,
        second=int(sale.starts_at.timestamp()) + after_seconds,
        worker=worker,
        attempts=sum(outcomes.values()),
        outcomes=outcomes,
        latencies=latencies,
        remaining_stock=remaining,
    )


@pytest.fixture
def sold_out() -> Sale:
    """Four units, sold within 12 seconds; eleven attempts."""
    sale = past_sale()
    sell(sale, 0.5, 0.9, 4, 12)
    attempt(sale, -2, not_started=1, remaining=4)
    attempt(sale, 0, purchased=2, remaining=2)
    attempt(sale, 4, purchased=1, already_purchased=1, remaining=1)
    attempt(sale, 12, purchased=1, sold_out=2)
    attempt(sale, 12, "host-2", sold_out=3)
    ShopperCount.objects.create(sale=sale, about=8, sketch=b"")
    return sale


def file(client: Client, sale: Sale, name: str) -> Any:
    return client.get(f"/admin/sales/sale/{sale.id}/analytics/{name}")


def rows(client: Client, sale: Sale, name: str) -> list[dict[str, str]]:
    text = b"".join(file(client, sale, name)).decode()
    return list(csv.DictReader(text.splitlines()))


@pytest.mark.pure
def test_the_measures_describe_a_sold_out_sale(sold_out: Sale):
    found = analytics.measures(sold_out)

    assert (found.sold, found.seconds_to_sell_out) == (4, 12)
    assert (found.attempts, found.shoppers, found.attempts_per_unit) == (11, 8, 2.75)
    assert (found.busiest_second, found.busiest_attempts) == (START_SECOND + 12, 6)


@pytest.mark.pure
def test_a_cancelled_order_counts_only_towards_selling_out(sold_out: Sale):
    sold_out.orders.filter(user_id="shopper-4").update(cancelled_at=START + timedelta(minutes=5))

    found = analytics.measures(sold_out)

    assert (found.sold, found.cancelled, found.seconds_to_sell_out) == (3, 1, 12)
    assert analytics.early(sold_out).within[30] == 3


@pytest.mark.pure
def test_how_early_the_buyers_came(sold_out: Sale):
    found = analytics.early(sold_out)

    assert [found.within[seconds] for seconds in (1, 5, 10, 30)] == [2, 3, 3, 4]
    assert found.after == {0.1: 0.5, 0.5: 0.9, 0.9: 12, 1: 12}


@pytest.mark.pure
def test_the_timeline_has_every_second_and_all_of_the_attempts(sold_out: Sale):
    found = analytics.timeline(sold_out, analytics.measures(sold_out).sold_out_at)

    assert [point.second - START_SECOND for point in found.points] == list(range(-2, 13))
    assert [point.attempts for point in found.points if point.attempts] == [1, 2, 2, 6]
    assert [point.remaining_stock for point in found.points][-10:] == [2, 1, 1, 1, 1, 1, 1, 1, 1, 0][-10:]
    assert found.outcomes.total() == sum(found.latencies) == 11
    assert found.step == 1


@pytest.mark.pure
def test_a_sale_that_is_not_sold_out_says_so(viewer: Client):
    sale = past_sale(stock=5)
    sell(sale, 1, 2)

    page = viewer.get(f"/admin/sales/sale/{sale.id}/analytics/").content.decode()

    assert analytics.measures(sale).seconds_to_sell_out is None
    assert "Not sold out" in page
    assert "3 units are left" in page
    assert "Nobody has attempted to buy yet, or it was before attempts were counted." in page


@pytest.mark.pure
def test_a_sale_in_which_nothing_happened_has_a_page(viewer: Client):
    sale = past_sale()

    assert viewer.get(f"/admin/sales/sale/{sale.id}/analytics/").status_code == 200
    assert file(viewer, sale, "analytics.json").json()["sold"] == 0
    assert rows(viewer, sale, "seconds.csv") == []


@pytest.mark.pure
def test_of_a_long_sale_each_point_stands_for_several_seconds():
    sale = past_sale()
    for minutes in range(0, 60):
        attempt(sale, minutes * 60, sold_out=6)

    found = analytics.timeline(sale, None)

    assert found.step == 6
    assert len(found.points) <= analytics.MOST_POINTS
    columns = analytics_words.columns(found.points, found.step)
    assert sum(point.attempts for point in found.points) == 360
    assert max(value or 0 for value in columns["sold_out"]) == 1.0


@pytest.mark.pure
def test_attempts_far_from_the_sale_do_not_stretch_the_timeline(sold_out: Sale):
    attempt(sold_out, 3000, sold_out=1)
    attempt(sold_out, -3000, not_started=1)

    found = analytics.timeline(sold_out, analytics.measures(sold_out).sold_out_at)

    assert [found.points[0].second - START_SECOND, found.points[-1].second - START_SECOND] == [-60, 72]
    assert found.outcomes.total() == 13


@pytest.mark.pure
def test_it_is_compared_with_the_sales_before_it(sold_out: Sale):
    for number in range(1, 13):
        past_sale(f"earlier-{number}", days_ago=number)
    past_sale("later", days_ago=-1)
    Sale.objects.create(name="Draft", slug="draft", total_stock=1, starts_at=START - timedelta(hours=1), ends_at=START)

    found = [line.sale.slug for line in analytics.earlier(sold_out)]

    assert found == [f"earlier-{number}" for number in range(1, 11)]


def test_all_of_it_is_there_after_redis_is_emptied(viewer: Client, sold_out: Sale):
    store.client().flushall()

    page = viewer.get(f"/admin/sales/sale/{sold_out.id}/analytics/").content.decode()
    found = file(viewer, sold_out, "analytics.json").json()

    assert "12.0 s" in page
    assert "about 8" in page
    assert (found["attempts"], found["aboutShoppers"], found["secondsToSellOut"]) == (11, 8, 12.0)


@pytest.mark.pure
def test_the_json_has_all_of_it(viewer: Client, sold_out: Sale):
    past_sale("earlier", days_ago=1)

    answer = file(viewer, sold_out, "analytics.json")

    found = answer.json()
    assert answer["Content-Disposition"] == 'attachment; filename="widget-analytics.json"'
    assert found["startTime"] == "2026-02-14T10:00:00Z"
    assert found["soldOutTime"] == "2026-02-14T10:00:12Z"
    assert found["busiestSecond"] == "2026-02-14T10:00:12Z"
    assert found["outcomes"] == {
        "purchased": 4, "sold_out": 5, "already_purchased": 1, "not_started": 1
    }  # fmt: skip
    assert found["soldWithinSeconds"]["1"] == 2
    assert found["secondsUntilShareSold"]["0.5"] == 0.9
    assert 3 <= found["latencyMs"]["p99"] <= 4
    assert sum(found["perSecond"]["sold_out"]) == 5
    assert [other["slug"] for other in found["earlierSales"]] == ["earlier"]


@pytest.mark.pure
def test_the_seconds_are_rows_of_a_file(viewer: Client, sold_out: Sale):
    found = rows(viewer, sold_out, "seconds.csv")

    assert [row["second"] for row in found] == [
        "2026-02-14T09:59:58Z",
        "2026-02-14T10:00:00Z",
        "2026-02-14T10:00:04Z",
        "2026-02-14T10:00:12Z",
    ]
    assert (found[-1]["purchased"], found[-1]["sold_out"], found[-1]["remaining_stock"]) == ("1", "5", "0")


@pytest.mark.pure
def test_the_sales_file_is_safe_for_spreadsheets(viewer: Client, sold_out: Sale):
    past_sale("earlier", days_ago=1, name="=HYPERLINK(1)")

    found = rows(viewer, sold_out, "sales.csv")

    assert [row["slug"] for row in found] == ["widget", "earlier"]
    assert (found[0]["secondsToSellOut"], found[0]["attempts"], found[1]["attempts"]) == ("12.0", "11", "")
    assert found[1]["productName"] == "'=HYPERLINK(1)"


@pytest.mark.pure
def test_files_for_excel_have_local_times_and_numbers(viewer: Client, sold_out: Sale, settings: Settings):
    settings.TIME_ZONE = "Europe/Berlin"

    def rows_for_excel(name: str) -> list[dict[str, str]]:
        address = f"/admin/sales/sale/{sold_out.id}/analytics/{name}"
        content = b"".join(viewer.get(address, headers={"accept-language": "de"}))
        assert content.startswith("\ufeff".encode())
        return list(csv.DictReader(content.decode("utf-8-sig").splitlines(), delimiter=";"))

    (sale,) = rows_for_excel("sales-for-excel.csv")
    seconds = rows_for_excel("seconds-for-excel.csv")

    assert sale["startTime (Europe/Berlin)"] == "2026-02-14 11:00:00"
    assert sale["soldOutTime (Europe/Berlin)"] == "2026-02-14 11:00:12"
    assert (sale["secondsToSellOut"], sale["attemptsPerUnit"]) == ("12,0", "2,75")
    assert seconds[0]["second (Europe/Berlin)"] == "2026-02-14 10:59:58"
    assert [row["p50_ms"] for row in seconds if "." in row["p50_ms"]] == []


@pytest.mark.pure
def test_there_is_no_other_file(viewer: Client, sold_out: Sale):
    assert file(viewer, sold_out, "passwords.csv").status_code == 404


@pytest.mark.pure
@pytest.mark.parametrize(
    ("seconds", "words"),
    [(None, "–"), (0.04, "0.0 s"), (59.94, "59.9 s"), (61, "1 min 1 s"), (93784, "1 d 2 h 3 min 4 s")],
)
def test_durations_read_as_people_say_them(seconds: float | None, words: str):
    assert analytics_words.duration(seconds) == words


@pytest.mark.long
def test_memory_does_not_grow_with_a_sales_length():
    sale = past_sale()
    lists: dict[str, Any] = {"outcomes": {"sold_out": 5}, "latencies": [5, *[0] * (histogram.BUCKETS - 1)]}

    def add(first: int, count: int) -> None:
        AttemptCount.objects.bulk_create(
            AttemptCount(sale=sale, second=START_SECOND + second, worker="w", attempts=5, **lists)
            for second in range(first, first + count)
        )

    def peak() -> int:
        tracemalloc.start()
        assert analytics.timeline(sale, None).outcomes.total() == 5 * AttemptCount.objects.count()
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    add(0, 6_000)
    short = peak()
    add(6_000, 9_000)

    assert peak() - short < LARGEST_GROWTH_BYTES


@pytest.mark.pure
def test_counts_of_one_second_are_read_together_across_pages(sold_out: Sale, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(attempt_counts, "PAGE", 1)

    assert [second.attempts for second in analytics.seconds(sold_out)] == [1, 2, 2, 6]
