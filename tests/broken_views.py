"""An application whose lane has views that fail or take their time; test_lane.py serves it."""

import asyncio

from django.http import HttpRequest, HttpResponse
from django.urls import path

from flashsale.asgi import application as production
from flashsale.lane import Lane
from flashsale.urls import LANE
from sales import endpoints


@endpoints.endpoint("GET")
async def crash(request: HttpRequest) -> HttpResponse:
    raise ZeroDivisionError


@endpoints.endpoint("GET")
async def slow(request: HttpRequest) -> HttpResponse:
    await asyncio.sleep(1)
    return endpoints.answer(200, {"status": "done"})


application = Lane([*LANE, path("crash", crash), path("slow", slow)], production)
