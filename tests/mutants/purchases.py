"""Planted bugs in the rules of a purchase, and on the way to them."""

from tests.mutants.mutant import Edit, Mutant

PURCHASE = "sales/lua/purchase.lua"

MUTANTS = {
    "the owner check comes after the decrement": Mutant(
        "tests/test_purchase.py::test_a_second_attempt_returns_the_first_order",
        Edit(
            PURCHASE,
            "  if purchases[user] then\n",
            "  remaining = remaining - 1\n  redis.call('SET', KEYS[2], remaining)\n  if purchases[user] then\n",
        ),
    ),
    "the stock is off by one": Mutant(
        "tests/test_purchase.py::test_the_last_unit_is_sold_and_no_more",
        Edit(PURCHASE, "if remaining <= 0 then", "if remaining < 0 then"),
    ),
    "the start is not looked at": Mutant(
        "tests/test_purchase.py::test_outside_its_window_a_sale_refuses",
        Edit(PURCHASE, "now_us < config[1] * 1000 and 'not_started'", "false and 'not_started'"),
    ),
    "the end is not looked at": Mutant(
        "tests/test_purchase.py::test_outside_its_window_a_sale_refuses",
        Edit(PURCHASE, "now_us >= config[2] * 1000 and 'ended'", "false and 'ended'"),
    ),
    "a pause is not looked at": Mutant(
        "tests/test_purchase.py::test_outside_its_window_a_sale_refuses",
        Edit(PURCHASE, "config[3] == '1' and 'paused'", "false and 'paused'"),
    ),
    "the app's clock decides": Mutant(
        "tests/test_purchase.py::test_the_clock_of_redis_decides",
        Edit(PURCHASE, "local now_us = time[1] * 1000000 + time[2]", "local now_us = tonumber(ARGV[4])"),
        Edit(PURCHASE, "KEYS[9] and call('MGET', unpack(KEYS, 9)) or {}", "{}"),
        Edit("sales/purchases.py", "limit, period_us, *words]", "limit, time.time_ns() // 1000, *words]"),
    ),
    "purchases expire": Mutant(
        "tests/test_purchase.py::test_nothing_that_holds_a_purchase_expires",
        Edit(
            PURCHASE,
            "  if #keys_that_bought > 0 then",
            "  redis.call('EXPIRE', KEYS[3], 60)\n  if #keys_that_bought > 0 then",
        ),
    ),
    "a shopper who comes twice in one batch gets two": Mutant(
        "tests/test_purchase.py::test_one_call_decides_a_batch_in_order",
        Edit(
            PURCHASE,
            "  purchases[user] = order_id .. ' ' .. remaining .. ' ' .. key\n"
            "  claims[#claims + 1] = user\n  claims[#claims + 1] = purchases[user]",
            "  claims[#claims + 1] = user\n  claims[#claims + 1] = order_id .. ' ' .. remaining .. ' ' .. key",
        ),
    ),
    "the limit forgets what came in the same batch": Mutant(
        "tests/test_shopper_limit.py::test_the_limit_counts_within_one_batch_and_for_each_shopper",
        Edit(PURCHASE, "    arrivals[key] = now_us + step_us\n", ""),
    ),
    "the limit refuses who is exactly in time": Mutant(
        "tests/test_shopper_limit.py::test_exactly_the_limit_may_come_at_once",
        Edit(PURCHASE, "if spare_us < 0 then", "if spare_us <= 0 then"),
    ),
    "a shopper who waits as told comes too early": Mutant(
        "tests/test_shopper_limit.py::test_the_wait_is_exact_to_the_millisecond",
        Edit(PURCHASE, "wait_ms[i] = ceil(-spare_us / 1000)", "wait_ms[i] = floor(-spare_us / 1000)"),
    ),
    "the limit allows one more": Mutant(
        "tests/test_shopper_limit.py::test_exactly_the_limit_may_come_at_once",
        Edit(PURCHASE, "local spare_us = (limit - 1) * step_us", "local spare_us = limit * step_us"),
    ),
    "a client chooses its address": Mutant(
        "tests/test_limits.py::test_the_client_is_the_rightmost_address_that_is_no_proxy",
        Edit("sales/addresses.py", "        if not _is_trusted(address):\n            break\n", ""),
    ),
    "a key buys for anybody": Mutant(
        "tests/test_purchase.py::test_a_key_that_bought_for_somebody_else_is_refused",
        Edit(
            PURCHASE,
            "  if key_bought[key] then return 'idempotency_key_reused', '', remaining end\n  if is_barred",
            "  if is_barred",
        ),
    ),
    "an attempt is sent again when its answer is late": Mutant(
        "tests/test_purchase.py::test_an_attempt_whose_answer_is_lost_is_sent_once",
        Edit(
            "sales/store/lane.py",
            "    replies, _ = await _noted(exchange(commands))\n    if missed",
            "    try:\n        replies, _ = await _noted(exchange(commands))\n"
            "    except Failure:\n        replies, _ = await _noted(exchange(commands))\n    if missed",
        ),
    ),
    "a lost answer is told as a refusal": Mutant(
        "tests/test_store_servers.py::test_a_lost_answer_of_redis_is_unknown",
        Edit(
            "sales/store/server.py",
            'raise Unknown(f"the answer from Redis did not arrive: {error}") from error',
            'raise Unavailable(f"the answer from Redis did not arrive: {error}") from error',
        ),
    ),
    "a late answer is told as a refusal": Mutant(
        "tests/test_batcher.py::test_a_call_that_hangs_is_unknown_in_time",
        Edit("sales/batcher.py", 'store.Unknown("Redis did not answer in time")', 'store.Unavailable("late")'),
    ),
    "every attempt makes a call of its own": Mutant(
        "tests/test_batcher.py::test_items_that_arrive_during_a_call_share_the_next",
        Edit("sales/batcher.py", "if self._drain_task is None:", "if True:"),
    ),
    "a batch has no bound": Mutant(
        "tests/test_batcher.py::test_a_batch_is_bounded",
        Edit("sales/batcher.py", "while waiting and len(batch) < self._largest_batch:", "while waiting:"),
    ),
    "what waits is sent to a Redis that has just failed": Mutant(
        "tests/test_batcher.py::test_a_failed_call_fails_its_batch_and_refuses_waiting_items",
        Edit("sales/batcher.py", "            self._refuse_waiting()\n", ""),
    ),
    "case makes another shopper": Mutant(
        "tests/test_shoppers.py::test_the_spelling",
        Edit("sales/shoppers.py", "normal = trimmed.lower()", "normal = trimmed"),
    ),
    "ß is ss in a domain, which is another owner's": Mutant(
        "tests/test_shoppers.py::test_the_spelling",
        Edit("sales/shoppers.py", "_folded(domain.translate(_KEPT)).translate(_AS_KEPT)", "_folded(domain)"),
    ),
    "runs of marks are not measured": Mutant(
        "tests/test_dear_names.py::test_names_too_long_or_with_too_many_marks_are_refused",
        Edit("sales/shoppers.py", "    if _MARKS in are_marks:", "    if False:"),
    ),
    "a clock that was set back limits for an hour": Mutant(
        "tests/test_shopper_limit.py::test_a_clock_that_was_set_back_limits_nobody",
        Edit(PURCHASE, " or ahead_us > most_ahead_us then", " then"),
    ),
    "a crowd in one sale goes before all others": Mutant(
        "tests/test_many_sales.py::test_attempts_and_lookups_take_turns_by_sale",
        Edit("sales/purchases.py", "LARGEST_BATCH, _count, _sale_of)", "LARGEST_BATCH, _count)"),
    ),
}
