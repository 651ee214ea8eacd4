"""The operator's desk in a real browser: Django's admin works under the pages' strict policy."""

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import expect

from sales.models import Sale
from tests.browsers import Visitor


@pytest.mark.django_db(transaction=True)  # the server, another process, reads SQL
def test_an_operator_adds_a_sale(visitor: Visitor):
    User.objects.create_superuser("operator", password="correct horse")
    page = visitor.open("/admin/sales/sale/add/")
    page.get_by_label("Username").fill("operator")
    page.get_by_label("Password").fill("correct horse")
    page.get_by_role("button", name="Log in").click()

    page.get_by_label("Product name").fill("Linen Apron")
    page.get_by_label("Total stock").fill("10")
    page.locator("#id_ends_at").fill("2126-02-14T10:00")
    page.get_by_role("button", name="Save", exact=True).click()

    expect(page.get_by_text("Linen Apron is saved")).to_be_visible()
    assert Sale.objects.get().slug == "linen-apron"
    assert visitor.errors == []  # among them what the policy refuses
