"""How soon shoppers see what an operator has done, and what a worker shows."""

import itertools
import time
from datetime import datetime
from typing import Any

import httpx

from sales import store
from tests.faults.stage import SLUG
from tests.load.promises.promise import promised
from tests.load.promises.shops import Page, Shop, new_shopper, plain, seconds_until, status
from tests.redis_servers import wait_until

README, RELIABILITY, API = "README.md", "docs/reliability.md", "docs/api.md"
STEPS: Any = itertools.cycle(
    [("pause", {}), ("resume", {}), ("add-stock", {"units": "1"}), ("end", {}), ("extend", {"minutes": "60"})]
)
INVITED = 100_000
# A sale is to be made, and pages to be opened, before it starts.
LEADS_SECONDS = (4, 8, 16, 32)
_upcoming = itertools.count(1)


@promised("Every worker shows what was bought at another", API, within=0.25, on=plain, rounds=100)
def status_age(shop: Shop) -> float:
    with shop.each_worker() as (asked, other):
        left = status(other)["remainingStock"]
        asked.post(f"/api/sales/{SLUG}/purchase", json={"userId": new_shopper()}).raise_for_status()
        return seconds_until(lambda: status(other)["remainingStock"] < left)


@promised("An operator's step is in force on every worker", README, within=1.0, on=plain, rounds=25)
def step(shop: Shop) -> float:
    sale_id, (name, values) = shop.sale("stepped"), next(STEPS)
    with shop.each_worker() as workers:
        before = [_terms(worker) for worker in workers]
        answered = shop.operator.take(sale_id, name, **values)
        return seconds_until(
            lambda: all(_terms(worker) != old for worker, old in zip(workers, before, strict=True)), since=answered
        )


def _terms(worker: httpx.Client) -> list[Any]:
    told = status(worker, "stepped")
    return [told["status"], told["totalStock"], told["endTime"]]


@promised("A sale that is published is shown by every worker", README, within=1.0, on=plain)
def publication(shop: Shop) -> float:
    sale_id, path = shop.sale("hidden"), "/sales/hidden/"
    shop.operator.take(sale_id, "unpublish")
    with shop.each_worker() as workers:
        seconds_until(lambda: all(worker.get(path).status_code == 404 for worker in workers))
        answered = shop.operator.take(sale_id, "publish")
        return seconds_until(lambda: all(worker.get(path).status_code == 200 for worker in workers), since=answered)


@promised("Pages that listen hear of a pause", API, within=1.0, on=plain, rounds=15)
def pause_told(shop: Shop) -> float:
    sale_id = shop.sale("paused")
    with shop.pages("paused") as pages:
        answered = shop.operator.take(sale_id, "pause")
        seconds = _heard(pages, "paused", since=answered)
        shop.operator.take(sale_id, "resume")
        return seconds


@promised("Pages that listen hear that all is sold", API, within=1.0, on=plain, rounds=15)
def sold_out_told(shop: Shop) -> float:
    sale_id = shop.sale("scarce", stock=1)
    wait_until(lambda: shop.buy("scarce").code == "sold_out", "it is sold out")
    with shop.pages("scarce") as pages:
        shop.operator.take(sale_id, "add-stock", units="1")
        for page in pages:
            page.hears("active")
        shop.sell("scarce")
        return _heard(pages, "sold_out", since=time.monotonic())


@promised("Pages that listen hear of the start", API, within=1.0, on=plain, rounds=5)
def start_told(shop: Shop) -> float:
    for lead_seconds in LEADS_SECONDS:
        slug = f"upcoming-{next(_upcoming)}"
        shop.sale(slug, starts_in=lead_seconds)
        with shop.pages(slug) as pages, shop.each_worker() as (worker, _):
            starts_in = datetime.fromisoformat(status(worker, slug)["startTime"]).timestamp() - time.time()
            if starts_in > 0:
                return _heard(pages, "active", since=time.monotonic() + starts_in)
    raise AssertionError("it always starts before anybody listens")


def _heard(pages: list[Page], status: str, since: float) -> float:
    """Return the seconds until the last page hears it."""
    for page in pages:
        page.hears(status)
    return time.monotonic() - since


@promised("A partner's new key voids the old one on every worker", "docs/partners.md", within=1.0, on=plain)
def new_key(shop: Shop) -> float:
    from sales import tokens  # it needs settings

    sale_id, name = shop.sale("partners", "--identity", "verified"), "ada@example.com"
    number = int(shop.redis.hget(f"{{sale:{sale_id}}}:config", "key_number"))
    bearer = {"Authorization": f"Bearer {tokens.vouch(name, sale_id, number, seconds=600)}"}

    def all_answer(code: int) -> bool:
        path = f"/api/sales/partners/user/{name}"
        return all(worker.get(path, headers=bearer).status_code == code for worker in workers)

    with shop.each_worker() as workers:
        seconds_until(lambda: all_answer(200))
        answered = shop.operator.take(sale_id, "new-key")
        return seconds_until(lambda: all_answer(401), since=answered)


@promised(f"A list of {INVITED:,} invited shoppers is in force", README, within=60.0, on=plain, rounds=2)
def list_in_force(shop: Shop) -> float:
    shop.sale("invited", "--identity", "invited")
    file = shop.var_dir / "invited.txt"
    file.write_text("".join(f"{new_shopper()}\n" for _ in range(INVITED)))
    began = time.monotonic()
    told = shop.manage("import_invitations", "invited", str(file), "--replace")
    assert "It is in force." in told, told
    return time.monotonic() - began


@promised("A change made while Redis was away is in force once it is back", RELIABILITY, within=2.0, on=plain)
def change_mirrored(shop: Shop) -> float:
    before = shop.redis.hget(shop.key("config"), "total_stock")
    shop.kill_redis()
    shop.operator.take(shop.sale_id, "add-stock", units="1")
    shop.start_redis()
    seconds = seconds_until(lambda: shop.redis.hget(shop.key("config"), "total_stock") != before)
    shop.sells_after()
    return seconds


@promised("A unit cancelled while Redis was away is for sale once it is back", RELIABILITY, within=2.0, on=plain)
def cancellation_mirrored(shop: Shop) -> float:
    name = new_shopper()
    shop.sell(user_id=name)
    order = "SELECT id FROM sales_order WHERE user_id = %s"
    seconds_until(lambda: shop.database.query(order, name))
    ((order_id,),) = shop.database.query(order, name)
    shop.kill_redis()
    shop.operator.send(f"/admin/sales/order/{order_id}/cancel/", may_buy_again="yes")
    shop.start_redis()
    seconds = seconds_until(lambda: not shop.redis.hexists(shop.key("purchases"), name))
    shop.sells_after()
    return seconds


@promised("The order writer mends the directory of sales", RELIABILITY, within=2.0, on=plain)
def directory_mended(shop: Shop) -> float:
    shop.redis.hdel(store.DIRECTORY, SLUG)
    seconds = seconds_until(lambda: shop.redis.hexists(store.DIRECTORY, SLUG))
    shop.sells_after()
    return seconds
