"""The receipt, and the form that finds it again: Django views, because they read SQL."""

import logging

from django import forms
from django.db import DatabaseError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext, gettext_lazy
from django.utils.translation import gettext_noop as _
from django.views.decorators.csrf import csrf_exempt

from sales import (
    email_codes,
    formats,
    formlimits,
    identities,
    mails,
    order_codes,
    receipt_mails,
    receipts,
    shoppers,
    store,
    words,
)
from sales.clock import to_ms
from sales.models import Sale
from sales.origins import is_foreign
from sales.refusals import refusal

# The address is the key to the receipt: it goes to no search engine, and to no site that a link leads to.
SECRET = {"Cache-Control": "private, no-store", "Referrer-Policy": "no-referrer", "X-Robots-Tag": "noindex"}

RETRY_AFTER_SECONDS = 5
YOUR_ORDER = _("Your order")
CANCELLED = _("This order is cancelled")
NO_RECEIPT = _("No receipt here")
ONE_MOMENT = _("One moment")
LOST = _("We are looking for your order")
NOT_FOUND = _(
    "There's no order with this name and code in this sale. Check both. You may have bought with another name."
)
NO_ORDER = _("No order for that name in this sale. Check the spelling, and whether you bought with another name.")
NO_SALE = gettext_lazy("Choose a sale from the list.")
NO_CODE = _("Enter your order code. It's on your receipt.")
NOT_A_CODE = _("An order code has eight letters and digits, like %(example)s.")
NO_MAILBOX = _("We can only e-mail the link to an e-mail address. Enter your order code instead.")
NOT_HERE = _(
    "This address is cut off or mistyped. Open the link again or copy all of it. Or choose “Find my order” below."
)
NOT_NOW = _("Your order is safe, but it cannot be shown right now. Load this page again in a moment.")
NOWHERE = _(
    "We gave you this order, but cannot find it. Load this page again later; if that does not help, show the seller "
    "this page's address."
)
NOT_SEARCHED = _("Orders cannot be looked up right now; yours is safe. Try again in a moment.")
NOT_MAILED = _("We can't send e-mail right now. Your order is safe. Try again in a few minutes.")
TOO_MANY_MAILS = _("Too many links were asked for lately from your network. Try again in %(time)s.")
FROM_ELSEWHERE = _("This form came from another site. Choose “Find my order” below, and fill in the form there.")

log = logging.getLogger(__name__)


def receipt(request: HttpRequest, token: str) -> HttpResponse:
    """Show the order that the token names. `?outcome=` is the outcome that the shopper has just had."""
    response = _receipt(request, token)
    for name, value in SECRET.items():
        response[name] = value
    return response


def _receipt(request: HttpRequest, token: str) -> HttpResponse:
    if request.method not in ("GET", "HEAD"):
        return refusal(request, "method_not_allowed", allow="GET, HEAD")
    named = receipts.read(token)
    if named is None:
        return refusal(request, "no_sale", NOT_HERE, headline=NO_RECEIPT)
    try:
        found = receipts.find(*named)
    except (DatabaseError, store.Unavailable) as error:
        log.warning("the receipt of order %s cannot be shown: %s", named[1], error)
        return _not_now(request, NOT_NOW)
    if found is None:
        log.error("order %s of sale %s was acknowledged, but neither SQL nor its stream has it", *reversed(named))
        return _not_now(request, NOWHERE, LOST)
    outcome = request.GET.get("outcome", "")
    context = {
        "receipt": found,
        "is_new": outcome == "purchased" and not found.cancelled_at,
        "headline": _headline(found, outcome),
        "price": formats.price(found.sale.price_text()),
        "bought_at": formats.moment(found.purchased_ms),
        "cancelled_at": formats.moment(to_ms(found.cancelled_at)) if found.cancelled_at else None,
    }
    return render(request, "sales/receipt.html", context)


def _headline(found: receipts.Receipt, outcome: str) -> str:
    if found.cancelled_at:
        return gettext(CANCELLED)
    return words.headline(outcome) if outcome in ("purchased", "already_purchased") else gettext(YOUR_ORDER)


def _not_now(request: HttpRequest, message: str, headline: str = ONE_MOMENT) -> HttpResponse:
    return refusal(request, "unavailable", message, headline=headline, wait_seconds=RETRY_AFTER_SECONDS)


