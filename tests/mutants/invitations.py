"""Planted bugs in lists of invited shoppers."""

from tests.mutants.mutant import Edit, Mutant

PURCHASE = "sales/lua/purchase.lua"

MUTANTS = {
    "who is not invited buys": Mutant(
        "tests/test_invited_mirror.py::test_only_shoppers_on_the_list_buy",
        Edit(PURCHASE, "  if is_stranger[user] then return 'not_invited', '', remaining end\n", ""),
    ),
    "a list that is not whole turns people away": Mutant(
        "tests/test_invited_mirror.py::test_a_list_that_is_not_whole_is_not_asked",
        Edit(PURCHASE, " or tonumber(count) ~= redis.call('SCARD', KEYS[7])", ""),
    ),
    "a list of mailboxes is asked for names": Mutant(
        "tests/test_invited_mirror.py::test_a_list_for_another_mailbox_rule_is_not_used",
        Edit(PURCHASE, " or one_mailbox ~= config[9]", ""),
    ),
    "an older copy's list of invited shoppers is in force": Mutant(
        "tests/test_invited_mirror.py::test_an_older_copy_of_redis_waits_for_the_list",
        Edit("sales/continuity.py", "    invited_mirror.follow(sale, trusts_redis=False)\n", ""),
    ),
    "a list from before the sale was open for a while is in force": Mutant(
        "tests/test_invited_mirror.py::test_a_list_from_before_an_open_phase_is_not_used",
        Edit("sales/invited_mirror.py", "        store.client().delete(note)\n    elif", "        pass\n    elif"),
    ),
    "part of a list is put in force": Mutant(
        "tests/test_invited_mirror.py::test_a_part_that_gets_lost_on_the_way_is_noticed",
        Edit("sales/lua/enforce_invited.lua", " or count ~= tonumber(ARGV[2])", ""),
    ),
    "a list that broke off is in force": Mutant(
        "tests/test_invitations.py::test_a_broken_off_list_never_takes_effect_or_lingers",
        Edit("sales/invitations.py", "    number = _begin(sale)\n", "    number = sale.list_number\n"),
    ),
    "a quotation mark that does not end hides the rest of a list": Mutant(
        "tests/test_invitation_files.py::test_an_unclosed_quote_is_refused_by_its_first_line",
        Edit("sales/csv_lines.py", "strict=True", "strict=False"),
    ),
    "an address that can never match is on the list": Mutant(
        "tests/test_invitation_files.py::test_an_invalid_address_is_refused_by_its_line",
        Edit("sales/invitation_files.py", "            email_codes.read_address(name)\n", "            pass\n"),
    ),
    "a list that one server does not take keeps the others waiting": Mutant(
        "tests/test_invited_mirror.py::test_a_list_that_fails_does_not_delay_other_lists",
        Edit(
            "sales/invited_mirror.py",
            "        except store.Unavailable as reason:\n            failure = reason\n",
            "        except store.Unavailable:\n            raise\n",
        ),
    ),
}
