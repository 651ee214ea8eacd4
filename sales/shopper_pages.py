"""The pages on which a shopper proves an e-mail address: by a code that is sent there."""

import logging
import re
from typing import Any

from django import forms
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils.http import urlencode
from django.utils.translation import gettext, gettext_lazy
from django.utils.translation import gettext_noop as _
from django.views.decorators.csrf import csrf_exempt

from sales import email_codes, formats, formlimits, identities, mails, shoppers, store, tokens, words
from sales.origins import is_own
from sales.refusals import refusal

# Nobody but the asker sees these pages, and none leads out with the code in its address.
PRIVATE = {"Cache-Control": "private, no-store", "X-Robots-Tag": "noindex", "Vary": "Cookie, Accept-Language"}

NO_MAIL = _("We cannot send mail right now, so nobody can confirm an address. Try again in a few minutes.")
NOT_CHECKED = _("Your code cannot be checked right now; it stays good. Try again in a moment.")
FROM_ELSEWHERE = _("This form came from another site. Open “My e-mail address” here, and type it there.")
TOO_MANY_CODES = _(
    "Too many codes were asked for lately, for this address or in the network that you are in. Look whether you have a "
    "mail of ours, or ask again in %(time)s."
)
TOO_MANY_TRIES = _("Too many codes were typed in lately in the network that you are in. Try again in %(time)s.")
PLEASE_WAIT = _("Please wait a little")
WRONG_CODE = gettext_lazy(
    "This code is wrong, used already, or too old. Check it, open the link in the mail, or ask for another one."
)

log = logging.getLogger(__name__)


class Address(forms.Form):
    """An e-mail address, and the sale that the shopper came from."""

    email = forms.CharField(required=False, strip=False)
    sale = forms.SlugField(required=False, max_length=50)

    def clean_email(self) -> str:
        try:
            return email_codes.read_address(shoppers.bare(self.cleaned_data["email"]))
        except email_codes.NotAnAddress as error:
            raise forms.ValidationError(gettext(str(error))) from None
        except shoppers.InvalidShopper:
            raise forms.ValidationError(gettext(email_codes.NO_ADDRESS)) from None


class Code(Address):
    code = forms.CharField(required=False, max_length=64)


# Cookies prove nothing to these forms: what they set does, so that they must come from a page of ours.
@csrf_exempt
def shopper(request: HttpRequest) -> HttpResponse:
    """Show which address is confirmed in this browser, and send a code to another one."""
    if request.method in ("GET", "HEAD"):
        return _page(request, Address(initial={"sale": request.GET.get("sale", "")}))
    if refused := _refused(request):
        return refused
    form = Address(request.POST)
    if not form.is_valid():
        return _page(request, form, status=400)
    try:
        wait_seconds = formlimits.code_wait_seconds(request, form.cleaned_data["email"])
        if wait_seconds:
            return _too_many(request, TOO_MANY_CODES, wait_seconds)
        email_codes.send(form.cleaned_data["email"], form.cleaned_data["sale"])
    except (mails.NotSent, store.RedisError) as error:
        log.error("no code was sent: %s", error)
        return refusal(request, "unavailable", NO_MAIL)
    return _led_on(f"{reverse('confirm')}?{_query(Code(initial=form.cleaned_data))}")


@csrf_exempt
def confirm(request: HttpRequest) -> HttpResponse:
    """Take a code, and have the browser remember the address. The mail's link brings both, and a press sends them."""
    if request.method in ("GET", "HEAD"):
        return _page(request, Code(initial=request.GET.dict()), asks_code=True)
    if refused := _refused(request):
        return refused
    form = Code(request.POST)
    if not form.is_valid():
        return _page(request, form, status=400, asks_code="email" not in form.errors)
    try:
        if wait_seconds := formlimits.redeem_wait_seconds(request):
            return _too_many(request, TOO_MANY_TRIES, wait_seconds)
        is_right = email_codes.redeem(form.cleaned_data["email"], form.cleaned_data["code"])
    except store.RedisError as error:
        log.error("a code could not be checked: %s", error)
        return refusal(request, "unavailable", NOT_CHECKED)
    if not is_right:
        form.add_error("code", WRONG_CODE)
        return _page(request, form, status=401, asks_code=True)
    slug = form.cleaned_data["sale"]
    response = _led_on(reverse("sale", args=[slug]) if slug else reverse("shopper"))
    identities.remember(response, tokens.issue(form.cleaned_data["email"]), tokens.VALID_SECONDS)
    return response


@csrf_exempt
def leave(request: HttpRequest) -> HttpResponse:
    """Have the browser forget the address."""
    if refused := _refused(request):
        return refused
    response = _led_on(reverse("shopper"))
    identities.forget(response)
    return response


def _refused(request: HttpRequest) -> HttpResponse | None:
    if request.method != "POST":
        return refusal(request, "method_not_allowed", allow="POST")
    return None if is_own(request) else refusal(request, "forbidden", FROM_ELSEWHERE)


def _too_many(request: HttpRequest, message: str, wait_seconds: int) -> HttpResponse:
    return refusal(request, "rate_limited", message, headline=PLEASE_WAIT, wait_seconds=wait_seconds)


def _page(request: HttpRequest, form: Address, *, status: int = 200, asks_code: bool = False) -> HttpResponse:
    named = identities.remembered(request)
    context: dict[str, Any] = {
        "form": form,
        "slug": _slug(form),
        "asks_code": asks_code,
        "query": _query(form),
        "is_linked": asks_code and email_codes.is_linked(str(form["code"].value() or "")),
        "named": named,
        "is_for_another": bool(named and named.sale and named.sale.slug != (_slug(form) or named.sale.slug)),
        "valid_until": formats.moment(named.expires_at * 1000) if named else None,
        "minutes": email_codes.VALID_SECONDS // 60,
        "icon": words.icon("purchased"),
    }
    return _private(render(request, "sales/shopper.html", context, status=status))


def _slug(form: Address) -> str:
    """Return the slug of the sale to go back to, which may be any text in an address; "" when it is none."""
    slug = str(form["sale"].value() or "")
    return slug if re.fullmatch(r"[\w-]+", slug, re.ASCII) else ""


def _query(form: Address) -> str:
    """Return what the page for the code has in its address, so that it can be loaded again."""
    named = {name: str(form[name].value() or "") for name in ("email", "sale")}
    return urlencode({name: value for name, value in named.items() if value})


def _led_on(address: str) -> HttpResponse:
    return _private(HttpResponse(status=303, headers={"Location": address}))


def _private(response: HttpResponse) -> HttpResponse:
    for name, value in PRIVATE.items():
        response[name] = value
    return response
