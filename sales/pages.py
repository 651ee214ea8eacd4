"""The shoppers' pages: the sale, the answer to its form, and the list of sales."""

import re
from contextlib import suppress
from functools import lru_cache
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse, QueryDict
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import translation
from django.utils.html import escape

from sales import (
    directory,
    formats,
    identities,
    keyed_hashes,
    languages,
    purchases,
    receipts,
    rendering,
    shoppers,
    snapshots,
    store,
    words,
)
from sales.addresses import address_of
from sales.endpoints import Refused, endpoint, find_shown_sale, read_shopper
from sales.headers import OF_PAGES
from sales.models import Identity
from sales.origins import is_foreign
from sales.outcomes import HTTP_STATUS
from sales.refusals import refusal, uncached

# What sale.js imports: the page names them, so that the browser need not find them out one after another.
MODULES = [
    f"sales/{name}.js"
    for name in ("announcements", "attempts", "clock", "formats", "network", "news", "station", "who", "words")
]
# The last field of that name in a form.
_USER_ID = re.compile(rb"(?:.*&)?userId=([^&]*)", re.DOTALL)
# Of a letter beyond the Basic Multilingual Plane a form makes 12 bytes; some are for spaces around the name.
LONGEST_TYPED_BYTES = 12 * shoppers.LONGEST_USER_ID + 100
# Stands for what was typed in the page that all share.
TYPED = b"@typed@"

# This long a second press of the form leads to the receipt that the first one's answer, cut off by it, was to lead to.
PRESSED_AGAIN_WITHIN_MS = 60_000


@endpoint("GET", "HEAD", "POST", refuse=refusal)
async def sale(request: HttpRequest, slug: str = "") -> HttpResponse:
    if slug != slug.lower() and await snapshots.find(slug) is None:
        return _moved(request, await find_shown_sale(slug.lower()))
    if request.method == "POST":
        return await _buy(request, slug)
    found = await find_shown_sale(slug)
    return rendering.page(request, f"sales/{found.slug}/", lambda: _page(found))


@endpoint("GET", "HEAD", refuse=refusal)
async def sales(request: HttpRequest) -> HttpResponse:
    if known := rendering.known(request, "sales/"):
        return known
    slugs = directory.shown(await snapshots.directory(), snapshots.now_ms())
    shelves = [await snapshots.find_all(shelf) for shelf in slugs]
    return rendering.page(request, "sales/", lambda: render_to_string("sales/sales.html", _list_context(shelves)))


def _moved(request: HttpRequest, found: snapshots.Snapshot) -> HttpResponse:
    """Lead from a slug in capitals, as it is heard or set in print, to the sale's page; a form is sent again there."""
    query = request.META["QUERY_STRING"]
    address = f"{reverse('sale', args=[found.slug])}{'?' if query else ''}{query}"
    return HttpResponse(status=308, headers={**OF_PAGES, "Cache-Control": "no-store", "Location": address})


def _page(found: snapshots.Snapshot) -> str:
    return render_to_string("sales/sale.html", _context(found, _status(found)))


async def _buy(request: HttpRequest, slug: str) -> HttpResponse:
    """Answer the form that the page posts where there is no JavaScript."""
    deadline = purchases.new_deadline()
    if is_foreign(request):
        raise Refused("forbidden")
    typed = _typed(request.body)
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


def _typed(body: bytes) -> str:
    """Return the name in a form, without a look at its other fields. Of a longer one than any that is taken, the
    beginning, which is too long as well."""
    found = _USER_ID.match(body)
    return QueryDict(b"userId=" + found[1][:LONGEST_TYPED_BYTES])["userId"] if found else ""


def _answer_page(language: str, found: snapshots.Snapshot, typed: str, purchase: purchases.Purchase) -> HttpResponse:
    if purchase.remaining_stock is not None:
        found = found._replace(remaining_stock=purchase.remaining_stock)
    page = _rendered_answer(language, found, _status(found), purchase.outcome)
    headers = uncached(language, purchase.outcome, purchase.quota.seconds if purchase.quota else 1)
    content = page.replace(TYPED, escape(typed).encode())
    return HttpResponse(content, status=HTTP_STATUS[purchase.outcome], headers=headers)


@lru_cache(maxsize=rendering.MOST_PAGES)
def _rendered_answer(language: str, found: snapshots.Snapshot, status: str, outcome: str) -> bytes:
    """Return the page with an answer, the same for all who hear it while the sale is so: a server that has to refuse
    many must not render it for each."""
    with translation.override(language):
        context = _context(found, status) | {
            "typed": TYPED.decode(),
            "outcome": outcome,
            "headline": _headline(found, outcome),
            "sentence": words.sentence(outcome),
            "icon": words.icon(outcome),
        }
        return render_to_string("sales/sale.html", context).encode()


def _context(found: snapshots.Snapshot, status: str) -> dict[str, Any]:
    return _facts(found, status) | {
        "button": words.BUTTON[status],
        "words": words.for_script(),
        "modules": MODULES,
    }


def _facts(found: snapshots.Snapshot, status: str) -> dict[str, Any]:
    """Return what the page and the list say of a sale, in the active language."""
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
    live, coming, past = ([_facts(found, _status(found)) for found in shelf] for shelf in shelves)
    return {"live": live, "coming": coming, "past": past, "public_url": settings.PUBLIC_URL}
