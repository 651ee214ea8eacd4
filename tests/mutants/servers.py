"""Planted bugs in clusters and failovers."""

from tests.mutants.mutant import Edit, Mutant

MUTANTS = {
    "a server of a cluster that fails takes the others with it": Mutant(
        "tests/test_store_servers.py::test_a_server_that_fails_leaves_the_others_answers",
        Edit("sales/store/cluster.py", "self._learn_soon()  # another one may be the master by now", "raise"),
    ),
    "what a server sends on stays where it is": Mutant(
        "tests/test_store_servers.py::test_a_command_follows_its_slot_to_another_server",
        Edit("sales/store/cluster.py", "MOST_HOPS = 5", "MOST_HOPS = 1"),
    ),
    "a replica that takes over is not compared with SQL": Mutant(
        "tests/test_continuity.py::test_a_redis_that_lost_data_closes_the_sale",
        Edit(
            "sales/continuity.py",
            "        for sale_id, reason in reasons.items():\n            if reason:\n",
            "        for sale_id in reasons:\n            reasons[sale_id] = reason = ''\n            if reason:\n",
        ),
    ),
    "a master that was replaced for a while is believed": Mutant(
        "tests/test_runs.py::test_a_master_that_was_replaced_is_another_run",
        Edit("sales/store/runs.py", 'if replaced_id.strip("0")', "if False"),
    ),
    "a master that refuses has no successor": Mutant(
        "tests/test_successor.py::test_the_successor_of_a_master_that_refuses_is_found",
        Edit("sales/store/cluster.py", "if any(map(may_have_successor, answer[0])):", "if False:"),
    ),
}
