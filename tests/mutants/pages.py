"""Planted bugs in what shoppers see: pages, mails and receipts."""

from tests.mutants.mutant import Edit, Mutant

MUTANTS = {
    "quotes make another mailbox": Mutant(
        "tests/test_email_codes.py::test_a_text_that_would_mail_another_address_is_refused",
        Edit("sales/email_codes.py", """if '"' in local or "\\\\" in local:""", "if False:"),
    ),
    "strangers use up the mails of a mailbox": Mutant(
        "tests/test_formlimits.py::test_strangers_cannot_keep_a_mailbox_owner_from_a_code",
        Edit(
            "sales/formlimits.py",
            "return min(wait, email_codes.begin_mail(address, is_last=bool(wait)))",
            "return wait",
        ),
    ),
    "the same dead code is sent again": Mutant(
        "tests/test_email_codes.py::test_used_up_tries_bring_a_new_code_with_all_tries",
        Edit("sales/lua/renew_codes.lua", "redis.call('HSET', KEYS[1], 'typed', ARGV[1], 'tries', 0)", ""),
    ),
    "to ask again gives new tries": Mutant(
        "tests/test_email_codes.py::test_asking_again_extends_the_same_codes_and_keeps_tries",
        Edit(
            "sales/lua/renew_codes.lua",
            "redis.call('EXPIRE'",
            "redis.call('HDEL', KEYS[1], 'tries')\nredis.call('EXPIRE'",
        ),
    ),
    "who asks waits for what the mail server says of the mailbox": Mutant(
        "tests/test_mails.py::test_nobody_waits_for_the_mail_servers_answer",
        Edit("sales/mails.py", "    sending.add_done_callback", "    wait([sending])\n    sending.add_done_callback"),
    ),
    "a mail that fails takes its room for ever": Mutant(
        "tests/test_mails.py::test_a_defect_is_logged_and_blocks_no_other_mail",
        Edit("sales/mails.py", "        _close(connection)\n        _room.release()", "        _close(connection)"),
    ),
    "the code is in the log": Mutant(
        "tests/test_mails.py::test_the_log_hides_codes_that_the_mail_server_quotes",
        Edit("sales/mails.py", "text = text.replace(secret, HIDDEN)", "pass"),
    ),
    "a browser is who a void key has vouched for": Mutant(
        "tests/test_enter.py::test_the_shopper_page_forgets_a_void_confirmation",
        Edit("sales/identities.py", "        tokens.read_for(token, sale.id, sale.key_number)\n", ""),
    ),
    "the page asks again with another key": Mutant(
        "tests/test_browser_trouble.py::test_a_press_is_repeated_with_its_key",
        Edit("static/sales/attempts.js", '"Idempotency-Key": key', '"Idempotency-Key": newKey()'),
    ),
    "the page takes a double press for two": Mutant(
        "tests/test_browser_trouble.py::test_a_double_press_is_one_attempt",
        Edit("static/sales/sale.js", 'shown.isBusy || shown.status !== "active") return', "false) return"),
    ),
    "the shopper's clock drives the countdown": Mutant(
        "tests/test_browser_time.py::test_a_slow_clock_does_not_hold_up_the_countdown",
        Edit("static/sales/clock.js", "() => performance.now() + ahead", "() => Date.now()"),
    ),
    "the page takes an old time from the browser's cache": Mutant(
        "tests/test_browser_time.py::test_a_cached_answer_does_not_set_the_clock",
        Edit("static/sales/news.js", 'isFresh ? "?fresh=1" : ""', '""'),
    ),
    "a receipt's signature is not compared": Mutant(
        "tests/test_receipts.py::test_a_token_with_another_character_is_nobodys",
        Edit("sales/receipts.py", "compare_digest(signature, one)", "True"),
    ),
    "an order that is just being written has no receipt": Mutant(
        "tests/test_receipts.py::test_an_order_that_is_written_between_the_looks_is_found",
        Edit(
            "sales/receipts.py",
            "_in_stream(sale_id, order_id) or _in_sql(sale_id, order_id)",
            "_in_stream(sale_id, order_id)",
        ),
    ),
    "a name finds an order without its code": Mutant(
        "tests/test_find_order.py::test_wrong_name_wrong_code_and_neither_get_the_same_answer",
        Edit("sales/receipt_pages.py", "code = None if is_proven else", "code = None if True else"),
    ),
    "a buyer's name opens the receipt in the buy form": Mutant(
        "tests/test_pages.py::test_buying_twice_with_the_form_leads_to_no_receipt",
        Edit("sales/pages.py", "not is_first and not identities", "False and not identities"),
    ),
    "a code that was told is forgotten with its secret key": Mutant(
        "tests/test_order_codes.py::test_a_code_fits_under_every_secret_key_and_as_stored",
        Edit("sales/order_codes.py", "codes = [stored, *(", "codes = [*("),
    ),
    "who asks for the link in advance uses up the buyer's mails": Mutant(
        "tests/test_find_order.py::test_requests_before_an_order_do_not_use_up_mails",
        Edit("sales/receipt_mails.py", "order is None or not is_allowed()", "not is_allowed() or order is None"),
    ),
    "anybody may look for orders without limit": Mutant(
        "tests/test_find_order.py::test_guesses_at_one_names_code_are_limited_across_addresses",
        Edit("sales/formlimits.py", 'if usage and usage["should_limit"] else 0', "if False else 0"),
    ),
}
