"""How soon an attempt is answered, whatever becomes of Redis and SQL, and how soon a sale sells again."""

import signal
import time

import httpx

from tests.faults.load import Answer
from tests.load.promises.promise import promised
from tests.load.promises.shops import Shop, new_shopper, on_postgresql, plain, proxied, seconds_until

RELIABILITY, API = "docs/reliability.md", "docs/api.md"
ANSWERED_WITHIN_SECONDS = 1.5
UNDECIDED = {"unavailable", "unknown"}


@promised("A purchase is answered within milliseconds", "README.md", within=0.1, on=plain, rounds=300)
def purchase(shop: Shop) -> float:
    return shop.sell().seconds


@promised("An attempt is answered while Redis hangs", API, within=ANSWERED_WITHIN_SECONDS, on=plain)
def redis_hangs(shop: Shop) -> float:
    shop.redis_process.send_signal(signal.SIGSTOP)
    try:
        with shop.attempts(1.0) as answers:
            pass
    finally:
        shop.redis_process.send_signal(signal.SIGCONT)
    shop.sells_after()
    return _slowest(answers)


@promised(
    "An attempt is answered while Redis dies and comes back", RELIABILITY, within=ANSWERED_WITHIN_SECONDS, on=plain
)
def redis_dies(shop: Shop) -> float:
    with shop.attempts(1.5) as answers:
        time.sleep(0.2)
        shop.kill_redis()
        time.sleep(0.5)
        shop.start_redis()
    shop.sells_after()
    return _slowest(answers)


@promised("An attempt is answered when Redis's answer is lost", API, within=ANSWERED_WITHIN_SECONDS, on=proxied)
def answer_lost(shop: Shop) -> float:
    assert shop.proxy
    shop.sells_after()
    shop.proxy.answers = "lost"
    answer = shop.buy()
    shop.proxy.answers = "passed"
    return _slowest([answer])


def _slowest(answers: list[Answer]) -> float:
    assert UNDECIDED & {answer.code for answer in answers}, "nobody noticed that Redis was away"
    return max(answer.seconds for answer in answers)


@promised("A sale sells again once Redis is back", RELIABILITY, within=2.0, on=plain)
def redis_returns(shop: Shop) -> float:
    shop.kill_redis()
    assert shop.buy().code in UNDECIDED
    shop.start_redis()
    return shop.sells_after()


@promised(
    "An attempt in an archived sale is answered while SQL is away",
    RELIABILITY,
    within=ANSWERED_WITHIN_SECONDS,
    on=on_postgresql,
)
def archived_without_sql(shop: Shop) -> float:
    sale_id = shop.sale("archived")
    if not shop.redis.hexists(f"{{sale:{sale_id}}}:config", "archived"):
        shop.operator.take(sale_id, "end")
        shop.manage("archive_sale", "archived")
    server = shop.database.server  # type: ignore[union-attr]
    server.stop_immediately()
    try:
        return _slowest([shop.buy("archived")])
    finally:
        server.start()


@promised("A purchase is an order in SQL, while an order writer runs", "docs/redis.md", within=1.0, on=plain, rounds=50)
def order_in_sql(shop: Shop) -> float:
    name = new_shopper()
    shop.sell(user_id=name)
    return seconds_until(lambda: shop.database.query("SELECT 1 FROM sales_order WHERE user_id = %s", name))


@promised("Metrics are told while Redis hangs", "docs/operations.md", within=2.0, on=plain, rounds=5)
def metrics(shop: Shop) -> float:
    shop.redis_process.send_signal(signal.SIGSTOP)
    try:
        time.sleep(1)  # nothing that was known before is still fresh
        began = time.monotonic()
        httpx.get(f"http://127.0.0.1:{shop.port}/metrics", timeout=30).raise_for_status()
        return time.monotonic() - began
    finally:
        shop.redis_process.send_signal(signal.SIGCONT)
        shop.sells_after()
