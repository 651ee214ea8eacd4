"""A short round of every fault. Many rounds: make faults N=1000 SEED=1."""

import pytest

from tests import parts
from tests.faults.rounds import play
from tests.faults.table import FAULTS

pytestmark = pytest.mark.long

NUMBER = 1


@pytest.mark.parametrize("name", [name for name, fault in FAULTS.items() if fault.is_short])
def test_nothing_acknowledged_is_lost_and_nothing_sold_twice_after(name: str):
    fault = FAULTS[name]
    if reason := fault.plan.lacks():
        parts.lack(reason)

    play(name, fault, NUMBER)
