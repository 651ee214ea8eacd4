"""`make load`: a small crowd from start to end, and each invariant against answers that break it."""

import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from tests.conftest import MakeSale
from tests.load import checks, contract
from tests.load.answers import Answer, Reader, Writer, path_in
from tests.load.checks import Books, Verdict
from tests.load.contract import Reply
from tests.load.profiles import PROFILES, stock_for
from tests.load.summary import percentile
from tests.servers import WebServer

FIRST, SECOND = "1771063530000-0", "1771063530000-1"
STARTS_MS = 1771063530000

Crowd = subprocess.Popen[str]


def send_crowd(project_dir: Path, *words: str) -> Crowd:
    command = [sys.executable, "-m", "tests.load", *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return subprocess.Popen(command, cwd=project_dir, text=True, start_new_session=True, **pipes)  # type: ignore[call-overload]


def played(project_dir: Path, *words: str) -> tuple[int, str]:
    """Return how a run ends, and what it says. Where a busy machine answers some with a 503, the crowd comes again."""
    for _ in range(5):
        crowd = send_crowd(project_dir, *words)
        output, _ = crowd.communicate(timeout=300)
        if not re.search(r"^\s*FAILED +no 5xx", output, re.MULTILINE):
            break
    return crowd.returncode, output


def told(code: str, user_id: str = "ada", order_id: str = "", **fields: object) -> Answer:
    """Return the answer to a shopper's attempt."""
    status = {"purchased": 200, "broken": 0, "cut": 0, "unavailable": 503, "unknown": 503}.get(code, 409)
    return Answer("shopper", "purchase", status, code, user_id, order_id=order_id)._replace(**fields)  # type: ignore[arg-type]


def looked_up(code: str, **fields: object) -> Answer:
    return Answer("shopper", "user", 200, code, "ada")._replace(**fields)  # type: ignore[arg-type]


def books(*orders: tuple[str, str], total: int = 1) -> Books:
    """Return the books of a sale with these orders, in which everything agrees."""
    left = total - len(orders)
    audit = {"purchases": len(orders), "orders": len(orders), "drift": {}}
    return Books(total, left, STARTS_MS, frozenset(orders), audit)


def failed(answers: list[Answer], seller: Books) -> set[str]:
    return {verdict.name for verdict in checks.check(answers, seller) if verdict.held is False}


@pytest.mark.long
def test_small_crowd_finds_every_invariant_kept(project_dir: Path):
    status, output = played(project_dir, "--users", "30", "--seconds", "10")

    assert status == 0, output
    assert "opens in" in output
    assert "purchase, shoppers" in output
    assert "ok          no oversell                       6 units acknowledged of 6;" in output
    assert "FAILED" not in output
    assert "not checked" not in output
    assert Path(output.partition("Report: ")[2].strip()).read_text().startswith("<!DOCTYPE html>")


@pytest.mark.long
def test_crowd_at_a_foreign_host_names_unchecked_points(project_dir: Path, server: WebServer, make_sale: MakeSale):
    make_sale(stock=5)
    crowd = send_crowd(project_dir, "--host", server.url, "--users", "10", "--seconds", "10", "--profile", "tail")

    output, _ = crowd.communicate(timeout=300)

    assert crowd.returncode == 0, output
    assert "These are real purchases" in output
    assert "5 units acknowledged of 5" in output
    assert "not checked no drift" in output


def test_foreign_host_without_a_sale_is_one_clear_line(project_dir: Path, server: WebServer):
    crowd = send_crowd(project_dir, "--host", server.url)

    output, _ = crowd.communicate(timeout=300)

    assert crowd.returncode == 1
    assert f"{server.url} has no sale: 404" in output.splitlines()[-1]


@pytest.mark.long
def test_ctrl_c_leaves_nothing_behind(project_dir: Path):
    crowd = send_crowd(project_dir, "--users", "10", "--profile", "tail")
    assert crowd.stdout
    while "per second" not in (line := crowd.stdout.readline()):
        assert line, "it ended before the crowd came"
    assert crowd.stdout.readline(), "it ended before it told of the crowd"
    processes = psutil.Process(crowd.pid).children(recursive=True)

    os.killpg(crowd.pid, signal.SIGINT)
    output, _ = crowd.communicate(timeout=300)

    assert crowd.returncode == 128 + signal.SIGINT
    assert "stopped; nothing is proven" in output
    assert len(processes) >= 6
    _, alive = psutil.wait_procs(processes, timeout=60)
    assert alive == []


@pytest.mark.pure
def test_true_answers_break_no_invariant():
    answers = [
        told("not_started"),
        told("purchased", order_id=FIRST, purchase_time="noon", began=1),
        told("purchased", order_id=FIRST, purchase_time="noon", is_replay=True, began=2),
        told("sold_out", "bob", began=2),
        looked_up("has_purchased", purchase_time="noon", began=3),
    ]

    verdicts = checks.check(answers, books(("ada", FIRST)))

    assert [verdict for verdict in verdicts if not verdict.held] == []


@pytest.mark.pure
def test_more_orders_than_units_are_an_oversell():
    answers = [told("purchased", "ada", FIRST), told("purchased", "bob", SECOND)]

    assert "no oversell" in failed(answers, books(("ada", FIRST), ("bob", SECOND)))


@pytest.mark.pure
def test_sums_that_do_not_agree_are_an_oversell():
    seller = replace(books(("ada", FIRST), total=2), remaining_stock=2)

    assert failed([told("purchased", order_id=FIRST)], seller) == {"no oversell"}


@pytest.mark.pure
def test_sold_out_with_a_unit_left_is_an_undersell():
    assert failed([told("sold_out")], books()) == {"no undersell"}


@pytest.mark.pure
def test_unit_sold_after_a_sold_out_answer_is_an_undersell():
    answers = [
        told("sold_out", "ada", began=1, seconds=1),
        told("purchased", "bob", FIRST, began=1.5, seconds=0.1),
        told("purchased", "eve", SECOND, began=2.5, seconds=0.1),
    ]

    verdict = checks.no_undersell(answers, books(("bob", FIRST), ("eve", SECOND), total=2))

    assert verdict.held is False
    assert "1 attempts won that began after the first sold_out (eve: purchased)" in verdict.words


@pytest.mark.pure
def test_two_orders_of_one_shopper_are_seen():
    answers = [told("purchased", order_id=FIRST), told("purchased", order_id=SECOND)]

    assert "one unit per shopper" in failed(answers, books(("ada", FIRST), ("ada", SECOND), total=2))


@pytest.mark.pure
def test_two_wins_with_one_order_are_seen():
    answers = [told("purchased", order_id=FIRST), told("purchased", order_id=FIRST)]

    assert failed(answers, books(("ada", FIRST))) == {"one unit per shopper"}


@pytest.mark.pure
def test_order_of_two_shoppers_is_seen():
    answers = [told("purchased", "ada", FIRST), told("purchased", "bob", FIRST)]

    assert "one unit per shopper" in failed(answers, books(("ada", FIRST), total=2))


@pytest.mark.pure
def test_order_before_the_start_is_seen():
    seller = replace(books(("ada", FIRST)), starts_ms=STARTS_MS + 1)

    assert failed([told("purchased", order_id=FIRST)], seller) == {"nothing sold before the start"}


@pytest.mark.pure
def test_acknowledged_purchase_that_is_no_order_is_lost():
    assert "acknowledged = orders in SQL" in failed([told("purchased", order_id=FIRST)], books())


@pytest.mark.pure
@pytest.mark.parametrize(
    ("code", "is_told"), [("unknown", False), ("broken", False), ("cut", False), ("sold_out", True)]
)
def test_unacknowledged_order_is_seen_unless_the_answer_was_lost(code: str, is_told: bool):
    verdict = checks.none_lost([told(code)], books(("ada", FIRST)))

    assert verdict.held is not is_told


@pytest.mark.pure
def test_drift_that_the_audit_finds_fails():
    seller = books(("ada", FIRST))
    assert seller.audit
    seller.audit["drift"] = {"purchases_without_order": [f"ada {FIRST}"]}

    assert failed([told("purchased", order_id=FIRST)], seller) == {"no drift"}


@pytest.mark.pure
def test_order_writer_that_is_behind_fails():
    assert failed([], replace(books(), backlog=3)) == {"no drift"}


@pytest.mark.pure
@pytest.mark.parametrize("code", ["unavailable", "unknown", "server_error"])
def test_any_5xx_fails(code: str):
    assert failed([told(code, status=503)], books()) == {"no 5xx"}


@pytest.mark.pure
def test_broken_connection_fails_unless_the_end_cut_it():
    assert failed([told("broken")], books()) == {"every request answered"}
    assert failed([told("cut")], books()) == set()


@pytest.mark.pure
def test_answer_outside_the_contract_fails():
    assert failed([told("sold_out", wrong="418 is not an answer")], books(("bob", FIRST))) >= {
        "every answer is in the contract"
    }


@pytest.mark.pure
@pytest.mark.parametrize(
    "lookup",
    [
        looked_up("has_not_purchased", began=3),
        looked_up("has_purchased", began=3, purchase_time="midnight"),
        looked_up("has_purchased", began=0, purchase_time="noon"),
    ],
)
def test_lookup_that_contradicts_its_answer_is_seen(lookup: Answer):
    bought = told("purchased", order_id=FIRST, purchase_time="noon", began=1)

    assert failed([bought, lookup], books(("ada", FIRST))) == {"what shoppers look up agrees"}


@pytest.mark.pure
def test_lookup_during_the_attempt_may_see_either():
    bought = told("purchased", order_id=FIRST, purchase_time="noon", began=1, seconds=2)
    lookups = [looked_up("has_not_purchased", began=2), looked_up("has_purchased", began=2, purchase_time="noon")]

    assert failed([bought, *lookups], books(("ada", FIRST))) == set()


@pytest.mark.pure
def test_unknowable_points_are_not_checked():
    verdicts = checks.check([told("purchased", order_id=FIRST)], Books(1, 0, STARTS_MS))

    unchecked = [verdict.name for verdict in verdicts if verdict.held is None]
    assert unchecked == ["no undersell", "acknowledged = orders in SQL", "no drift"]


@pytest.mark.pure
@pytest.mark.parametrize(
    ("exit_status", "answers", "held"),
    [
        (0, [told("sold_out")], True),
        (0, [], False),
        (0, [looked_up("has_not_purchased")], False),
        (1, [told("unknown", wrong="503 unknown")], True),
        (1, [told("sold_out")], False),
        (2, [told("sold_out")], False),
        (None, [told("sold_out")], False),
    ],
)
def test_crowd_that_did_not_come_or_did_not_finish_fails(exit_status: int | None, answers: list[Answer], held: bool):
    verdict: Verdict = checks.crowd_came(exit_status, answers)

    assert verdict.held is held


SOLD_OUT = b'{"success":false,"message":"Sold out","remainingStock":0,"code":"sold_out"}'
WON = (
    b'{"success":true,"message":"Yes","remainingStock":0,"code":"purchased","orderId":"%s","purchaseTime":"noon",'
    b'"orderCode":"K7QX-2M9P","receiptUrl":"/receipts/here/"}' % FIRST.encode()
)
REPLAYED = {"idempotent-replayed": "true"}


@pytest.mark.pure
def test_answers_of_the_contract_are_accepted():
    assert contract.purchase(Reply(409, {}, SOLD_OUT)) == ""
    assert contract.purchase(Reply(200, {}, WON)) == ""
    assert contract.replay_of(Reply(200, {}, WON))(Reply(200, REPLAYED, WON)) == ""


@pytest.mark.pure
@pytest.mark.parametrize(
    "reply",
    [
        Reply(),
        Reply(200, {}, SOLD_OUT),
        Reply(409, {}, SOLD_OUT.replace(b"0", b"-1")),
        Reply(409, {}, SOLD_OUT.replace(b"false", b"true")),
        Reply(200, {}, WON.replace(b"orderId", b"order")),
        Reply(200, {}, WON.replace(b"receiptUrl", b"receipt")),
        Reply(200, {}, WON.replace(b"orderCode", b"short")),
        Reply(429, {}, b'{"success":false,"code":"rate_limited","message":"Wait","remainingStock":null}'),
        Reply(503, {"retry-after": "1"}, b'{"success":false,"code":"unknown","message":"?","remainingStock":null}'),
        Reply(400, {}, b"<h1>Bad Request</h1>"),
    ],
)
def test_answers_outside_the_contract_are_not(reply: Reply):
    assert contract.purchase(reply) != ""


@pytest.mark.pure
def test_replay_must_be_marked_and_have_the_same_body():
    check = contract.replay_of(Reply(200, {}, WON))

    assert check(Reply(200, {}, WON)) != ""
    assert check(Reply(200, REPLAYED, WON.replace(b"noon", b"dawn"))) != ""


@pytest.mark.pure
def test_reader_leaves_a_line_that_is_not_whole_for_later(tmp_path: Path):
    answers = [told("sold_out"), told("purchased", order_id=FIRST)]
    writer, reader = Writer(path_in(tmp_path, 1)), Reader(tmp_path)
    for answer in answers:
        writer.add(answer)
    writer.flush()
    whole = path_in(tmp_path, 1).read_bytes()
    path_in(tmp_path, 1).write_bytes(whole[:-5])

    first = reader.read()
    path_in(tmp_path, 1).write_bytes(whole)

    assert first == answers[:1]
    assert reader.read() == answers[1:]


@pytest.mark.pure
@pytest.mark.parametrize("name", PROFILES)
def test_every_profile_has_winners_and_losers(name: str):
    profile = PROFILES[name]

    stock = stock_for(name, profile.users, profile.seconds)

    visits = profile.users * (profile.seconds / 5 if profile.stays else 1)
    assert 0 < stock.total - stock.sold_before < visits


@pytest.mark.pure
def test_percentile_is_the_nearest_rank():
    values = [float(number) for number in range(1, 101)]

    assert [percentile(values, percent) for percent in (50, 95, 99, 100)] == [50, 95, 99, 100]
    assert percentile([7.0], 99) == 7.0
