"""Planted bugs in what becomes of purchases: orders, counts, and comparisons of Redis with SQL."""

from tests.mutants.mutant import Edit, Mutant

PURCHASE = "sales/lua/purchase.lua"
COUNTS = "sales/attempt_counts.py"

MUTANTS = {
    "a new run of Redis is not compared": Mutant(
        "tests/test_continuity.py::test_after_a_restart_nothing_is_sold_until_redis_was_compared",
        Edit(PURCHASE, "if config[5] ~= ARGV[1] or ARGV[2] ~= '' and ARGV[2] ~= ARGV[1] then", "if false then"),
    ),
    "entries are acknowledged before the commit": Mutant(
        "tests/test_orders.py::test_a_writer_killed_before_it_wrote_loses_nothing",
        Edit(
            "sales/orders.py",
            "    with transaction.atomic():\n        reasons |= insert(rows)",
            "    store.client().xack(store.key(sale_id, 'orders'), store.WRITERS, *dict(entries))\n"
            "    with transaction.atomic():\n        reasons |= insert(rows)",
        ),
    ),
    "what SQL refused is acknowledged": Mutant(
        "tests/test_orders.py::test_a_conflicting_entry_is_quarantined_and_the_order_stays",
        Edit(
            "sales/orders.py",
            "    done = [row.order_id for row in rows if (row.order_id, row.user_id) in held]\n",
            "    done = [row.order_id for row in rows]\n",
        ),
    ),
    "a dead writer's entries are left": Mutant(
        "tests/test_orders.py::test_a_writer_killed_before_it_wrote_loses_nothing",
        Edit("sales/orders.py", "pages += _new(streams, consumer)", "pages = _new(streams, consumer)"),
    ),
    "the stream is trimmed by length": Mutant(
        "tests/test_orders.py::test_trimming_removes_only_what_is_acknowledged",
        Edit("sales/lua/tidy.lua", "'MINID', '~', boundary", "'MAXLEN', 1"),
    ),
    "a writer is forgotten with what it was given": Mutant(
        "tests/test_orders.py::test_only_a_writer_that_owes_nothing_is_forgotten",
        Edit("sales/lua/tidy.lua", "writer.pending == 0 and ", ""),
    ),
    "a sale is opened without what was restored": Mutant(
        "tests/test_continuity.py::test_a_loss_during_restoration_keeps_the_sale_closed",
        Edit("sales/lua/reopen.lua", "if sold < tonumber(ARGV[2]) then", "if false then"),
    ),
    "what is written is read back in an order": Mutant(
        "tests/test_query_costs.py::test_a_thirty_times_larger_sale_costs_the_same",
        Edit("sales/orders.py", "for row in rows]).order_by()", "for row in rows])"),
    ),
    "a worker objects only where it is asked": Mutant(
        "tests/test_closures.py::test_a_worker_objects_in_sales_that_nobody_asks_for",
        Edit("sales/closures.py", "            self._start(_object(sale_id))\n", ""),
    ),
    "a shopper may have two orders": Mutant(
        "tests/test_orders.py::test_a_conflicting_entry_is_quarantined_and_the_order_stays",
        Edit(
            "sales/migrations/0005_order_cancellation.py",
            "fields=('sale', 'user_id'), name='one_order_per_shopper'",
            "fields=('sale', 'user_id', 'order_id'), name='one_order_per_shopper'",
        ),
    ),
    "a worker remembers only what it has sold itself": Mutant(
        "tests/test_acknowledged.py::test_every_answer_that_carries_an_order_is_remembered",
        Edit(
            "sales/purchases.py",
            "        answered[order_id] = user_id, number,",
            "        if outcome == b'purchased':\n            answered[order_id] = user_id, number,",
        ),
    ),
    "another worker's comparison is enough": Mutant(
        "tests/test_acknowledged.py::test_a_worker_objects_after_another_found_the_sale_whole",
        Edit("sales/acknowledged.py", "return not self.answers or ", "return True or "),
    ),
    "what is missing is taken in where there is no unit": Mutant(
        "tests/test_acknowledged.py::test_lost_purchases_are_restored_oldest_first",
        Edit("sales/missing.py", "elif len(taken) >= free:", "elif False:"),
    ),
    "the order writer forgets what it has written": Mutant(
        "tests/test_acknowledged.py::test_the_writer_rechecks_its_orders_after_a_change_of_run",
        Edit("sales/orders.py", "    if run_id:\n        written.note", "    if False:\n        written.note"),
    ),
    "of a server that was compared another one is opened": Mutant(
        "tests/test_continuity.py::test_a_confirmation_of_an_earlier_run_opens_nothing",
        Edit("sales/continuity.py", "if found != run_id:", "if False:"),
    ),
    "Redis syncs once a second": Mutant(
        "tests/test_continuity.py::test_the_embedded_redis_has_the_settings_of_the_guarantee",
        Edit("flashsale/embedded_redis.py", '"appendfsync": "always"', '"appendfsync": "everysec"'),
    ),
    "restoring forgets the keys": Mutant(
        "tests/test_continuity.py::test_restoring_brings_back_every_purchase_the_keys_and_the_stock",
        Edit("sales/restoring.py", " for order in page if order.key_digest]:", " for order in page if False]:"),
    ),
    "restoring lets order numbers start again": Mutant(
        "tests/test_continuity.py::test_new_orders_are_numbered_behind_the_restored_ones",
        Edit("sales/restoring.py", "    if newest and ", "    if False and "),
    ),
    "the audit does not look at SQL": Mutant(
        "tests/test_audit.py::test_a_missing_order",
        Edit("sales/audit.py", "    _check_orders(sale, newest, purchases, result)\n", ""),
    ),
    "a count leaves Redis before SQL has it": Mutant(
        "tests/test_attempt_counts.py::test_a_writer_killed_half_way_loses_and_doubles_nothing",
        Edit(
            COUNTS,
            "        with transaction.atomic():\n            if _is_there(sale_id):\n                AttemptCount",
            "        store.client().hdel(key, *(field for field, _ in page))\n"
            "        with transaction.atomic():\n            if _is_there(sale_id):\n                AttemptCount",
        ),
    ),
    "a count that is in Redis and SQL is shown twice": Mutant(
        "tests/test_attempt_counts.py::test_a_count_is_seen_once_wherever_it_is",
        Edit(COUNTS, "counts |= {(count.second, count.worker)", "counts |= {(count.second, f'{count.worker} ')"),
    ),
    "a second that Redis did not take is forgotten": Mutant(
        "tests/test_attempts.py::test_counts_of_a_sale_missing_from_redis_are_eventually_dropped",
        Edit("sales/attempts.py", "for second in seconds if reply == 1 else ():", "for second in seconds:"),
    ),
    "a second is written while it is still counted": Mutant(
        "tests/test_attempts.py::test_attempts_after_a_second_is_written_go_to_another",
        Edit("sales/attempts.py", "        self.second = max(self.second, until)\n", ""),
    ),
    "the last second of a worker is not told": Mutant(
        "tests/test_attempts.py::test_a_stopping_server_reports_its_last_second_and_leaves",
        Edit("sales/attempts.py", "await counting.write(counting.second + 1)", "pass"),
    ),
    "a time to answer is counted one bucket too low": Mutant(
        "tests/test_attempts.py::test_percentiles_match_the_sorted_list_to_a_buckets_width",
        Edit("sales/histogram.py", "histogram[bucket] += longer", "histogram[bucket - 1] += longer"),
    ),
    "the directory is changed without its lock": Mutant(
        "tests/test_postgresql.py::test_changes_of_the_directory_take_turns",
        Edit("sales/directory_mirror.py", "    _lock()\n    found = ", "    found = "),
    ),
    "the directory is not compared with SQL": Mutant(
        "tests/test_directory_mirror.py::test_the_order_writer_mends_a_directory_that_differs",
        Edit("sales/management/commands/write_orders.py", "directory_mirror.catch_up, ", ""),
    ),
}
