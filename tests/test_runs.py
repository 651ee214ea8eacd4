"""The name of a run of Redis changes whenever the server may have lost something."""

import pytest

from sales.store.runs import name_run

pytestmark = pytest.mark.pure

ALWAYS_A_MASTER = "0" * 40


def test_a_master_that_was_replaced_is_another_run():
    before, after = name_run("a" * 40, ALWAYS_A_MASTER), name_run("a" * 40, "b" * 40)

    assert before != after


def test_a_server_that_starts_again_is_another_run():
    assert name_run("a" * 40, ALWAYS_A_MASTER) != name_run("b" * 40, ALWAYS_A_MASTER)
