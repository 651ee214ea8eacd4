"""Planted bugs in what operators do, and in their pages."""

from tests.mutants.mutant import Edit, Mutant

PURCHASE = "sales/lua/purchase.lua"
PUBLISH = "sales/lua/publish.lua"
CANCEL = "sales/lua/cancel.lua"

MUTANTS = {
    "names on a list that are no addresses are passed over in silence": Mutant(
        "tests/test_invitations_page.py::test_the_answer_counts_names_that_are_no_addresses",
        Edit("sales/desk/invitations_page.py", "        if form.remark:\n", "        if False:\n"),
    ),
    "publishing resets the stock": Mutant(
        "tests/test_publishing.py::test_publishing_twice_does_not_reset_the_stock",
        Edit(PUBLISH, "redis.call('SET', KEYS[2], total - sold)", "redis.call('SET', KEYS[2], total)"),
    ),
    "a total below the units sold is taken": Mutant(
        "tests/test_publishing.py::test_a_total_below_the_units_sold_changes_nothing",
        Edit(PUBLISH, "if total < sold then return {'below_sold', sold} end\n", ""),
    ),
    "a Redis that lost data is published to": Mutant(
        "tests/test_publishing.py::test_a_redis_that_lost_purchases_is_not_sold_from_again",
        Edit(PUBLISH, "or sold < tonumber(ARGV[4]) then return", "and false then return"),
    ),
    "an operator's step is taken from the sale as it was": Mutant(
        "tests/test_desk.py::test_simultaneous_additions_of_stock_both_take_effect",
        Edit("sales/desk/steps.py", "        publishing.lock(sale)\n", ""),
    ),
    "a form takes back what others have changed": Mutant(
        "tests/test_admin.py::test_changes_by_others_survive_a_form_left_open",
        Edit("sales/desk/sale_form.py", "            if _text(saved) == seen[name]:", "            if True:"),
    ),
    "a change that Redis did not take is forgotten": Mutant(
        "tests/test_desk.py::test_a_change_by_a_killed_process_is_mirrored",
        Edit("sales/desk/steps.py", "        sale.mirror_due = True\n", ""),
    ),
    "a cancelled unit comes back as often as it is asked for": Mutant(
        "tests/test_cancelling.py::test_killed_after_redis_took_it_the_unit_comes_back_once",
        Edit(CANCEL, "if purchase and purchase:match('^%S+') == order_id then", "if true then"),
        Edit(CANCEL, "purchase:match('^%S+ %S+ (.+)$')", "purchase and purchase:match('^%S+ %S+ (.+)$')"),
        Edit(CANCEL, "math.max(0, config[2] - redis.call('HLEN', KEYS[3]))", "redis.call('GET', KEYS[2]) + freed"),
    ),
    "a cancellation takes out whatever its shopper has": Mutant(
        "tests/test_cancelling.py::test_killed_after_redis_took_it_the_unit_comes_back_once",
        Edit(CANCEL, "if purchase and purchase:match('^%S+') == order_id then", "if purchase then"),
    ),
    "Redis cancels too many orders at once": Mutant(
        "tests/test_redis_commands.py::test_no_command_takes_or_asks_for_many_members[cancel_all]",
        Edit("sales/cancelling.py", "ORDERS_AT_ONCE = 100", "ORDERS_AT_ONCE = 500"),
    ),
    "a cancellation that Redis did not take is forgotten": Mutant(
        "tests/test_cancelling.py::test_killed_before_redis_took_it_the_order_writer_finishes",
        Edit(
            "sales/cancelling.py",
            "order.may_buy_again, order.cancellation_due = may_buy_again, True",
            "order.may_buy_again = may_buy_again",
        ),
    ),
    "a cancelled purchase stands in for a lost one": Mutant(
        "tests/test_cancelling.py::test_a_cancelled_purchase_does_not_hide_a_lost_one",
        Edit("sales/continuity.py", "            cancelling.enforce_all(sale, sale.epoch)\n", "            pass\n"),
    ),
    "restoring gives back what is cancelled meanwhile": Mutant(
        "tests/test_cancelling.py::test_restoring_takes_out_what_is_cancelled_meanwhile",
        Edit(
            "sales/restoring.py",
            '        cancelled = cancelling.enforce_all(sale, epoch="")\n',
            "        cancelled = 0\n",
        ),
    ),
    "publishing takes a cancellation for a loss": Mutant(
        "tests/test_cancelling.py::test_publishing_does_not_take_a_cancellation_for_a_loss",
        Edit("sales/publishing.py", "            sale.valid_orders().count(),\n", "            sale.orders.count(),\n"),
    ),
    "who may not buy again buys again": Mutant(
        "tests/test_cancelling.py::test_a_barred_shopper_gets_order_cancelled",
        Edit(PURCHASE, "  if is_barred[user] then return 'order_cancelled', '', remaining end\n", ""),
    ),
    "an export holds formulas": Mutant(
        "tests/test_order_admin.py::test_a_cell_is_never_a_formula",
        Edit("sales/csv_lines.py", """return f"'{cell}" if _FORMULA.match(cell) else cell""", "return cell"),
    ),
    "a picture tells where it was taken": Mutant(
        "tests/test_pictures.py::test_metadata_is_gone",
        Edit("sales/pictures.py", "picture_files.bare(upload.read())", "picture_files.Bare(upload.read())"),
        Edit("sales/pictures.py", "quality=QUALITY)", 'quality=QUALITY, exif=image.info.get("exif", b""))'),
    ),
    "a grey of sixteen bits becomes white": Mutant(
        "tests/test_picture_files.py::test_a_grey_ramp_of_sixteen_bits_is_not_white",
        Edit("sales/pictures.py", 'if image.mode == "I;16":', "if False:"),
    ),
    "a thousand units become one": Mutant(
        "tests/test_numbers.py::test_one_separator_before_three_digits_is_refused",
        Edit("sales/numbers.py", "if len(fraction) == 3:", "if False:"),
    ),
    "a time that comes twice is guessed": Mutant(
        "tests/test_moments.py::test_an_ambiguous_time_is_refused_with_working_examples",
        Edit("sales/moments.py", "if first.utcoffset() == second.utcoffset():", "if True:"),
    ),
    "an untouched time changes": Mutant(
        "tests/test_desk_forms.py::test_an_untouched_time_stays_to_the_microsecond",
        Edit("sales/desk/fields.py", "moment for moment in self.known if", "moment for moment in () if"),
    ),
    "what waits for the order writer is taken for drift": Mutant(
        "tests/test_live.py::test_waiting_purchases_are_a_backlog_and_no_drift",
        Edit("sales/live.py", "sold - backlog if group", "sold if group"),
    ),
    "a small file may become an enormous picture": Mutant(
        "tests/test_picture_files.py::test_too_many_pixels_are_refused_before_they_are_decoded",
        Edit("sales/pictures.py", "if width * height > MOST_PIXELS", "if False"),
    ),
    "a session without the code of its second factor is let in": Mutant(
        "tests/test_second_factor.py::test_a_session_that_was_opened_without_the_code_sees_nothing",
        Edit("sales/desk/site.py", " and second_factor.is_satisfied(request)", ""),
    ),
    "who says that they have signed in is believed": Mutant(
        "tests/test_invitations_page.py::test_a_signed_out_operator_cannot_send_large_files",
        Edit(
            "sales/desk/proof.py",
            '    return key if any(compare_digest(given, _made(key, secret)) for secret in secrets) else ""\n',
            "    return key\n",
        ),
        Edit("flashsale/uploads.py", "return SESSION_KEY in SessionStore(session_key).load()", "return True"),
    ),
    "a repeated press is done again": Mutant(
        "tests/test_presses.py::test_stock_that_is_added_twice_at_once_is_added_once",
        Edit("sales/presses.py", "time.time(), nx=True, ex", "time.time(), ex"),
    ),
    "another session may use a form's token": Mutant(
        "tests/test_presses.py::test_no_other_session_may_use_a_token",
        Edit("sales/presses.py", 'value = f"{nonce.hex()} {owner}"', 'value = f"{nonce.hex()}"'),
    ),
    "a kept answer is given to anybody who has the token": Mutant(
        "tests/test_presses.py::test_no_other_session_may_use_a_token",
        Edit("sales/presses.py", "if not marks & set(kept_marks)", "if not kept_marks"),
    ),
    "a repeat gets the first answer without its cookies": Mutant(
        "tests/test_presses.py::test_a_repeated_sign_in_works_with_both_cookies",
        Edit("sales/presses.py", "for name, cookie in response.cookies.items()]", "for name, cookie in ()]"),
    ),
    "a press that broke off is done again": Mutant(
        "tests/test_presses.py::test_a_press_lost_long_ago_is_not_waited_for",
        Edit("sales/presses.py", 'LOST_AFTER_SECONDS else "lost"', 'LOST_AFTER_SECONDS else "first"'),
    ),
}
