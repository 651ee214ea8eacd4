"""Planted bugs in lists of invited shoppers."""

from tests.mutants.mutant import Edit, Mutant

PURCHASE = "sales/lua/purchase.lua"

MUTANTS = {
    "who is not invited buys": Mutant(
        "tests/test_invited_mirror.py::test_who_is_on_the_list_buys_and_nobody_else",
        Edit(PURCHASE, "  if is_stranger[user] then return 'not_invited', '', remaining end\n", ""),
    ),
    "a list that is not whole turns people away": Mutant(
        "tests/test_invited_mirror.py::test_a_list_that_is_not_whole_is_not_asked",
        Edit(PURCHASE, " or tonumber(count) ~= redis.call('SCARD', KEYS[7])", ""),
    ),
    "a list of mailboxes is asked for names": Mutant(
        "tests/test_invited_mirror.py::test_the_list_of_another_notion_of_a_person_is_not_asked",
        Edit(PURCHASE, " or one_mailbox ~= config[9]", ""),
    ),
    "an older copy's list of invited shoppers is in force": Mutant(
        "tests/test_invited_mirror.py::test_an_older_copy_of_redis_sells_nothing_until_it_has_the_list",
        Edit("sales/continuity.py", "    invited_mirror.follow(sale, trusts_redis=False)\n", ""),
    ),
    "a list from before the sale was open for a while is in force": Mutant(
        "tests/test_invited_mirror.py::test_a_list_from_before_the_sale_was_open_for_a_while_is_not_asked",
        Edit("sales/invited_mirror.py", "        store.client().delete(note)\n    elif", "        pass\n    elif"),
    ),
    "part of a list is put in force": Mutant(
        "tests/test_invited_mirror.py::test_a_part_that_gets_lost_on_the_way_is_noticed",
        Edit("sales/lua/enforce_invited.lua", " or count ~= tonumber(ARGV[2])", ""),
    ),
    "a list that broke off is in force": Mutant(
        "tests/test_invitations.py::test_a_list_that_broke_off_does_not_come_in_force_and_leaves_nothing_for_ever",
        Edit("sales/invitations.py", "    number = _begin(sale)\n", "    number = sale.list_number\n"),
    ),
    "a quotation mark that does not end hides the rest of a list": Mutant(
        "tests/test_invitation_files.py::test_a_quote_that_does_not_end_on_its_line_is_refused_in_any_column_by_the_line_on_which_it_begins",
        Edit("sales/csv_lines.py", "strict=True", "strict=False"),
    ),
    "an address that can never match is on the list": Mutant(
        "tests/test_invitation_files.py::test_what_has_an_at_sign_and_is_no_address_is_refused_by_its_line",
        Edit("sales/invitation_files.py", "            email_codes.read_address(name)\n", "            pass\n"),
    ),
    "a list that one server does not take keeps the others waiting": Mutant(
        "tests/test_invited_mirror.py::test_a_list_that_its_server_does_not_take_keeps_no_other_waiting",
        Edit(
            "sales/invited_mirror.py",
            "        except store.Unavailable as reason:\n            failure = reason\n",
            "        except store.Unavailable:\n            raise\n",
        ),
    ),
}
