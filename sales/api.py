"""The JSON API of shoppers and scripts. docs/api.md is its contract."""

import os
from functools import lru_cache
from typing import Any

import orjson
from django.http import HttpRequest, HttpResponse

from sales import health as health_checks
from sales import purchases, receipts, snapshots, statuses, store
from sales.clock import iso
from sales.endpoints import JSON, Refused, answer, endpoint, etag_of, find_sale, is_known, read_shopper, refusal
from sales.events import EventStream, has_room
from sales.origins import is_foreign
from sales.outcomes import HTTP_STATUS, SENTENCE

LONGEST_IDEMPOTENCY_KEY = 255


@endpoint("GET", "HEAD")
async def status(request: HttpRequest, slug: str = "") -> HttpResponse:
    sale = await find_sale(slug)
    now_ms = snapshots.now_ms()
    body = statuses.fields(sale, now_ms) | statuses.moment(sale, now_ms, statuses.next_pace_ms())
    # Weak: serverTime, which differs in each answer, is left out of it.
    etag = f"W/{etag_of(orjson.dumps(body | {'serverTime': None}))}"
    headers = {"ETag": etag, "Cache-Control": "public, max-age=1"}
    if is_known(request, etag):
        return HttpResponse(status=304, headers=headers)
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
    found = await purchases.buy(sale.id, user_id, idempotency_key, deadline=deadline)
    if found.outcome == "rate_limited":
        return refusal(request, found.outcome, wait_seconds=found.retry_after_seconds)
    return purchase_answer(sale.id, found)


def read_attempt(request: HttpRequest) -> tuple[str, str]:
    """Return the shopper and the idempotency key that a purchase request names. Raises Refused."""
    if request.META.get("CONTENT_TYPE", "").partition(";")[0].strip().lower() != JSON:
        raise Refused("unsupported_media_type")
    if is_foreign(request):
        raise Refused("forbidden")
    try:
        body = orjson.loads(request.body)
    except orjson.JSONDecodeError:
        raise Refused("invalid_request") from None
    if not isinstance(body, dict):
        raise Refused("invalid_request")
    idempotency_key = request.META.get("HTTP_IDEMPOTENCY_KEY", "").strip()
    if len(idempotency_key) > LONGEST_IDEMPOTENCY_KEY:
        raise Refused("invalid_request", f"Send an Idempotency-Key of at most {LONGEST_IDEMPOTENCY_KEY} characters.")
    return read_shopper(body.get("userId")), idempotency_key


def purchase_answer(sale_id: int, purchase: purchases.Purchase) -> HttpResponse:
    outcome = purchase.outcome
    if not purchase.order_id:
        return _answer_without_order(outcome, purchase.remaining_stock)
    body = _body(outcome, purchase.remaining_stock)
    body["orderId"] = purchase.order_id
    body["purchaseTime"] = iso(purchases.purchased_ms(purchase.order_id))
    body["receiptUrl"] = receipts.address(sale_id, purchase.order_id)
    return answer(HTTP_STATUS[outcome], body, {"Idempotent-Replayed": "true"} if outcome == "replayed" else None)


@lru_cache(maxsize=1000)
def _answer_without_order(outcome: str, remaining_stock: int | None) -> HttpResponse:
    """Return what nearly everybody in a crowd hears, word for word: one response for all of them, never changed."""
    return answer(HTTP_STATUS[outcome], _body(outcome, remaining_stock))


def _body(outcome: str, remaining_stock: int | None) -> dict[str, Any]:
    return {
        "success": outcome in ("purchased", "replayed"),
        "message": SENTENCE[outcome],
        "remainingStock": remaining_stock,
        "code": "purchased" if outcome == "replayed" else outcome,
    }


@endpoint("GET", "HEAD")
async def user(request: HttpRequest, user_id: str, slug: str = "") -> HttpResponse:
    deadline = purchases.new_deadline()
    shopper = read_shopper(user_id)
    sale = await find_sale(slug)
    order_id = await purchases.find(sale.id, shopper, deadline=deadline)
    purchase_time = iso(purchases.purchased_ms(order_id)) if order_id else None
    return answer(200, {"hasPurchased": order_id is not None, "purchaseTime": purchase_time})


@endpoint("GET", "HEAD")
async def live(request: HttpRequest) -> HttpResponse:
    return answer(200, {"status": "ok", "pid": os.getpid()})


@endpoint("GET", "HEAD")
async def health(request: HttpRequest) -> HttpResponse:
    report = await health_checks.report()
    return answer(200 if report["status"] != "unavailable" else 503, report)
