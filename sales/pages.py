"""The shoppers' pages: the sale, the answer to its form, and the list of sales."""

from contextlib import suppress
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.utils import translation

from sales import (
    directory,
    formats,
    identities,
    keyed_hashes,
    languages,
    purchases,
    receipts,
    rendering,
    snapshots,
    store,
    words,
)
from sales.addresses import address_of
from sales.endpoints import Refused, endpoint, find_shown_sale, read_shopper
from sales.models import Identity
from sales.origins import is_foreign
from sales.outcomes import HTTP_STATUS
from sales.refusals import refusal, uncached

# What sale.js imports: the page names them, so that the browser need not find them out one after another.
MODULES = [
    f"sales/{name}.js" for name in ("announcements", "attempts", "clock", "formats", "network", "news", "who", "words")
]

# This long a second press of the form leads to the receipt that the first one's answer, cut off by it, was to lead to.
PRESSED_AGAIN_WITHIN_MS = 60_000


@endpoint("GET", "HEAD", "POST", refuse=refusal)
async def sale(request: HttpRequest, slug: str = "") -> HttpResponse:
    if request.method == "POST":
        return await _buy(request, slug)
    found = await find_shown_sale(slug)
    return rendering.page(request, f"sales/{found.slug}/", lambda: render_to_string("sales/sale.html", _context(found)))


@endpoint("GET", "HEAD", refuse=refusal)
async def sales(request: HttpRequest) -> HttpResponse:
    if known := rendering.known(request, "sales/"):
        return known
    slugs = directory.shown(await snapshots.directory(), snapshots.now_ms())
    shelves = [await snapshots.find_all(shelf) for shelf in slugs]
    return rendering.page(request, "sales/", lambda: render_to_string("sales/sales.html", _list_context(shelves)))


async def _buy(request: HttpRequest, slug: str) -> HttpResponse:
    """Answer the form that the page posts where there is no JavaScript."""
    deadline = purchases.new_deadline()
    if is_foreign(request):
        raise Refused("forbidden")
    typed = request.POST.get("userId", "")
    try:
        found = await find_shown_sale(slug)
    except store.Unavailable:
        with suppress(Refused):
            purchases.count_unavailable(snapshots.last_known_id(slug), read_shopper(typed), deadline)
        raise
    try:
        claimed = read_shopper(typed) if typed or found.identity == Identity.OPEN else ""
        user_id = identities.shopper(request, found, claimed)
        purchase = await purchases.buy(found.id, user_id, _press_key(request, found.id, user_id), deadline=deadline)
    except Refused as refused:
        purchase = purchases.Purchase(refused.code)
    except store.Failure as failure:
        purchase = purchases.Purchase(failure.outcome)
    language = languages.of(request)
    if not purchase.order_id:
        return _answer_page(language, found, typed, purchase)
    is_first = purchase.outcome == "purchased" or _is_pressed_again(purchase)
    outcome = "purchased" if is_first else "already_purchased"
    if not is_first and not identities.is_proven_to_buy(request, found):
        return _answer_page(language, found, typed, purchase._replace(outcome=outcome))
    # By redirect, so that to load the page again sends no form again.
    receipt = f"{receipts.address(found.id, purchase.order_id)}?outcome={outcome}"
    return HttpResponse(status=303, headers={**uncached(language, outcome), "Location": receipt})


def _press_key(request: HttpRequest, sale_id: int, user_id: str) -> str:
    """Return the Idempotency-Key of the form's presses: one for a shopper's browser at its address, "" where addresses
    are not known.

    A page that all share can carry no key, and no cookie is set. A browser cuts off a press by the next one, whose
    answer must then be that of the first.
    """
    if not settings.ADDRESS_RATE:
        return ""
    said = [request.META.get(name, "") for name in ("HTTP_USER_AGENT", "HTTP_ACCEPT_LANGUAGE")]
    pressed = "\n".join((str(sale_id), address_of(request), *said, user_id))
    return keyed_hashes.digest("sales.pages.press", pressed, 16).hex()


def _is_pressed_again(purchase: purchases.Purchase) -> bool:
    """Return whether this browser's press has bought, and only a moment ago: there may be many behind an address."""
    age_ms = snapshots.now_ms() - purchases.purchased_ms(purchase.order_id)
    return purchase.outcome == "replayed" and age_ms <= PRESSED_AGAIN_WITHIN_MS


def _answer_page(language: str, found: snapshots.Snapshot, typed: str, purchase: purchases.Purchase) -> HttpResponse:
    if purchase.remaining_stock is not None:
        found = found._replace(remaining_stock=purchase.remaining_stock)
    with translation.override(language):
        context = _context(found) | {
            "typed": typed,
            "outcome": purchase.outcome,
            "headline": _headline(found, purchase.outcome),
            "sentence": words.sentence(purchase.outcome),
            "icon": words.icon(purchase.outcome),
        }
        content = render_to_string("sales/sale.html", context)
    headers = uncached(language, purchase.outcome, purchase.quota.seconds if purchase.quota else 1)
    return HttpResponse(content, status=HTTP_STATUS[purchase.outcome], headers=headers)


def _context(found: snapshots.Snapshot) -> dict[str, Any]:
    return _facts(found) | {
        "button": words.BUTTON[_status(found)],
        "words": words.for_script(),
        "modules": MODULES,
    }


def _facts(found: snapshots.Snapshot) -> dict[str, Any]:
    """Return what the page and the list say of a sale, in the active language."""
    status = _status(found)
    return {
        "sale": found,
        "status": status,
        "status_words": _status_words(found, status),
        "price": formats.price(found.price),
        "remaining": formats.number(found.remaining_stock),
        "total": formats.number(found.total_stock),
        "when": _when(found, status),
        "public_url": settings.PUBLIC_URL,
    }


def _status_words(found: snapshots.Snapshot, status: str) -> str:
    within_ms = found.sold_out_within_ms()
    if status != "sold_out" or within_ms is None:
        return str(words.STATUS[status])
    return str(words.SOLD_OUT_IN) % {"time": formats.duration(within_ms)}


def _headline(found: snapshots.Snapshot, outcome: str) -> str:
    return _status_words(found, outcome) if outcome == "sold_out" else words.headline(outcome)


def _when(found: snapshots.Snapshot, status: str) -> dict[str, str]:
    """Return the sentence that tells of the start or the end, with its moment and without."""
    moment = formats.moment(found.starts_ms if status == "upcoming" else found.ends_ms)
    sentence = str(words.WHEN[status])
    return {"iso": moment["iso"], "sentence": sentence, "text": sentence % {"moment": moment["text"]}}


def _status(found: snapshots.Snapshot) -> str:
    return found.status(snapshots.now_ms())


def _list_context(shelves: list[list[snapshots.Snapshot]]) -> dict[str, Any]:
    live, coming, past = ([_facts(found) for found in shelf] for shelf in shelves)
    return {"live": live, "coming": coming, "past": past, "public_url": settings.PUBLIC_URL}