class FindOrder(forms.Form):
    sale = forms.ModelChoiceField(
        Sale.objects.filter(published=True),
        to_field_name="slug",
        error_messages=dict.fromkeys(("required", "invalid_choice"), NO_SALE),
    )
    user_id = forms.CharField(required=False, strip=False)
    order_code = forms.CharField(required=False, strip=False)

    def clean_user_id(self) -> str:
        try:
            return shoppers.find(self.cleaned_data["user_id"])
        except shoppers.InvalidShopper:
            raise forms.ValidationError(words.sentence("invalid_request")) from None


# The form changes nothing here: its origin is what is checked, as on the sale's page.
@csrf_exempt
def find_order(request: HttpRequest) -> HttpResponse:
    """Lead from a sale, a name and an order code to the receipt, or mail its link to the name."""
    if request.method in ("GET", "HEAD"):
        return _find_page(request, FindOrder(initial={"sale": request.GET.get("sale")}))
    if request.method != "POST":
        return refusal(request, "method_not_allowed", allow="GET, HEAD, POST")
    if is_foreign(request):
        return refusal(request, "forbidden", FROM_ELSEWHERE)
    form = FindOrder(request.POST)
    if not form.is_valid():
        return _find_page(request, form, 400)
    try:
        return _mail_link(request, form) if "mail" in request.POST else _open(request, form)
    except mails.NotSent as error:
        log.error("no link to an order was sent: %s", error)
        return refusal(request, "unavailable", NOT_MAILED)
    except (DatabaseError, store.RedisError, store.Unavailable) as error:
        log.warning("orders cannot be looked up: %s", error)
        return _not_now(request, NOT_SEARCHED)


def _open(request: HttpRequest, form: FindOrder) -> HttpResponse:
    """Redirect to the receipt. Whoever has proven to be the shopper needs no code."""
    sale, user_id, typed = (form.cleaned_data[name] for name in ("sale", "user_id", "order_code"))
    is_proven = identities.is_proven(request, sale, user_id)
    code = None if is_proven else order_codes.read(typed)
    if code == "":
        is_empty = not typed.strip()
        return _refused(request, form, "order_code", NO_CODE if is_empty else NOT_A_CODE, 400)
    person = identities.person(sale, user_id)
    if wait_seconds := formlimits.find_wait_seconds(request, "" if is_proven else f"{sale.pk} {person}"):
        return refusal(request, "rate_limited", wait_seconds=wait_seconds)
    order = receipts.find_by_name(sale, person, code)
    if order is None:
        return _refused(request, form, "user_id", NO_ORDER if is_proven else NOT_FOUND, 404)
    return _redirect(receipts.address(sale.id, order.order_id))


def _mail_link(request: HttpRequest, form: FindOrder) -> HttpResponse:
    """Mail the link, if there is an order, and say the same if there is none."""
    sale = form.cleaned_data["sale"]
    try:
        address = email_codes.read_address(form.cleaned_data["user_id"])
    except shoppers.InvalidShopper:
        return _refused(request, form, "user_id", NO_MAILBOX, 400)
    if wait_seconds := formlimits.link_wait_seconds(request):
        return refusal(request, "rate_limited", TOO_MANY_MAILS, wait_seconds=wait_seconds)
    receipt_mails.send(sale, address, lambda: formlimits.may_mail_link(request, sale, address))
    return _redirect(f"{reverse('find_order')}?sale={sale.slug}&mailed=1")


def _redirect(address: str) -> HttpResponse:
    return HttpResponse(status=303, headers={"Cache-Control": "private, no-store", "Location": address})


def _refused(request: HttpRequest, form: FindOrder, field: str, message: str, status: int) -> HttpResponse:
    form.add_error(field, gettext(message) % {"example": order_codes.EXAMPLE})
    return _find_page(request, form, status)


def _find_page(request: HttpRequest, form: FindOrder, status: int = 200) -> HttpResponse:
    context = {
        "form": form,
        "example": order_codes.EXAMPLE,
        "can_mail": mails.can_send(),
        "is_mailed": "mailed" in request.GET,
        "icon": words.icon("purchased"),
    }
    response = render(request, "sales/find_order.html", context, status=status)
    response["Cache-Control"] = "private, no-store"
    return response
