"""What scripts and operators type."""

import json
import time
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command

from sales import publishing, store, tokens
from sales.clock import iso
from sales.models import Sale
from tests.conftest import MakeSale
from tests.servers import RedisServer

pytestmark = pytest.mark.django_db


def test_create_sale_publishes_and_prints_json(capsys: pytest.CaptureFixture[str]):
    call_command("create_sale", "--name", "Blue Widget", "--stock", "5")

    printed = json.loads(capsys.readouterr().out)
    sale = Sale.objects.get()
    assert (printed["id"], printed["slug"], printed["productName"]) == (sale.id, "blue-widget", "Blue Widget")
    assert (printed["totalStock"], printed["remainingStock"], printed["path"]) == (5, 5, "/sales/blue-widget/")
    assert sale.ends_at - sale.starts_at == timedelta(days=7)
    assert publishing.standing(sale).is_mirrored(sale)


def test_create_sale_with_everything(capsys: pytest.CaptureFixture[str]):
    times = ("--starts", "2026-02-14T10:00:00Z", "--ends", "2026-02-14T14:00:00+02:00")

    call_command("create_sale", "--name", "W", "--stock", "5", "--slug", "valentine", *times)

    printed = json.loads(capsys.readouterr().out)
    assert printed["slug"] == "valentine"
    assert (printed["startTime"], printed["endTime"]) == ("2026-02-14T10:00:00Z", "2026-02-14T12:00:00Z")


def test_create_sale_says_who_may_buy(capsys: pytest.CaptureFixture[str]):
    call_command("create_sale", "--name", "W", "--stock", "5", "--identity", "verified", "--one-mailbox")

    sale = Sale.objects.get()
    assert json.loads(capsys.readouterr().out)["identity"] == "verified"
    assert (sale.identity, sale.one_mailbox) == ("verified", True)
    assert publishing.standing(sale).config["identity"] == "verified"


def test_sales_of_one_name_get_addresses_of_their_own(capsys: pytest.CaptureFixture[str]):
    for _ in range(3):
        call_command("create_sale", "--name", "Widget", "--stock", "1")

    assert set(Sale.objects.values_list("slug", flat=True)) == {"widget", "widget-2", "widget-3"}


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--stock", "0"], "total_stock: Ensure this value is greater than or equal to 1"),
        (["--stock", "2147483648"], "total_stock: Ensure this value is less than or equal to 2147483647"),
        (["--starts", "tomorrow"], "'tomorrow' is not a time; write it like 2026-02-14T10:00:00Z"),
        (["--starts", "2026-13-01T00:00:00Z"], "is not a time"),
        (["--starts", "2026-02-14T10:00Z", "--ends", "2026-02-14T09:00Z"], "The end must be after the start"),
        (["--slug", "not a slug"], "slug: Enter a valid"),
        (["--slug", "taken"], "slug: Sale with this Slug already exists"),
        (["--name", "x" * 121], "name: Ensure this value has at most 120 characters"),
    ],
)
def test_create_sale_refuses_with_the_reason(make_sale: MakeSale, arguments: list[str], reason: str):
    make_sale(slug="taken")

    with pytest.raises(CommandError, match=reason):
        call_command("create_sale", *_with_defaults(arguments))

    assert Sale.objects.count() == 1


def _with_defaults(arguments: list[str]) -> list[str]:
    defaults = [("--name", "Widget"), ("--stock", "5")]
    return arguments + [word for option in defaults if option[0] not in arguments for word in option]


def test_without_redis_a_created_sale_is_saved_and_published_later(
    redis_server: RedisServer, capsys: pytest.CaptureFixture[str]
):
    redis_server.kill()
    try:
        with pytest.raises(CommandError, match="saved, but not published: Redis cannot be reached"):
            call_command("create_sale", "--name", "Widget", "--stock", "5")
        with pytest.raises(CommandError, match="Redis cannot be reached"):
            call_command("publish_sales")
        with pytest.raises(CommandError, match="nothing is proven"):
            call_command("audit_sale")
        with pytest.raises(CommandError, match="0 orders were written"):
            call_command("write_orders", "--once")
    finally:
        redis_server.start()

    call_command("publish_sales")

    assert "1 of 1 sales are in Redis." in capsys.readouterr().out
    assert publishing.standing(Sale.objects.get()).remaining_stock == 5


def test_publish_sales_names_what_it_refuses(make_sale: MakeSale, capsys: pytest.CaptureFixture[str]):
    sale = make_sale(stock=5)
    store.client().hset(store.key(sale.id, "purchases"), mapping={str(number): "1-0 0 " for number in range(6)})

    with pytest.raises(CommandError, match=f"{sale.slug}: 6 units are sold already"):
        call_command("publish_sales")

    assert "0 of 1 sales" in capsys.readouterr().out


def test_issue_token_prints_what_the_partner_would_send(open_sale: Sale, capsys: pytest.CaptureFixture[str]):
    call_command("issue_token", open_sale.slug, " Ada@Example.com")

    printed = capsys.readouterr().out.strip()
    named = tokens.read_for(printed, open_sale.id, open_sale.key_number)
    assert named.user_id == "ada@example.com"
    assert 14 * 60 <= named.expires_at - time.time() <= 15 * 60


def test_issue_token_signs_with_the_key_of_now(open_sale: Sale, capsys: pytest.CaptureFixture[str]):
    Sale.objects.update(key_number=2)

    call_command("issue_token", open_sale.slug, "ada", "--minutes", "1", "--json")

    printed = json.loads(capsys.readouterr().out)
    named = tokens.read_for(printed["token"], open_sale.id, 2)
    assert (printed["sale"], printed["userId"]) == (open_sale.slug, named.user_id) == (open_sale.slug, "ada")
    assert printed["expiresTime"] == iso(named.expires_at * 1000)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["nothing", "ada"], "nothing"),
        (["widget", ""], "name nobody. The name is empty"),
        (["widget", "a\nb"], "name nobody. The name has a control"),
        (["widget", "x" * 255], "name nobody. The name is longer"),
        (["widget", "ada", "--minutes", "0"], "choose 1 to 10080 minutes"),
        (["widget", "ada", "--minutes", "10081"], "choose 1 to 10080 minutes"),
    ],
)
def test_issue_token_refuses_with_the_reason(
    make_sale: MakeSale, capsys: pytest.CaptureFixture[str], arguments: list[str], reason: str
):
    make_sale(slug="widget")

    with pytest.raises(CommandError, match=reason):
        call_command("issue_token", *arguments)

    assert capsys.readouterr().out == ""
