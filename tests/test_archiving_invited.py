"""An archived sale to which shoppers were invited: its list is in SQL alone, and comes back with everything else."""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest
from django.core.management import call_command
from django.test import Client
from django.utils import timezone

from sales import continuity, health, invitations, invited_mirror, publishing, purchases, restoring, store
from sales.archiving import archive
from sales.audit import audit, repair
from sales.models import Sale
from sales.orders import consumer_name, run_once
from tests.conftest import MakeSale

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("static_files")]


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(invited_mirror, "SETTLES_SECONDS", 0)


@pytest.fixture
def archived_sale(make_sale: MakeSale) -> Sale:
    """Ada and bob were invited, and ada has bought."""
    sale = make_sale(identity="invited")
    invite(sale, "ada", "bob")
    assert outcome(sale, "ada") == "purchased"
    run_once(consumer_name())
    sale.ends_at = timezone.now() - timedelta(seconds=1)
    sale.save(update_fields=["ends_at"])
    publishing.publish(sale)
    archive(sale)
    return sale


def invite(sale: Sale, *user_ids: str) -> None:
    invitations.replace(sale, user_ids)
    assert invited_mirror.mirror(sale)


def outcome(sale: Sale, user_id: str) -> str:
    return asyncio.run(purchases.buy(sale.id, user_id)).outcome


def keys(sale: Sale) -> set[str]:
    """Return the names of what Redis holds of the sale, but for rate limits."""
    names = {key.decode().split(":", 2)[2] for key in store.client().keys(f"{{sale:{sale.id}}}:*")}
    return {name for name in names if not name.startswith("ratelimit")}


def test_redis_drops_the_list_and_sql_answers(archived_sale: Sale):
    assert keys(archived_sale) == {"config"}
    assert [outcome(archived_sale, user_id) for user_id in ("ada", "bob", "eve")] == [
        *("already_purchased", "ended", "ended")
    ]


def test_mirrors_and_repairs_put_no_list_back_into_redis(archived_sale: Sale):
    publishing.publish(archived_sale)
    assert continuity.confirm(archived_sale.id, store.run_id_blocking()) == ""
    invite(archived_sale, "ada", "zoe")
    assert not invited_mirror.is_due()
    invited_mirror.catch_up()

    assert audit(archived_sale).drift == {}
    assert repair(archived_sale) == []
    assert keys(archived_sale) == {"config"}


def test_a_mirror_that_looked_before_archiving_makes_no_list(archived_sale: Sale):
    assert invited_mirror._take_turn(archived_sale, "maker")

    with pytest.raises(invited_mirror._Superseded):
        invited_mirror._make(archived_sale, "maker")

    invited_mirror._end_turn(archived_sale, "maker")
    assert keys(archived_sale) == {"config"}


async def test_it_is_not_closed_for_want_of_a_list(archived_sale: Sale):
    assert (await health._redis())["closed"] == {}


def test_list_changes_say_that_they_wait_for_restoration(
    archived_sale: Sale, admin_client: Client, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    file = tmp_path / "list.csv"
    file.write_text("zoe@example.com\n")
    address = f"/admin/sales/sale/{archived_sale.pk}/invitations/"

    call_command("import_invitations", archived_sale.slug, str(file))
    with file.open("rb") as opened:
        form = {"step": "upload", "mode": "add", "file": opened}
        page = admin_client.post(address, form, follow=True).content.decode()

    told = capsys.readouterr().out
    for text in (told, page):
        assert "1 added, 0 were" in text or "0 added, 1 were" in text
        assert "The sale is archived: it sells nothing, and the list is in force once" in text
        assert "It is in force." not in text
    assert keys(archived_sale) == {"config"}
    assert archived_sale.invited().count() == 3


def test_restoring_gives_the_list_back(archived_sale: Sale):
    restoring.restore(archived_sale)
    invited_mirror.catch_up()

    archived_sale.refresh_from_db()
    assert audit(archived_sale).drift == {}
    archived_sale.ends_at = timezone.now() + timedelta(hours=1)
    archived_sale.save(update_fields=["ends_at"])
    publishing.publish(archived_sale)
    assert [outcome(archived_sale, user_id) for user_id in ("eve", "bob")] == ["not_invited", "purchased"]
