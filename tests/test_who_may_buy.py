"""Who may buy, as an operator sets it in the sale's form."""

import html

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.test import Client

from sales import publishing
from sales.models import Sale
from tests.test_admin import LIST, add, add_published, buy, change, form

pytestmark = pytest.mark.usefixtures("static_files")

VERIFIED = {"identity": "verified", "one_mailbox": "on"}
FIXED = "1 units are sold already: leave this as it is."


@pytest.fixture
def operator(transactional_db: None) -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("operator"))
    return client


def mirrored(sale: Sale) -> tuple[str, str]:
    config = publishing.standing(sale).config
    return config["identity"], config["one_mailbox"]


def test_a_sale_is_open_to_everybody_by_default(operator: Client):
    page = operator.get(f"{LIST}add/").content.decode()

    assert "Who may buy" in page
    assert '<option value="open" selected>' in page
    assert mirrored(add_published(operator)) == ("open", "0")


def test_the_saved_choice_of_buyers_takes_effect(operator: Client):
    sale = add_published(operator, starts_at="2031-05-01T10:00", ends_at="2031-05-02T10:00")

    change(operator, sale, starts_at="2031-05-01T10:00", ends_at="2031-05-02T10:00", **VERIFIED)

    assert mirrored(sale) == ("verified", "1")
    message = html.unescape(LogEntry.objects.latest("id").change_message)
    assert "Who may buy: Everybody: the name that is typed is believed → Who has confirmed an e-mail address" in message
    assert "One mailbox, one person: each address is a person → each mailbox is a person" in message


def test_a_copy_lets_the_same_people_buy(operator: Client):
    sale = add(operator, **VERIFIED)

    page = operator.get(f"{LIST}add/?copy={sale.id}")

    initial = page.context["adminform"].form.initial
    assert (initial["identity"], initial["one_mailbox"]) == ("verified", True)


@pytest.mark.parametrize("before", [{}, {"one_mailbox": "on"}])
def test_spellings_are_fixed_once_a_unit_is_sold(operator: Client, before: dict[str, str]):
    sale = add_published(operator, **before)
    buy(sale, "ada+2@example.com")
    after = {} if before else {"one_mailbox": "on"}

    refused = change(operator, sale, **after)
    saved = change(operator, sale, **before, name="Another name")

    assert FIXED in refused
    assert FIXED not in saved
    sale.refresh_from_db()
    assert (sale.one_mailbox, sale.name) == (bool(before), "Another name")
    assert mirrored(sale)[1] == str(int(bool(before)))


def test_spellings_are_fixed_while_a_unit_may_be_sold(operator: Client):
    sale = add_published(operator)

    refused = change(operator, sale, one_mailbox="on")
    operator.post(f"{LIST}{sale.id}/pause-sale/")
    change(operator, sale, one_mailbox="on")

    assert "The sale may sell a unit at any moment. Pause it, then change this." in refused
    assert mirrored(sale)[1] == "1"


def test_a_sale_with_proven_buyers_cannot_become_open(operator: Client):
    sale = add_published(operator, identity="verified")
    change(operator, sale, identity="open")
    change(operator, sale, identity="verified")
    buy(sale, "ada@example.com")

    refused = change(operator, sale, identity="open")
    change(operator, sale, identity="invited")

    assert "1 units are sold already to shoppers who have proven who they are." in refused
    assert mirrored(sale)[0] == "invited"


def test_an_open_sale_may_ask_for_proof_later(operator: Client):
    sale = add_published(operator)
    buy(sale, "ada@example.com")

    change(operator, sale, identity="verified")

    assert mirrored(sale)[0] == "verified"


@pytest.mark.parametrize("identity", ["", "anybody"])
def test_no_other_choice_is_taken(operator: Client, identity: str):
    page = operator.post(f"{LIST}add/", form(identity=identity))

    assert page.status_code == 200
    assert page.context["adminform"].form.errors.keys() == {"identity"}
    assert not Sale.objects.exists()
