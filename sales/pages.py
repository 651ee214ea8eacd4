"""The shoppers' pages: the sale, and the answer to its form."""

import time
from functools import lru_cache
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string

from sales import purchases, snapshots, store
from sales.clock import iso, readable
from sales.endpoints import Refused, endpoint, etag_of, find_shown_sale, is_known, read_shopper
from sales.origins import is_foreign
from sales.outcomes import HEADLINE, HTTP_STATUS, SENTENCE, headline, retry_after
from sales.per_loop import per_loop

# Each worker renders a sale's page at most this often, however many look at it.
RENDER_EVERY_SECONDS = 0.25

HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}

STATUS_WORDS = {
    "upcoming": "Starts soon",
    "active": "On sale now",
    "paused": "Paused",
    "sold_out": "Sold out",
    "ended": "Ended",
}

BUTTON_WORDS = {**STATUS_WORDS, "upcoming": "Not open yet", "active": "Buy now"}


def refusal(code: str, message: str = "", *, wait_seconds: int = 1, allow: str = "") -> HttpResponse:
    """Return a page that says why there is no sale page, and what to do."""
    headers = _uncached(code, wait_seconds) | ({"Allow": allow} if allow else {})
    return HttpResponse(_refusal_page(code, message), status=HTTP_STATUS[code], headers=headers)


@lru_cache(maxsize=100)
def _refusal_page(code: str, message: str) -> bytes:
    """Return the page, which a server that has to refuse many must not render for each."""
    return render_to_string(
        "sales/refusal.html", {"title": headline(code), "message": message or SENTENCE[code]}
    ).encode()


def _uncached(code: str, wait_seconds: int = 1) -> dict[str, str]:
    return {**HEADERS, "Cache-Control": "no-store", **retry_after(code, wait_seconds)}


@endpoint("GET", "HEAD", "POST", refuse=refusal)
async def sale(request: HttpRequest, slug: str = "") -> HttpResponse:
    if request.method == "POST":
        return await _buy(request, slug)
    found = await find_shown_sale(slug)
    content, etag = _rendered(found)
    headers = {**HEADERS, "ETag": etag, "Cache-Control": "public, max-age=1"}
    if is_known(request, etag):
        return HttpResponse(status=304, headers=headers)
    return HttpResponse(content, headers=headers)


async def _buy(request: HttpRequest, slug: str) -> HttpResponse:
    """Answer the form that the page posts where there is no JavaScript."""
    deadline = purchases.new_deadline()
    if is_foreign(request):
        raise Refused("forbidden")
    found = await find_shown_sale(slug)
    typed = request.POST.get("userId", "")
    try:
        purchase = await purchases.buy(found.id, read_shopper(typed), deadline=deadline)
    except Refused as refused:
        return _answer_page(found, typed, purchases.Purchase(refused.code), refused.message)
    except store.Failure as failure:
        return _answer_page(found, typed, purchases.Purchase(failure.outcome))
    return _answer_page(found, typed, purchase)


def _answer_page(
    found: snapshots.Snapshot, typed: str, purchase: purchases.Purchase, message: str = ""
) -> HttpResponse:
    if purchase.remaining_stock is not None:
        found = found._replace(remaining_stock=purchase.remaining_stock)
    context = _context(found) | {
        "typed": typed,
        "outcome": purchase.outcome,
        "headline": headline(purchase.outcome),
        "message": message or SENTENCE[purchase.outcome],
        "order_id": purchase.order_id,
        "purchased_at": _moment(purchases.purchased_ms(purchase.order_id)) if purchase.order_id else None,
    }
    return HttpResponse(
        render_to_string("sales/sale.html", context),
        status=HTTP_STATUS[purchase.outcome],
        headers=_uncached(purchase.outcome, purchase.retry_after_seconds or 1),
    )


def _context(found: snapshots.Snapshot) -> dict[str, Any]:
    status = found.status(snapshots.now_ms())
    return {
        "sale": found,
        "status": status,
        "status_words": STATUS_WORDS[status],
        "button_words": BUTTON_WORDS[status],
        "words": {"status": STATUS_WORDS, "button": BUTTON_WORDS, "headline": HEADLINE},
        "starts_at": _moment(found.starts_ms),
        "ends_at": _moment(found.ends_ms),
    }


def _moment(ms: int) -> dict[str, str]:
    return {"iso": iso(ms), "text": readable(ms)}


def _rendered(found: snapshots.Snapshot) -> tuple[bytes, str]:
    """Return the sale's page and its ETag, rendered anew a few times a second."""
    pages = _pages()
    rendered_at, content, etag = pages.get(found.slug, (0.0, b"", ""))
    now = time.monotonic()
    if now - rendered_at > RENDER_EVERY_SECONDS:
        content = render_to_string("sales/sale.html", _context(found)).encode()
        etag = etag_of(content)
        pages[found.slug] = (now, content, etag)
    return content, etag


@per_loop
def _pages() -> dict[str, tuple[float, bytes, str]]:
    return {}
