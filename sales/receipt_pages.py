"""The receipt, and the form that finds it again: Django views, because they read SQL."""

import logging
from typing import Any

from django import forms
from django.db import DatabaseError
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.views.decorators.csrf import csrf_exempt

from sales import formlimits, pages, receipts, shoppers, store
from sales.addresses import address_of
from sales.clock import iso, readable
from sales.models import Sale
from sales.origins import is_foreign
from sales.outcomes import headline

UNCACHED = {**pages.HEADERS, "Cache-Control": "private, no-store"}
# The address is the key to the receipt: it goes to no search engine, and to no site that a link leads to.
SECRET = {**UNCACHED, "Referrer-Policy": "no-referrer", "X-Robots-Tag": "noindex"}

RETRY_AFTER_SECONDS = 5
NOT_FOUND = "No order for that name in this sale. Check the spelling, and whether you bought with another name."
NOT_HERE = (
    "This address is cut off or mistyped. Open the link again or copy all of it; "
    "or choose “Find my order” below and type the name that you bought with."
)
NOT_NOW = "Your order is safe, but it cannot be shown right now. Load this page again in a moment."
NOT_SEARCHED = "Orders cannot be looked up right now; yours is safe. Try again in a moment."
FROM_ELSEWHERE = "This form came from another site. Choose “Find my order” below, and type the name there."

log = logging.getLogger(__name__)


def receipt(request: HttpRequest, token: str) -> HttpResponse:
    """Show the order that the token names. `?outcome=` is the outcome that the shopper has just had."""
    if request.method not in ("GET", "HEAD"):
        return pages.refusal("method_not_allowed", allow="GET, HEAD")
    named = receipts.read(token)
    if named is None:
        return _sorry(404, "No receipt here", NOT_HERE)
    try:
        found = receipts.find(*named)
    except (DatabaseError, store.Unavailable) as error:
        log.warning("the receipt of order %s cannot be shown: %s", named[1], error)
        return _sorry(503, "One moment", NOT_NOW)
    if found is None:
        log.error("order %s of sale %s was acknowledged, but neither SQL nor its stream has it", *reversed(named))
        message = (
            f"We gave you order {named[1]}, but cannot find it. Load this page again later; if that does not help, "
        )
        return _sorry(503, "We are looking for your order", f"{message}show the seller this number.")
    outcome = request.GET.get("outcome", "")
    context = {
        "receipt": found,
        "headline": headline(outcome) if outcome in ("purchased", "already_purchased") else "Your order",
        "bought_at": {"iso": iso(found.purchased_ms), "text": readable(found.purchased_ms)},
    }
    return HttpResponse(render_to_string("sales/receipt.html", context), headers=SECRET)


class FindOrder(forms.Form):
    sale = forms.ModelChoiceField(
        Sale.objects.filter(published=True),
        to_field_name="slug",
        error_messages=dict.fromkeys(("required", "invalid_choice"), "Choose a sale from the list."),
    )
    user_id = forms.CharField(required=False, strip=False)

    def clean_user_id(self) -> str:
        try:
            return shoppers.normalise(self.cleaned_data["user_id"])
        except shoppers.InvalidShopper as error:
            raise forms.ValidationError(str(error)) from None


# The form only reads, and no cookie says who sends it: as on the sale's page, its origin is what is checked.
@csrf_exempt
def find_order(request: HttpRequest) -> HttpResponse:
    """Lead from a sale and a name to the receipt."""
    if request.method in ("GET", "HEAD"):
        return _find_page(FindOrder(initial={"sale": request.GET.get("sale")}))
    if request.method != "POST":
        return pages.refusal("method_not_allowed", allow="GET, HEAD, POST")
    if is_foreign(request):
        return _sorry(403, headline("forbidden"), FROM_ELSEWHERE)
    form = FindOrder(request.POST)
    if not form.is_valid():
        return _find_page(form, 400)
    try:
        if wait_seconds := formlimits.wait_seconds(request, "find_order", _limits(form)):
            return pages.refusal("rate_limited", wait_seconds=wait_seconds)
        address = receipts.address_by_name(form.cleaned_data["sale"], form.cleaned_data["user_id"])
    except (DatabaseError, store.RedisError, store.Unavailable) as error:
        log.warning("orders cannot be looked up: %s", error)
        return _sorry(503, "One moment", NOT_SEARCHED)
    if address:
        return HttpResponse(status=303, headers={**UNCACHED, "Location": address})
    form.add_error("user_id", NOT_FOUND)
    return _find_page(form, 404)


def _limits(form: FindOrder) -> formlimits.Limits:
    """Return the limits of one address, and of one name whatever address asks for it."""
    return {
        "address": ("20/m", lambda group, request: address_of(request)),
        "name": ("10/m", lambda group, request: form.cleaned_data["user_id"]),
    }


def _find_page(form: FindOrder, status: int = 200) -> HttpResponse:
    return HttpResponse(render_to_string("sales/find_order.html", {"form": form}), status=status, headers=UNCACHED)


def _sorry(status: int, title: str, message: str) -> HttpResponse:
    headers: dict[str, Any] = {**SECRET, **({"Retry-After": str(RETRY_AFTER_SECONDS)} if status == 503 else {})}
    page = render_to_string("sales/refusal.html", {"title": title, "message": message})
    return HttpResponse(page, status=status, headers=headers)
