"""The express lane: calls the async views that the crowd asks for directly; everything else goes to Django.

A lane view is an ordinary async Django view. It gets a genuine HttpRequest, but no middleware ran and no session, user
or SQL is there. What the middleware would have checked for all of them is checked here: host, client rate, HTTPS, and
the body's size.
"""

import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextlib import nullcontext
from functools import lru_cache
from http import HTTPStatus
from typing import Any

from django.conf import settings
from django.core.exceptions import DisallowedHost, SuspiciousOperation
from django.http import HttpResponse
from django.urls import Resolver404, URLPattern, resolve

from flashsale import bodies, tracing, uploads
from flashsale.bodies import BodyTooLarge, ClientGone, Message, NoRoom, Receive
from flashsale.django_threads import Unanswered
from flashsale.exchange import EXCHANGE, Exchange
from flashsale.lane_request import LaneRequest, Scope
from flashsale.pieces import PIECE_BYTES, Body, pieces
from sales import cors, endpoints, https, metrics, ratelimits, refusals
from sales.addresses import client_address, is_proxy
from sales.events import EventStream
from sales.headers import Headers, header_lines

# What has no pattern: files, addresses that are not there, and what is refused before Django sees it.
OTHER_ROUTE = metrics.route("other")

# Addresses of the lane are short; of Django's pages the query may be as long as a head: what a list is filtered by.
LONGEST_TARGET_BYTES = 4 * 1024
# So long a client is told to wait when Django has no thread for it.
BUSY_SECONDS = 5

_WITHOUT_LENGTH = (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)

Send = Callable[[Message], Awaitable[None]]
View = Callable[..., Coroutine[Any, Any, HttpResponse]]

log = logging.getLogger(__name__)


class Lane:
    """An ASGI application: the views of `patterns` are called here, all other requests by `django`."""

    def __init__(self, patterns: Iterable[URLPattern], django: Callable[..., Awaitable[None]]):
        self._django = django
        self._fixed: dict[str, tuple[View, dict[str, Any], metrics.Route]] = {}
        self._variable: list[tuple[URLPattern, metrics.Route]] = []
        self._good_hosts: set[str] = set()
        self._is_https = settings.HTTPS
        self._head_differs = bool(settings.CORS_ORIGINS or settings.HTTPS)
        for pattern in patterns:
            if not hasattr(pattern.callback, "refuse"):
                raise TypeError(f"{pattern}: a view on the lane is made by endpoints.endpoint")
            route = metrics.route(f"/{pattern.pattern}")
            route.expect()
            if pattern.pattern.converters:
                self._variable.append((pattern, route))
            else:
                self._fixed[route.name] = pattern.callback, {}, route

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = time.monotonic()
        view, arguments, route = self._find(scope["path"])
        refuse: Callable[..., HttpResponse] = getattr(view, "refuse", refusals.refusal)
        request, exchange = LaneRequest(scope), scope.get(EXCHANGE)
        tracing.handled.set(request)
        upload: uploads.Upload | None = None
        try:
            response = self._refused(request, view, refuse)
            if response or request.method in ("GET", "HEAD"):
                pass
            elif not view and (bound := await uploads.find_bound(scope)):
                upload = await uploads.take(bound, scope, receive)
            else:
                request._body = await bodies.take(request, exchange, receive)
            if not response and view:
                response = await view(request, **arguments)
        except ClientGone:
            return
        except BodyTooLarge as error:
            is_desk = request.path.startswith("/admin/")
            response = refuse(request, "payload_too_large", str(error) or (refusals.SIGN_IN_FIRST if is_desk else ""))
        except NoRoom as error:
            response = refuse(request, "unavailable", str(error), wait_seconds=error.wait_seconds)
        except TimeoutError:
            response = refuse(request, "request_timeout")
        except SuspiciousOperation:
            response = refuse(request, "invalid_request", refusals.TOO_COMPLEX)
        except Exception:
            log.exception("%s %s failed", scope["method"], route.name)
            response = _last_resort(request, refuse)
        if not response:
            response = await self._ask_django(request, refuse, upload, receive, send)
        if response:
            lines = tracing.header_lines(request)
            if self._head_differs:
                lines += cors.lines(request) + https.lines(request)
            await _send(response, lines, exchange, send)
            route.note(response.status_code, time.monotonic() - began)
        if request.status_of_django:
            _django_route(request.path).note(request.status_of_django, time.monotonic() - began)

    async def _ask_django(
        self,
        request: LaneRequest,
        refuse: Callable[..., HttpResponse],
        upload: uploads.Upload | None,
        receive: Receive,
        send: Send,
    ) -> HttpResponse | None:
        """Have Django answer, and return None; where it cannot, return the refusal."""
        try:
            with upload or nullcontext():
                replay = upload.replay(receive) if upload else bodies.replay(request._body, receive)
                await self._django(_for_django(request.scope), replay, _naming(request, send))
        except Unanswered as error:
            return refuse(request, "unavailable", str(error), wait_seconds=BUSY_SECONDS)
        return None

    def _find(self, path: str) -> tuple[View | None, dict[str, Any], metrics.Route]:
        """Return the view, its arguments, and the route, whose name may be told: the names and the keys that shoppers'
        addresses have in them may not."""
        if found := self._fixed.get(path):
            return found
        for pattern, route in self._variable:
            if match := pattern.pattern.match(path[1:]):
                return pattern.callback, match[2], route
        return None, {}, OTHER_ROUTE

    def _refused(
        self, request: LaneRequest, view: View | None, refuse: Callable[..., HttpResponse]
    ) -> HttpResponse | None:
        """Return the answer to a foreign host, to an address that asks too often, and to http in place of https; None
        for all others."""
        host = request.META.get("HTTP_HOST", "")
        if host not in self._good_hosts:
            if not _is_served(request):
                return refuse(request, "invalid_request", refusals.FOREIGN_HOST)
            if host and len(self._good_hosts) < 100:
                self._good_hosts.add(host)
        if getattr(view, "is_limited", True) and (quota := ratelimits.address_refusal(client_address(request.META))):
            return refuse(request, "rate_limited", quota=quota)
        target_bytes = len(request.scope["raw_path"]) + (len(request.scope["query_string"]) if view else 0)
        if target_bytes > LONGEST_TARGET_BYTES:
            return refuse(request, "target_too_long", refusals.TARGET_TOO_LONG)
        return https.refused(request, refuse) if self._is_https else None


