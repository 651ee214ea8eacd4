"""What the web workers count: each attempt once, whatever is away or ends."""

import asyncio
import re
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import httpx
import psutil
import pytest

from sales import attempt_counts, attempts, histogram, purchases, store, workers
from sales.models import Sale
from sales.purchases import ANSWER_WITHIN_SECONDS, Attempt, Purchase
from tests.conftest import MakeSale
from tests.servers import PATIENT, RedisServer, WebServer, free_port


def told(sale: Sale) -> list[attempt_counts.Second]:
    """Return what Redis has been told, second by second."""
    counts = attempt_counts.in_redis(sale)
    return list(attempt_counts.by_second(sorted(counts)))


def outcomes(sale: Sale) -> Counter[str]:
    return sum((second.outcomes for second in told(sale)), Counter())


def count(sale_ids: Sequence[int], answers: Sequence[Any]) -> None:
    """Count a batch of attempts, each of a shopper of its own, that were answered in no time."""
    batch = [Attempt(sale_id, f"shopper-{number}", "") for number, sale_id in enumerate(sale_ids)]
    deadlines = [time.monotonic() + ANSWER_WITHIN_SECONDS] * len(batch)
    attempts.count(batch, deadlines, answers, ANSWER_WITHIN_SECONDS)


async def write() -> None:
    counting = attempts._counting()
    await counting.write(counting.second + 1)


