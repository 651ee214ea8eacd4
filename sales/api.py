"""The JSON API of shoppers and scripts. docs/api.md is its contract."""

import os
import re
from functools import lru_cache
from typing import Any

import orjson
from django.http import HttpRequest, HttpResponse

from sales import cors, identities, purchases, ratelimits, receipts, snapshots, statuses, store
from sales import health as health_checks
from sales.clock import iso
from sales.endpoints import (
    JSON,
    JSON_HEADERS,
    Answer,
    Refused,
    answer,
    endpoint,
    etag_of,
    find_sale,
    is_known,
    read_json,
    read_shopper,
)
from sales.events import EventStream, has_room
from sales.headers import OF_DATA, Headers
from sales.origins import is_foreign
from sales.outcomes import CODE, HTTP_STATUS, SENTENCE, retry_after
from sales.ratelimits import Quota

LONGEST_IDEMPOTENCY_KEY = 255
_FRESH = re.compile(r"(?:^|&)fresh(?:[=&]|$)")


@endpoint("GET", "HEAD", is_limited=False)  # it tells how often to ask; a refusal costs four fifths of it
async def status(request: HttpRequest, slug: str = "") -> HttpResponse:
    sale = await find_sale(slug)
    now_ms = snapshots.now_ms()
    body = statuses.fields(sale, now_ms) | statuses.moment(sale, now_ms, statuses.next_pace_ms())
    # Weak: serverTime, which differs in each answer, is left out of it.
    etag = f"W/{etag_of(orjson.dumps(body | {'serverTime': None}))}"
    # To set a clock: an answer of this moment, that no cache on the way may have.
    is_fresh = bool(_FRESH.search(request.META["QUERY_STRING"]))
    headers = {"ETag": etag, "Cache-Control": "no-store" if is_fresh else "public, max-age=1"}
    if is_known(request, etag) and not is_fresh:
        return Answer(b"", 304, {**OF_DATA, **headers})
    return answer(200, body, headers)


@endpoint("GET", "HEAD")
async def events(request: HttpRequest, slug: str = "") -> HttpResponse:
    sale = await find_sale(slug)
    if not has_room():
        raise Refused("too_many_listeners")
    return EventStream(slug, sale)


@endpoint("POST")
async def purchase(request: HttpRequest, slug: str = "") -> HttpResponse:
    deadline = purchases.new_deadline()
    user_id, idempotency_key = read_attempt(request)
    try:
        sale = await find_sale(slug)
    except store.Unavailable:
        purchases.count_unavailable(snapshots.last_known_id(slug), user_id, deadline)
        raise
    user_id = identities.shopper(request, sale, user_id)
    purchase = await purchases.buy(sale.id, user_id, idempotency_key, deadline=deadline)
    is_buyer = purchase.outcome != "already_purchased" or identities.is_proven_to_buy(request, sale)
    return purchase_answer(sale.id, purchase, is_buyer)


def read_attempt(request: HttpRequest) -> tuple[str, str]:
    """Return the shopper ("" for none) and the idempotency key that a purchase request names. Raises Refused."""
    if request.META.get("CONTENT_TYPE", "").partition(";")[0].strip().lower() != JSON:
        raise Refused("unsupported_media_type")
    if is_foreign(request) and not cors.is_allowed(request):
        raise Refused("forbidden")
    if (body := read_json(request.body)) is None:
        raise Refused("invalid_request")
    idempotency_key = request.META.get("HTTP_IDEMPOTENCY_KEY", "").strip()
    if len(idempotency_key) > LONGEST_IDEMPOTENCY_KEY:
        raise Refused("invalid_request", f"Send an Idempotency-Key of at most {LONGEST_IDEMPOTENCY_KEY} characters.")
    claimed = body.get("userId")
    return "" if claimed is None else read_shopper(claimed), idempotency_key


def purchase_answer(sale_id: int, purchase: purchases.Purchase, is_buyer: bool) -> HttpResponse:
    """Return the answer to an attempt. Whoever is not known to be the order's buyer gets no way to its receipt."""
    outcome = purchase.outcome
    if not purchase.order_id:
        return _answer_without_order(outcome, purchase.remaining_stock, purchase.quota)
    body = _body(outcome, purchase.remaining_stock)
    body["orderId"] = purchase.order_id
    body["purchaseTime"] = iso(purchases.purchased_ms(purchase.order_id))
    if is_buyer:
        body["orderCode"], body["receiptUrl"] = receipts.code_and_address(sale_id, purchase.order_id)
    return Answer(orjson.dumps(body), HTTP_STATUS[outcome], _headers_with_order(outcome, purchase.quota))


@lru_cache(maxsize=1000)
def _headers_with_order(outcome: str, quota: Quota | None) -> Headers:
    replayed = {"Idempotent-Replayed": "true"} if outcome == "replayed" else {}
    return Headers({**JSON_HEADERS, **ratelimits.headers(quota), **replayed})


@lru_cache(maxsize=1000)
def _answer_without_order(outcome: str, remaining_stock: int | None, quota: Quota | None) -> HttpResponse:
    """Return what nearly everybody in a crowd hears, word for word: one response for all of them, never changed."""
    headers = ratelimits.headers(quota) | (retry_after(outcome, quota.seconds) if quota else {})
    return answer(HTTP_STATUS[outcome], _body(outcome, remaining_stock), headers)


def _body(outcome: str, remaining_stock: int | None) -> dict[str, Any]:
    return {
        "success": outcome in ("purchased", "replayed"),
        "message": SENTENCE[outcome],
        "remainingStock": remaining_stock,
        "code": CODE.get(outcome, outcome),
    }


@endpoint("GET", "HEAD")
async def user(request: HttpRequest, user_id: str, slug: str = "") -> HttpResponse:
    deadline = purchases.new_deadline()
    shopper = read_shopper(user_id)
    sale = await find_sale(slug)
    identities.check_may_ask(request, sale, shopper)
    order_id = await purchases.find(sale.id, identities.person(sale, shopper), deadline=deadline)
    purchase_time = iso(purchases.purchased_ms(order_id)) if order_id else None
    return answer(200, {"hasPurchased": order_id is not None, "purchaseTime": purchase_time})


@endpoint("GET", "HEAD")
async def shopper(request: HttpRequest, slug: str = "") -> HttpResponse:
    """Tell as whom the sale takes the asker, by token or cookie."""
    named = identities.named_in(await find_sale(slug), request)
    if named is None:
        return answer(200, {"userId": None, "expiresTime": None})
    return answer(200, {"userId": named.user_id, "expiresTime": iso(named.expires_at * 1000)})


@endpoint("GET", "HEAD")
async def live(request: HttpRequest) -> HttpResponse:
    return answer(200, {"status": "ok", "pid": os.getpid()})


@endpoint("GET", "HEAD")
async def health(request: HttpRequest) -> HttpResponse:
    report = await health_checks.report()
    return answer(200 if report["status"] != "unavailable" else 503, report)
