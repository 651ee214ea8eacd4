"""The receipt, and the form that finds it again: Django views, because they read SQL."""

import logging

from django import forms
from django.db import DatabaseError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext, gettext_lazy
from django.utils.translation import gettext_noop as _
from django.views.decorators.csrf import csrf_exempt

from sales import formats, formlimits, identities, receipts, shoppers, store, words
from sales.clock import to_ms
from sales.endpoints import Refused
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
NOT_CONFIRMED = gettext_lazy(
    "In this sale everybody sees only their own order. Confirm this e-mail address first, by “My e-mail address” below."
)
NOT_FOUND = gettext_lazy(
    "No order for that name in this sale. Check the spelling, and whether you bought with another name."
)
NO_SALE = gettext_lazy("Choose a sale from the list.")
NOT_HERE = _(
    "This address is cut off or mistyped. Open the link again or copy all of it; "
    "or choose “Find my order” below and type the name that you bought with."
)
NOT_NOW = _("Your order is safe, but it cannot be shown right now. Load this page again in a moment.")
NOWHERE = _(
    "We gave you this order, but cannot find it. Load this page again later; if that does not help, show the seller "
    "this page's address."
)
NOT_SEARCHED = _("Orders cannot be looked up right now; yours is safe. Try again in a moment.")
FROM_ELSEWHERE = _("This form came from another site. Choose “Find my order” below, and type the name there.")

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

    def clean_user_id(self) -> str:
        try:
            return shoppers.find(self.cleaned_data["user_id"])
        except shoppers.InvalidShopper:
            raise forms.ValidationError(words.sentence("invalid_request")) from None


# The form only reads, and no cookie says who sends it: as on the sale's page, its origin is what is checked.
@csrf_exempt
def find_order(request: HttpRequest) -> HttpResponse:
    """Lead from a sale and a name to the receipt."""
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
        if wait_seconds := formlimits.wait_seconds(request, "find_order", _limits(form)):
            return refusal(request, "rate_limited", wait_seconds=wait_seconds)
        sale, user_id = form.cleaned_data["sale"], form.cleaned_data["user_id"]
        identities.check_may_ask(request, sale, user_id)
        address = receipts.address_by_name(sale, identities.person(sale, user_id))
    except Refused:
        form.add_error("user_id", NOT_CONFIRMED)
        return _find_page(request, form, 403)
    except (DatabaseError, store.RedisError, store.Unavailable) as error:
        log.warning("orders cannot be looked up: %s", error)
        return _not_now(request, NOT_SEARCHED)
    if address:
        return HttpResponse(status=303, headers={"Cache-Control": "private, no-store", "Location": address})
    form.add_error("user_id", NOT_FOUND)
    return _find_page(request, form, 404)


def _limits(form: FindOrder) -> formlimits.Limits:
    """Return the limits of one address, and of one name whatever address asks for it."""
    return {
        "address": formlimits.by_address("20/m"),
        "name": ("10/m", lambda group, request: form.cleaned_data["user_id"]),
    }


def _find_page(request: HttpRequest, form: FindOrder, status: int = 200) -> HttpResponse:
    response = render(request, "sales/find_order.html", {"form": form}, status=status)
    response["Cache-Control"] = "private, no-store"
    return response