def _is_served(request: LaneRequest) -> bool:
    """Return whether the host is ours. HTTP/1.1 has to name one (RFC 9112, section 3.2); before it was our address."""
    if "HTTP_HOST" not in request.META and request.scope["http_version"] != "1.0":
        return False
    try:
        request.get_host()
    except DisallowedHost:
        return False
    return True


def _last_resort(request: LaneRequest, refuse: Callable[..., HttpResponse]) -> HttpResponse:
    try:
        return refuse(request, "server_error")
    except Exception:  # for instance the page's template is what failed
        log.exception("the answer to that failed, too")
        return endpoints.refusal(request, "server_error")


async def _send(response: HttpResponse, lines: bytes, exchange: Exchange | None, send: Send) -> None:
    """Send the response by the exchange; in another server than ours by the messages of ASGI.

    `lines` are header lines for this asker alone: the response may be for many.
    """
    status, head, body = response.__dict__.get("on_the_wire") or _on_the_wire(response)
    if lines:
        head += lines
    if exchange:
        if exchange.flow.write_paused:
            await exchange.flow.drain()
        if not isinstance(body, bytes) or len(body) > PIECE_BYTES:
            await exchange.respond_in_pieces(status, head, body)
            return
        exchange.respond(status, head, body, response.listener if isinstance(response, EventStream) else None)
        return
    headers = [tuple(line.split(b": ", 1)) for line in head.splitlines()]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    async for piece in pieces(body):
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body"})


def _on_the_wire(response: HttpResponse) -> tuple[int, bytes, Body]:
    """Return the response's status, header lines and body; they stay with it, because some are sent many times."""
    headers = response.headers
    head = headers.lines if isinstance(headers, Headers) else _lines(tuple(headers.items()))
    body = response.body if isinstance(response, endpoints.FileAnswer) else response.content
    if response.status_code not in _WITHOUT_LENGTH and not isinstance(response, EventStream):
        head += b"content-length: %d\r\n" % len(body)
    response.__dict__["on_the_wire"] = found = response.status_code, head, body
    return found


@lru_cache(maxsize=1000)
def _lines(headers: tuple[tuple[str, str], ...]) -> bytes:
    return header_lines(dict(headers))


def _naming(request: LaneRequest, send: Send) -> Send:
    """Return a `send` that adds to the head of Django's answer what the lane adds, but for what Django's middleware
    does, and that notes its status."""

    async def send_named(message: Message) -> None:
        if message["type"] == "http.response.start":
            request.status_of_django = message["status"]
            lines = (tracing.header_lines(request) + cors.lines(request)).splitlines()
            message["headers"] = [*message["headers"], *(tuple(line.split(b": ", 1)) for line in lines)]
        await send(message)

    return send_named


def _django_route(path: str) -> metrics.Route:
    try:
        return metrics.route(f"/{resolve(path).route}")
    except Resolver404:
        return OTHER_ROUTE


def _for_django(scope: Scope) -> Scope:
    """Return the scope without headers that would deceive Django.

    WSGI cannot tell X_Forwarded_For from X-Forwarded-For, and X-Forwarded-Proto is a proxy's to write. Where no proxy
    is named, it is taken that only the proxy reaches this server.
    """
    peer = (scope.get("client") or ("", 0))[0]
    hidden = () if not settings.TRUSTED_PROXIES or is_proxy(peer) else (b"x-forwarded-proto",)
    headers = [header for header in scope["headers"] if b"_" not in header[0] and header[0] not in hidden]
    return {**scope, "headers": headers}