def wait_for(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it does not come about"
        time.sleep(0.02)


async def test_every_outcome_of_a_batch_is_counted(open_sale: Sale):
    answers = [Purchase("purchased", "1-0", 9), Purchase("replayed", "1-0", 9), Purchase("already_purchased", "1-0", 8)]

    count([open_sale.id] * 3, answers)
    await write()

    (second,) = told(open_sale)
    assert second.outcomes == {"purchased": 1, "replayed": 1, "already_purchased": 1}
    assert sum(second.latencies) == 3
    assert second.remaining_stock == 8


async def test_a_replayed_answer_does_not_change_the_recorded_stock(open_sale: Sale):
    count([open_sale.id] * 2, [Purchase("sold_out", "", 0), Purchase("replayed", "1-0", 9)])
    await write()

    assert told(open_sale)[0].remaining_stock == 0


@pytest.fixture
def two_sales(make_sale: MakeSale) -> tuple[Sale, Sale]:
    return make_sale(name="one"), make_sale(name="two")


async def test_attempts_of_several_sales_in_one_batch_are_counted_apart(two_sales: tuple[Sale, Sale]):
    one, two = two_sales

    count(
        [one.id, two.id, one.id], [Purchase("purchased", "1-0", 9), Purchase("ended"), Purchase("purchased", "2-0", 8)]
    )
    await write()

    assert (outcomes(one), outcomes(two)) == ({"purchased": 2}, {"ended": 1})


@pytest.mark.parametrize(
    ("error", "outcome"),
    [(store.Unavailable(), "unavailable"), (store.Unknown(), "unknown"), (ZeroDivisionError(), "server_error")],
)
async def test_attempts_that_fail_are_counted_by_how(open_sale: Sale, error: Exception, outcome: str):
    count([open_sale.id] * 2, [error] * 2)
    await write()

    assert outcomes(open_sale) == {outcome: 2}


@pytest.fixture
def last_unit(make_sale: MakeSale) -> Sale:
    return make_sale(stock=1)


async def test_the_purchase_service_counts_what_it_answers(last_unit: Sale):
    bought = [purchases.buy(last_unit.id, user_id) for user_id in ("ada", "ada", "bob")]

    await asyncio.gather(*bought)
    await write()

    assert outcomes(last_unit) == {"purchased": 1, "already_purchased": 1, "sold_out": 1}
    assert store.client().pfcount(store.key(last_unit.id, "shoppers")) == 2


async def test_a_second_is_written_once_and_then_forgotten(open_sale: Sale):
    count([open_sale.id], [Purchase("sold_out", "", 0)])
    await write()
    store.client().delete(store.key(open_sale.id, "attempts"))

    await write()

    assert told(open_sale) == []


async def test_attempts_after_a_second_is_written_go_to_another(open_sale: Sale):
    count([open_sale.id], [Purchase("sold_out", "", 0)])
    await write()
    count([open_sale.id] * 2, [Purchase("sold_out", "", 0)] * 2)
    await write()

    assert [second.attempts for second in told(open_sale)] == [1, 2]


async def test_seconds_that_redis_did_not_take_are_written_later(open_sale: Sale, monkeypatch: pytest.MonkeyPatch):
    async def away(*args: object) -> None:
        raise store.Unavailable

    count([open_sale.id], [Purchase("sold_out", "", 0)])
    with monkeypatch.context() as patch:
        patch.setattr(store, "run_scripts", away)
        with pytest.raises(store.Unavailable):
            await write()
    assert told(open_sale) == []

    await write()

    assert outcomes(open_sale) == {"sold_out": 1}
    assert store.client().pfcount(store.key(open_sale.id, "shoppers")) == 1


async def test_counts_of_a_sale_missing_from_redis_are_eventually_dropped(open_sale: Sale):
    store.client().flushall()
    count([open_sale.id], [Purchase("sold_out", "", 0)])
    await write()
    assert not store.client().exists(store.key(open_sale.id, "attempts"))
    counting = attempts._counting()
    assert counting._tallies

    await counting.write(counting.second + attempts.KEEP_SECONDS + 1)
    await counting.write(counting.second)

    assert (counting._tallies, counting._shoppers) == ({}, {})


async def test_shoppers_are_counted_in_bounded_calls(open_sale: Sale, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(attempts, "SHOPPERS_IN_A_CALL", 2)
    count([open_sale.id] * 5, [Purchase("sold_out", "", 0)] * 5)
    await write()

    assert store.client().pfcount(store.key(open_sale.id, "shoppers")) == 5


async def test_shopper_counts_and_heartbeats_skip_the_append_only_file(open_sale: Sale):
    count([open_sale.id] * 100, [Purchase("sold_out", "", 0)] * 100)
    await write()
    counting, added = attempts._counting(), []

    def size() -> int:
        return store.client().info("persistence")["aof_current_size"]

    for turn in range(10):  # a server that other tests use may write something meanwhile
        counting._shoppers[open_sale.id] = {f"other-{turn}-{number}" for number in range(100)}
        before = size()
        await counting.write(counting.second)
        await workers.beat()
        added.append(size() - before)

    assert min(added) == 0
    assert store.client().pfcount(store.key(open_sale.id, "shoppers")) > 150


async def test_a_worker_counts_until_it_leaves_or_falls_silent(redis_server: object):
    store.client().hset(store.WORKERS, "gone-1", int(time.time() * 1000) - workers.FORGET_AFTER_MS - 1000)
    now_ms = await workers.beat()
    heard = store.client().hgetall(store.WORKERS)  # among them may be those of a server that other tests use
    ours = {workers.process_name().encode(): heard[workers.process_name().encode()]}
    assert b"gone-1" not in heard
    assert workers.count(ours, now_ms).alive == 1
    assert workers.count(ours, now_ms + workers.ALIVE_MS + 1).alive == 0

    await workers.leave()

    assert not store.client().hgetall(store.WORKERS).keys() & {*ours, b"gone-1"}


def test_the_script_headers_list_the_keys_of_their_calls(open_sale: Sale, monkeypatch: pytest.MonkeyPatch):
    calls: dict[str, list[str]] = {}

    async def watched(name: str, with_keys: list[tuple[list[str], list[Any]]]) -> list[int]:
        calls[name] = with_keys[0][0]
        return [1]

    def watched_blocking(name: str, keys: list[str], args: list[Any]) -> tuple[int, bytes]:
        calls[name] = keys
        return 1, b"sketch"

    async def tell() -> None:
        count([open_sale.id], [Purchase("sold_out", "", 0)])
        await write()
        await workers.beat()

    store.client().pfadd(store.key(open_sale.id, "shoppers"), "ada")
    monkeypatch.setattr(store, "run_scripts", watched)
    monkeypatch.setattr(store, "run_script_blocking", watched_blocking)
    asyncio.run(tell())
    attempt_counts.store_counts()

    for name in ("note_counts", "note_shoppers", "keep_shoppers", "beat"):
        documented = re.findall(r"^KEYS\[\d+\]\s+(\S+)", store.script(name).text, re.MULTILINE)
        assert calls[name] == [key.replace("ID", str(open_sale.id)) for key in documented], name


@pytest.mark.long
@pytest.mark.django_db(transaction=True)  # the server, another process, reads SQL
def test_attempts_during_a_redis_outage_are_counted_afterwards(
    make_sale: MakeSale, redis_server: RedisServer, static_files: None
):
    sale = make_sale(stock=3)
    server = WebServer({"PORT": str(free_port()), "WEB_CONCURRENCY": "1"})
    server.start()
    answers: Counter[str] = Counter()
    with httpx.Client(base_url=server.url) as client:

        def buy(name: str) -> None:
            answers[client.post("/api/sale/purchase", json={"userId": name}).json()["code"]] += 1

        wait_for(lambda: client.get("/api/sale/status").status_code == 200)  # of no known sale nothing is counted
        buy("ada")
        assert answers == {"purchased": 1}
        redis_server.signal(signal.SIGSTOP)
        try:
            for number in range(4):
                buy(f"shopper-{number}")
            form = {"userId": "by form"}
            assert client.post("/", data=form, headers={"Origin": server.url}).status_code == 503
        finally:
            redis_server.signal(signal.SIGCONT)

    wait_for(lambda: outcomes(sale).total() >= 6)
    server.stop()

    answers["unavailable"] += 1
    assert answers["unavailable"] > 1
    assert outcomes(sale) == answers


@pytest.mark.django_db(transaction=True)  # the server, another process, reads SQL
def test_a_stopping_server_reports_its_last_second_and_leaves(make_sale: MakeSale, static_files: None):
    sale = make_sale(stock=3)
    server = WebServer({"PORT": str(free_port())}, PATIENT)
    server.start()
    assert server.popen
    names = {f"{socket.gethostname()}-{child.pid}".encode() for child in psutil.Process(server.popen.pid).children()}
    wait_for(lambda: names <= set(store.client().hgetall(store.WORKERS)))
    with httpx.Client(base_url=server.url) as client:
        answers = [client.post("/api/sale/purchase", json={"userId": f"user-{number}"}) for number in range(8)]

    server.stop()

    assert Counter(answer.json()["code"] for answer in answers) == {"purchased": 3, "sold_out": 5}
    assert outcomes(sale) == {"purchased": 3, "sold_out": 5}
    assert len(names) == 2
    assert names.isdisjoint(store.client().hgetall(store.WORKERS))


@pytest.mark.pure
@pytest.mark.parametrize("share", [0.5, 0.95, 0.99, 1])
@pytest.mark.parametrize("scale", [0.2, 3, 40, 400])
def test_percentiles_match_the_sorted_list_to_a_buckets_width(share: float, scale: float):
    times_ms = sorted((number * 7919 % 1000) / 1000 * scale for number in range(1000))
    counted = [0] * histogram.BUCKETS
    histogram.add(counted, sorted(-time_ms / 1000 for time_ms in times_ms), 0.0)

    found = histogram.percentile_ms(counted, share)

    exact = times_ms[max(0, round(share * len(times_ms)) - 1)]
    high = next(bound for bound in histogram.BOUNDS_MS if bound >= exact)
    low = max((bound for bound in histogram.BOUNDS_MS if bound < exact), default=0)
    assert found is not None
    assert sum(counted) == 1000
    assert low <= found <= high


@pytest.mark.pure
def test_each_time_is_counted_in_the_bucket_of_its_own():
    for place, bound in enumerate(histogram.BOUNDS_MS):
        for time_ms in (bound * 0.99, bound * 1.01):
            counted = [0] * histogram.BUCKETS
            histogram.add(counted, [-time_ms / 1000], 0.0)
            assert counted.index(1) == (place if time_ms < bound else place + 1)


@pytest.mark.pure
def test_nothing_has_no_percentile():
    assert histogram.percentile_ms(histogram.merged(()), 0.99) is None


@pytest.mark.pure
def test_times_above_all_bounds_count_in_the_last_bucket():
    counted = [0] * histogram.BUCKETS
    histogram.add(counted, [-5.0], 0.0)

    assert histogram.percentile_ms(counted, 0.99) == histogram.BOUNDS_MS[-1]
