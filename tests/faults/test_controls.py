"""Controls: the same rounds, on copies of the project with a planted bug. The checker must see each."""

import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.faults.programs import PROJECT_DIR
from tests.faults.rounds import play
from tests.faults.table import FAULTS

pytestmark = pytest.mark.long


# A round in which nobody meets the bug, on a busy machine for instance, shows nothing.
MOST_ROUNDS = 10


class Bug(NamedTuple):
    """A change to one file of the project, the fault that brings it to light, and a piece of the complaint."""

    file: str
    right: str
    wrong: str
    fault: str
    complaint: str


BUGS = {
    "stock_is_taken_twice": Bug(
        "sales/lua/purchase.lua",
        "redis.call('SET', KEYS[2], remaining)",
        "redis.call('SET', KEYS[2], remaining - 1)",
        "redis_scripts_flushed",
        "!= total",
    ),
    "a_lost_answer_is_called_a_refusal": Bug(
        "sales/store/server.py",
        'raise Unknown(f"the answer from Redis did not arrive',
        'raise Unavailable(f"the answer from Redis did not arrive',
        "redis_answers_lost",
        "purchases by attempts that were refused",
    ),
    "an_older_copy_is_believed": Bug(
        "sales/continuity.py",
        "        for sale_id, reason in reasons.items():\n            if reason:\n                close(",
        '        reasons |= dict.fromkeys(reasons, "")\n'
        "        for sale_id, reason in reasons.items():\n            if reason:\n                close(",
        "redis_replaced_by_older_copy",
        "purchases are lost, and",
    ),
    "orders_are_acknowledged_before_commit": Bug(
        "sales/orders.py",
        "    with transaction.atomic():\n        reasons |= insert(rows)",
        "    if entries:\n"
        '        store.client().xack(store.key(sale_id, "orders"), store.WRITERS, *dict(entries))\n'
        "    with transaction.atomic():\n        reasons |= insert(rows)",
        "writer_killed_before_commit",
        "orders differ from purchases",
    ),
    "a_cancelled_unit_comes_back_twice": Bug(
        "sales/lua/cancel.lua",
        "if freed > 0 and config[2] then redis.call('SET', KEYS[2], "
        "math.max(0, config[2] - redis.call('HLEN', KEYS[3]))) end",
        "redis.call('INCRBY', KEYS[2], (#ARGV - 1) / 3)",
        "canceller_killed_before_sql_knows",
        "!= total",
    ),
    "a_cancellation_does_not_reach_redis": Bug(
        "sales/cancelling.py",
        "order.may_buy_again, order.cancellation_due = may_buy_again, True",
        "order.may_buy_again = may_buy_again",
        "cancelling",
        "cancelled orders are still purchases",
    ),
}


@pytest.mark.parametrize("name", BUGS)
def test_the_checker_sees_that(name: str, tmp_path: Path):
    bug = BUGS[name]
    for part in ("flashsale", "sales", "static", "templates"):
        # With what is compiled; but not what another process is just compiling.
        shutil.copytree(PROJECT_DIR / part, tmp_path / part, ignore=shutil.ignore_patterns("*.pyc.*"))
    for part in ("manage.py", "requirements.txt"):
        shutil.copy2(PROJECT_DIR / part, tmp_path / part)
    path = tmp_path / bug.file
    assert path.read_text().count(bug.right) == 1, "the bug does not fit the code any more"
    path.write_text(path.read_text().replace(bug.right, bug.wrong))

    heard = []
    for number in range(1, MOST_ROUNDS + 1):
        try:
            heard.append(play(bug.fault, FAULTS[bug.fault], number, project_dir=tmp_path))
        except AssertionError as complaint:
            heard.append(str(complaint))
        if bug.complaint in heard[-1]:
            return
    pytest.fail(f"the checker does not see it: {heard}")
