"""The mail that leads an order's buyer back to the receipt: to the address that bought, and to no other."""

from collections.abc import Callable

from django.conf import settings
from django.template.loader import render_to_string
from django.utils.translation import gettext

from sales import identities, mails, receipts
from sales.models import Sale


def send(sale: Sale, address: str, is_allowed: Callable[[], bool]) -> None:
    """Send a shopper the link to their order, if the address has one in the sale and `is_allowed` says so then.

    The asker does not learn whether there is an order: the mail server is reached first, in any case. `address` is as
    `email_codes.read_address` returned it. Raises mails.NotSent, store.RedisError, store.Unavailable and
    django.db.DatabaseError.
    """
    mails.send(lambda: _mail(sale, address, is_allowed))


def _mail(sale: Sale, address: str, is_allowed: Callable[[], bool]) -> mails.Mail | None:
    receipts.check_complete(sale)  # before it is looked for: whether there is an order must not be told by the answer
    order = receipts.find_by_name(sale, identities.person(sale, address), None)
    if order is None or not is_allowed():
        return None
    path = receipts.address(sale.id, order.order_id)
    link = settings.PUBLIC_URL + path
    context = {"sale": sale.name, "code": order.order_code, "link": link}
    subject = gettext("Your order: %(sale)s") % context
    return mails.Mail(address, subject, render_to_string("sales/receipt.txt", context), (order.order_code, link, path))
