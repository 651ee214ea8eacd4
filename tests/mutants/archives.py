"""Planted bugs in archives."""

from tests.mutants.mutant import Edit, Mutant

ARCHIVE = "sales/lua/archive.lua"

MUTANTS = {
    "an archive lets go of another publication": Mutant(
        "tests/test_archiving.py::test_an_archive_does_not_touch_another_publication",
        Edit(ARCHIVE, "if held[3] or publication and publication ~= ARGV[1] then", "if held[3] then"),
    ),
    "an archive is let go that SQL does not have whole": Mutant(
        "tests/test_archiving_race.py::test_a_late_purchase_becomes_an_order_before_redis_forgets_it",
        Edit(ARCHIVE, "if held[1] and redis.call('HLEN', purchases) > tonumber(ARGV[4]) then", "if false then"),
    ),
    "a purchase of an archive that is behind is never written": Mutant(
        "tests/test_archiving_race.py::test_the_order_writer_finishes_an_archive_that_is_behind",
        Edit("sales/orders.py", "Q(archived_at=None) | Q(mirror_due=True)", "archived_at=None"),
    ),
    "an archive is freed while it is given back": Mutant(
        "tests/test_archiving_race.py::test_mirroring_during_a_restoration_frees_nothing",
        Edit(ARCHIVE, "if held[3] or publication", "if publication"),
    ),
    "an archive is freed at once": Mutant(
        "tests/test_archiving_memory.py::test_redis_lets_go_at_once_and_frees_it_in_parts",
        Edit("sales/lua/empty.lua", "\nlocal cursor = '0'\n", "\nlocal cursor, kind = '0', 'none'\n"),
    ),
    "nobody frees what who archived left": Mutant(
        "tests/test_archiving_memory.py::test_the_order_writer_frees_the_rest_after_a_killed_archive",
        Edit("sales/publishing.py", "        if sale.mirror_due and not is_due:\n", "        if sale.mirror_due:\n"),
    ),
    "an archive is let go and freed in one step": Mutant(
        "tests/test_archiving_memory.py::test_redis_lets_go_at_once_and_frees_it_in_parts",
        Edit(ARCHIVE, "redis.call('RENAMENX', KEYS[i], KEYS[i + large])", "redis.call('UNLINK', KEYS[i])"),
    ),
    "what Redis has let go of is looked up there": Mutant(
        "tests/test_archiving.py::test_lookups_are_answered_from_sql",
        Edit("sales/purchases.py", "    if archived.reply:\n", "    if False:\n"),
    ),
    "an end is believed that Redis does not know": Mutant(
        "tests/test_archiving.py::test_an_end_that_redis_does_not_know_is_not_believed",
        Edit("sales/archiving.py", ' or int(standing.config["ends_ms"]) > to_ms(standing.read_at)', ""),
    ),
    "an archive that SQL does not know is believed": Mutant(
        "tests/test_archiving.py::test_a_copy_from_before_it_was_restored_is_closed",
        Edit("sales/archives.py", ' if configs[sale_id]["archived"] == epoch]', "]"),
        Edit("sales/archives.py", "pk__in=configs, archived_at__isnull=False", "pk__in=configs"),
    ),
    "what changed while a sale was compared is archived unseen": Mutant(
        "tests/test_archiving_race.py::test_a_sale_that_sold_during_the_comparison_is_not_archived",
        Edit(
            "sales/archiving.py",
            "if (sale.epoch, sale.ends_at) != proven or standing.sold",
            "if False and standing.sold",
        ),
    ),
}
