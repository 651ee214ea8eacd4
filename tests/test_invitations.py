"""Lists of invited shoppers in SQL: added to, replaced, looked up, and whole whoever dies or comes at the same time."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import connection

from sales import invitations, invited_mirror
from sales.invitations import Replaced, Written
from sales.models import Invitation, Sale
from tests.conftest import MakeSale


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(invited_mirror, "SETTLES_SECONDS", 0)
    monkeypatch.setattr(invitations, "PAUSE_SECONDS", 0)


@pytest.fixture
def sale(make_sale: MakeSale) -> Sale:
    return make_sale(identity="invited")


def listed(sale: Sale) -> list[str]:
    return sorted(Sale.objects.get(pk=sale.pk).invited().values_list("user_id", flat=True))


def test_shoppers_are_added_once(sale: Sale):
    first = invitations.add(sale, ["ada", "bob", "ada"])
    second = invitations.add(sale, ["bob", "cyd"])

    assert (first, second) == (Written(2, 0, 1, 0, 2), Written(1, 1, 0, 2, 3))
    assert listed(sale) == ["ada", "bob", "cyd"]


def test_a_list_takes_the_place_of_another(sale: Sale):
    invitations.add(sale, ["ada", "bob"])

    written = invitations.replace(sale, ["bob", "cyd", "dan"])
    invitations.tidy(sale)

    assert written == Written(3, 0, 0, 2, 3)
    assert listed(sale) == ["bob", "cyd", "dan"]
    assert Invitation.objects.count() == 3


def test_another_sales_list_is_left_alone(sale: Sale, make_sale: MakeSale):
    other = make_sale(name="another", identity="invited")
    invitations.add(other, ["ada"])

    invitations.add(sale, ["ada", "bob"])
    invitations.empty(sale)
    invitations.tidy(sale)

    assert (listed(sale), listed(other)) == ([], ["ada"])


def test_each_change_is_another_version_that_redis_has_to_get(sale: Sale):
    versions = {sale.list_version}
    for change in (
        lambda: invitations.add(sale, ["ada", "bob"]),
        lambda: invitations.add(sale, ["ada"]),  # an attempt that broke off may have told nobody
        lambda: invitations.remove(sale, "ada"),
        lambda: invitations.replace(sale, ["bob"]),
        lambda: invitations.empty(sale),
    ):
        Sale.objects.update(list_due=False)
        change()
        assert Sale.objects.get().list_due
        versions.add(Sale.objects.get().list_version)

    assert len(versions) == 6


def test_an_invitation_is_found_and_removed(sale: Sale):
    invitations.add(sale, ["ada@example.com", "ada+2@example.com", "bob"])

    assert invitations.found(sale, "ada@example.com") == ["ada@example.com"]
    assert invitations.remove(sale, "ada@example.com") == 1
    assert invitations.remove(sale, "ada@example.com") == 0
    assert listed(sale) == ["ada+2@example.com", "bob"]


def test_one_mailbox_finds_and_removes_all_its_spellings(make_sale: MakeSale):
    sale = make_sale(identity="invited", one_mailbox=True)
    spellings = ["a.da+1@gmail.com", "ada@googlemail.com", "a.d.a@gmail.com"]
    invitations.add(sale, [*spellings, "ada@example.com"])

    assert sorted(invitations.found(sale, "ada+9@gmail.com")) == sorted(spellings)
    assert invitations.remove(sale, "ada+9@gmail.com") == 3
    assert listed(sale) == ["ada@example.com"]


def test_the_history_records_operator_change_and_invited_counts(sale: Sale):
    olga = User.objects.create_superuser("olga")

    invitations.add(sale, ["ada", "bob", "cyd"], olga)
    invitations.remove(sale, "bob", olga)
    invitations.replace(sale, ["dan"], olga)

    assert [(entry.user.username, entry.change_message) for entry in LogEntry.objects.order_by("id")] == [
        ("olga", "Invitations. Addresses added. Invited: 0 → 3."),
        ("olga", "Invitations. bob removed. Invited: 3 → 2."),
        ("olga", "Invitations. List replaced. Invited: 2 → 1."),
    ]


def dies_after(count: int, *, at: type[BaseException] = KeyboardInterrupt) -> Iterator[str]:
    """Yield shoppers, and break off."""
    yield from map(str, range(count))
    raise at


@pytest.fixture
def short_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    def pages(items: Any) -> Iterator[list[Any]]:
        return ([item] for item in items)

    monkeypatch.setattr(invitations, "pages", pages)


@pytest.mark.usefixtures("short_pages")
def test_a_broken_off_list_never_takes_effect_or_lingers(sale: Sale):
    invitations.add(sale, ["ada"])
    with pytest.raises(KeyboardInterrupt):
        invitations.replace(sale, dies_after(3))
    after = listed(sale)

    invitations.replace(sale, ["bob"])
    invitations.tidy(sale)

    assert (after, listed(sale)) == (["ada"], ["bob"])
    assert Invitation.objects.count() == 1


@pytest.mark.usefixtures("short_pages")
def test_an_addition_that_broke_off_is_mended_by_repeating_it(sale: Sale):
    with pytest.raises(KeyboardInterrupt):
        invitations.add(sale, dies_after(2))

    written = invitations.add(sale, map(str, range(4)))
    invited_mirror.mirror(sale)

    assert written == Written(2, 2, 0, 2, 4)
    assert invited_mirror.look(sale).members == 4


@pytest.mark.usefixtures("short_pages")
@pytest.mark.parametrize("write", [invitations.add, invitations.replace])
def test_a_change_overtaken_by_another_list_changes_nothing(sale: Sale, write: Any):
    def slow() -> Iterator[str]:
        yield "ada"
        invitations.replace(Sale.objects.get(), ["bob"])
        yield "cyd"

    with pytest.raises(Replaced):
        write(sale, slow())

    assert listed(sale) == ["bob"]
    assert Invitation.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_two_simultaneous_additions_both_take_effect(sale: Sale):
    together, found = threading.Barrier(2), []

    def add(first: int) -> None:
        together.wait()
        try:
            found.append(invitations.add(Sale.objects.get(), map(str, range(first, first + 12_000))))
        finally:
            connection.close()

    threads = [threading.Thread(target=add, args=(first,)) for first in (0, 6_000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sum(written.added for written in found) == len(listed(sale)) == 18_000
    assert sum(written.known for written in found) == 6_000


def test_the_command_adds_a_file_and_puts_it_in_force(sale: Sale, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "list.csv").write_text("email\nada@example.com\nBOB@example.com\n")
    (tmp_path / "other.csv").write_text("cyd@example.com\nbob@example.com\n")

    call_command("import_invitations", sale.slug, str(tmp_path / "list.csv"))
    call_command("import_invitations", sale.slug, str(tmp_path / "other.csv"))
    added = listed(sale)
    call_command("import_invitations", sale.slug, str(tmp_path / "other.csv"), "--replace")

    assert added == ["ada@example.com", "bob@example.com", "cyd@example.com"]
    assert listed(sale) == ["bob@example.com", "cyd@example.com"]
    assert invited_mirror.look(sale).is_current(Sale.objects.get())
    assert "1 added, 1 were on the list already; 3 are invited." in capsys.readouterr().out


def test_the_command_counts_names_that_are_no_addresses(sale: Sale, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "list.csv").write_text("ada@example.com\nbob example.com\n")

    call_command("import_invitations", sale.slug, str(tmp_path / "list.csv"))

    assert "1 of those in the file is no e-mail address, “bob example.com”: it is only" in capsys.readouterr().out
    assert listed(sale) == ["ada@example.com", "bob example.com"]


def test_the_command_names_bad_lines_and_changes_nothing(sale: Sale, tmp_path: Path):
    (tmp_path / "list.csv").write_text("ada\nb\x07b\n")

    with pytest.raises(CommandError, match="line 2: The name has a control"):
        call_command("import_invitations", sale.slug, str(tmp_path / "list.csv"))
    with pytest.raises(CommandError, match=r"nothing\.csv cannot be read"):
        call_command("import_invitations", sale.slug, str(tmp_path / "nothing.csv"))

    assert listed(sale) == []


def test_the_command_counts_repeated_lines_of_the_file(sale: Sale, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    invitations.add(sale, ["bob@example.com"])
    (tmp_path / "list.csv").write_text("ada@example.com\nADA@example.com\nbob@example.com\nbob@example.com\n")

    call_command("import_invitations", sale.slug, str(tmp_path / "list.csv"))

    told = "1 added, 1 were on the list already, 2 stood in the file more than once; 2 are invited."
    assert told in capsys.readouterr().out


@pytest.mark.usefixtures("short_pages")
def test_a_name_repeated_pages_later_is_no_known_one(sale: Sale):
    names = [f"{number}" for number in range(20)]

    added = invitations.add(sale, [*names, *names])
    replaced = invitations.replace(sale, [*names, *names])

    assert (added.added, added.known, added.repeated) == (20, 0, 20)
    assert (replaced.added, replaced.known, replaced.repeated) == (20, 0, 20)
