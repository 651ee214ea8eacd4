"""docs/scaling.md and `make plan`: what they say follows from what was measured."""

import json
import re
import subprocess
from statistics import median
from typing import Any

import pytest
from django.conf import settings

from tests.load.scaling import DOCUMENT, machines, sentences
from tests.load.scaling.plans import (
    ANSWERED_WITHIN_SECONDS,
    CROWDS,
    FULL,
    FULL_SALE,
    HALF_WITHIN_SECONDS,
    PROXIED,
    SPREAD,
    costs_in_the_cloud,
    plan_for,
)
from tests.load.scaling.simulation import Rush, presses, simulate
from tests.load.scaling.words import plan_table, tables

RESULTS = json.loads(DOCUMENT.with_suffix(".json").read_text())
PLANS = RESULTS["plans"]


def play(plan: dict[str, Any], web_cores: int, sales: int, seed: int = 1) -> Rush:
    """Return the rush in one sale of a plan, with so many web cores of its own."""
    pressed = presses(plan["shoppers"] // sales, HALF_WITHIN_SECONDS, SPREAD, seed)
    return simulate(pressed, plan["stock"] // sales, web_cores, costs_in_the_cloud(RESULTS), seed)


def cells(words: str) -> list[str]:
    """Return what the document's table of plans has in the row of these words."""
    (row,) = (line for line in DOCUMENT.read_text().splitlines() if line.startswith(f"| {words} |"))
    return [cell.strip() for cell in row.split("|")[2:-1]]


@pytest.mark.pure
def test_the_document_says_what_was_measured():
    text = DOCUMENT.read_text()

    assert [name for name, table in tables(RESULTS).items() if table not in text] == []


@pytest.mark.pure
@pytest.mark.parametrize("sentence", sentences.of_the_guide(RESULTS))
def test_the_words_around_the_tables_follow_from_them(sentence: str):
    assert sentence in " ".join(DOCUMENT.read_text().split())


@pytest.mark.pure
@pytest.mark.parametrize("sentence", sentences.of_the_readme(RESULTS))
def test_the_readme_follows_from_the_tables(sentence: str):
    assert sentence in " ".join((settings.BASE_DIR / "README.md").read_text().split())


@pytest.mark.pure
def test_a_plan_follows_from_the_costs():
    """The smallest one: to look for a larger one takes longer, and the tests below hold those to the simulation."""
    plan = plan_for(*CROWDS[0], RESULTS)

    assert plan_table([plan._asdict()]).splitlines()[2:] == plan_table([PLANS[0]]).splitlines()[2:]


@pytest.mark.long
def test_the_limit_of_one_sale_follows_from_the_costs():
    shoppers, stock, web_cores = FULL_SALE

    rush = play({"shoppers": shoppers, "stock": stock}, web_cores, sales=1)

    assert rush.wait(0.99) * 1e3 == pytest.approx(RESULTS["full_sale"]["p99_ms"])
    assert rush.fullest_redis == pytest.approx(RESULTS["full_sale"]["fullest_redis"])


@pytest.mark.long
@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: f"{plan['shoppers']:,}")
@pytest.mark.parametrize(("seed", "chance"), [(1, 0), (2, 0.03)])
def test_a_plan_fills_no_core_in_the_simulation(plan: dict[str, Any], seed: int, chance: float):
    rush = play(plan, plan["web_cores"] // plan["sales"], plan["sales"], seed)

    assert max(rush.fullest_web, rush.fullest_redis) <= FULL + chance
    assert rush.wait(0.99) <= ANSWERED_WITHIN_SECONDS
    assert rush.unavailable + rush.unknown == 0


@pytest.mark.long
def test_with_less_than_the_plan_a_core_is_filled():
    plan, sales = PLANS[1], PLANS[1]["sales"]

    fewer_web_cores = play(plan, plan["web_cores"] // sales - 1, sales)
    fewer_sales = play(plan, plan["web_cores"] // sales, sales - 1)

    assert fewer_web_cores.fullest_web > FULL
    assert fewer_sales.fullest_redis > FULL


@pytest.mark.pure
def test_plans_use_the_tables_price_of_an_attempt():
    costs = costs_in_the_cloud(RESULTS)

    (price,) = cells(f"an attempt in it, {PROXIED} connections")[:1]

    assert price == f"{costs.take_us + costs.answer_us:.1f} µs of a web worker's core"
    assert f"keepalive {PROXIED};" in (settings.BASE_DIR / "deploy" / "nginx.conf").read_text()


@pytest.mark.pure
@pytest.mark.parametrize("number", range(len(CROWDS)))
def test_the_price_is_that_of_the_machines_in_the_table(number: int):
    words, price = cells("machines of two cores")[number], cells("machines, three hours")[number]
    in_all, *kinds = (int(figure.replace(",", "")) for figure in re.findall(r"[\d,]*\d", words))

    assert float(price.strip("$").replace(",", "")) == pytest.approx(in_all * 0.0816 * 3, abs=0.01)
    assert not kinds or sum(kinds) == in_all


@pytest.mark.pure
def test_the_machines_have_the_cores_of_the_plan():
    for number, plan in enumerate(PLANS[1:], start=1):
        words = cells("machines of two cores")[number]
        rented = {
            name.strip(): int(figure.replace(",", ""))
            for name, figure in re.findall(r"([A-Za-z ]*[a-zA-Z]) ([\d,]*\d)", words)
        }

        assert 0 <= 2 * rented["web"] - plan["web_cores"] < 2
        assert 0 <= 2 * rented["nginx"] - plan["proxy_cores"] < 2
        assert rented["Redis"] == rented["replicas"] == plan["sales"]
        assert rented["SQL and order writer"] == 1


@pytest.mark.pure
def test_one_machine_does_everything_until_it_is_full():
    assert machines.rent(1, 1, 1, used_cores=1.4, full=0.7) == {"all": 1}
    assert machines.rent(1, 1, 1, used_cores=1.41, full=0.7)["web"] == 1


@pytest.mark.pure
def test_orders_are_reckoned_with_the_database_of_many_machines():
    orders = RESULTS["orders"]
    rate = median(point["rows_per_second"] for point in orders["points"])

    assert [plan["orders_seconds"] for plan in PLANS] == [stock / rate for _, stock in CROWDS]
    assert orders["sql"].startswith("PostgreSQL ")  # SQLite is for one machine


@pytest.mark.pure
def test_a_crowd_costs_less_in_machines_than_its_copies():
    # docs/scaling.md says so of the largest.
    assert PLANS[-1]["machine_dollars"] < PLANS[-1]["edge_dollars"]
    assert PLANS[1]["attempts_per_second"] > sentences.LET_IN_PER_SECOND


@pytest.mark.long
def test_a_larger_crowd_takes_more():
    small, large = (plan_for(shoppers, 1_000, RESULTS) for shoppers in (10_000, 400_000))

    assert (small.sales, small.one_sale) == (1, None)
    assert large.sales > 1
    assert large.web_cores > small.web_cores
    assert large.one_sale


@pytest.mark.parametrize("words", [["SHOPPERS=many"], ["STOCK=0"], ["SHOPPERS=-5"], ["STOCK=1.5"]])
def test_senseless_numbers_are_named(words: list[str]):
    done = subprocess.run(["make", "plan", *words], cwd=settings.BASE_DIR, capture_output=True, text=True, check=False)

    assert done.returncode != 0
    assert "both are whole numbers above 0" in done.stderr
