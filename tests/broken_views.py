"""An application whose lane has views that fail or take their time; test_lane.py serves it."""

import asyncio
import gc
import logging
import sys
from typing import Any

import orjson
from django.http import HttpRequest, HttpResponse
from django.urls import path

from flashsale.asgi import application as production
from flashsale.lane import Lane
from flashsale.urls import LANE
from sales import endpoints, refusals, store

log = logging.getLogger("flashsale.broken_views")


@endpoints.endpoint("GET")
async def crash(request: HttpRequest) -> HttpResponse:
    raise ZeroDivisionError


@endpoints.endpoint("GET", "POST")
async def quote(request: HttpRequest, text: str) -> HttpResponse:
    """Fail with an error that quotes all that the client has sent, as a careless one would."""
    log.warning("asked for %s by %s", text, request.META)
    try:
        raise LookupError(text, request.body.decode(errors="surrogateescape"))
    except LookupError:
        raise ValueError(f"{text} {request.headers.get('User-Agent')}") from None


@endpoints.endpoint("GET")
async def slow(request: HttpRequest) -> HttpResponse:
    log.warning("asked for what is slow")
    await asyncio.sleep(1)
    return endpoints.answer(200, {"status": "done"})


@endpoints.endpoint("GET")
async def interpreter(request: HttpRequest) -> HttpResponse:
    return endpoints.answer(200, {"switchSeconds": sys.getswitchinterval(), "collectAfter": gc.get_threshold()[0]})


@endpoints.endpoint("GET", refuse=refusals.refusal)
async def broken_page(request: HttpRequest) -> HttpResponse:
    raise ZeroDivisionError


def refuse_nothing(code: str, *args: object, **options: object) -> HttpResponse:
    raise ZeroDivisionError


@endpoints.endpoint("GET", refuse=refuse_nothing)
async def broken_refusal(request: HttpRequest) -> HttpResponse:
    raise ZeroDivisionError


@endpoints.endpoint("POST")
async def non_atomic(request: HttpRequest, slug: str) -> HttpResponse:
    """A twin of the purchase that reads, then decides, then writes: the control of the race test."""
    user_id = endpoints.read_shopper(orjson.loads(request.body)["userId"])
    sale = await endpoints.find_sale(slug)
    purchases, stock = store.key(sale.id, "purchases"), store.key(sale.id, "stock")
    has_one, remaining = await store.call(("HEXISTS", purchases, user_id), ("GET", stock))
    if has_one or int(remaining) <= 0:
        return endpoints.refusal(request, "already_purchased" if has_one else "sold_out")
    await store.call(("HSET", purchases, user_id, "1-0 0 "), ("DECR", stock))
    return endpoints.answer(200, {"code": "purchased"})


async def fail_or_go_on(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """What stands behind the lane: Django, which fails before it has answered."""
    if scope["path"] == "/broken-application":
        raise ZeroDivisionError
    await production(scope, receive, send)


application = Lane(
    [
        *LANE,
        path("crash", crash),
        path("quote/<any:text>", quote),
        path("slow", slow),
        path("interpreter", interpreter),
        path("broken-page", broken_page),
        path("broken-refusal", broken_refusal),
        path("non-atomic/<slug:slug>", non_atomic),
    ],
    fail_or_go_on,
)
