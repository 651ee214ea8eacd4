"""The express lane: calls the async views that the crowd asks for directly; everything else goes to Django.

A lane view is an ordinary async Django view. It gets a genuine HttpRequest, but no middleware ran and no session, user
or SQL is there. What the middleware would have checked for all of them is checked here: host, client rate, body size.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from functools import lru_cache
from http import HTTPStatus
from typing import Any

from django.core.exceptions import DisallowedHost, SuspiciousOperation
from django.http import HttpRequest, HttpResponse, QueryDict, parse_cookie
from django.urls import URLPattern
from django.utils.datastructures import MultiValueDict
from django.utils.functional import cached_property

from flashsale.protocol import EXCHANGE, Exchange
from sales import endpoints, ratelimits, refusals
from sales.addresses import client_address
from sales.events import EventStream

LARGEST_BODY_BYTES = 8 * 1024
BODY_WITHIN_SECONDS = 5
# For Django's own pages, where operators upload pictures.
DJANGO_BODY_LIMITS = (10 * 1024 * 1024, 30)

Scope = dict[str, Any]
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
View = Callable[..., Coroutine[Any, Any, HttpResponse]]

log = logging.getLogger(__name__)


class LaneRequest(HttpRequest):
    """Django's request, made from an ASGI scope without the work that lane views have no use for.

    `HttpRequest.__init__` is not called on purpose: it takes 8 µs, most of it for what is lazy here.
    """

    def __init__(self, scope: Scope):
        self.scope = scope
        self.method = scope["method"]
        self.path = self.path_info = scope["path"]
        self.resolver_match = None
        self.content_type, self.content_params = None, None
        self._body = b""
        self._read_started = False

    @cached_property
    def META(self) -> dict[str, Any]:  # type: ignore[override]
        scope = self.scope
        server_name, server_port = scope.get("server") or ("unknown", 0)
        meta = {
            "REQUEST_METHOD": self.method,
            "QUERY_STRING": scope["query_string"].decode("latin-1"),
            "PATH_INFO": self.path,
            "SCRIPT_NAME": "",
            "SERVER_NAME": server_name,
            "SERVER_PORT": str(server_port or 0),
            "REMOTE_ADDR": (scope.get("client") or ("", 0))[0],
        }
        for name, value in scope["headers"]:
            text, key = value.decode("latin-1"), _META_KEYS.get(name) or _meta_key(name)
            # RFC 9110, section 5.3: repeated fields are one field with a list.
            meta[key] = f"{meta[key]},{text}" if key in meta else text
        return meta

    @cached_property
    def GET(self) -> QueryDict:  # type: ignore[override]
        return QueryDict(self.META["QUERY_STRING"])

    @cached_property
    def POST(self) -> QueryDict:  # type: ignore[override]
        return QueryDict(self._body)

    @cached_property
    def FILES(self) -> MultiValueDict:  # type: ignore[override]
        return MultiValueDict()

    @cached_property
    def COOKIES(self) -> dict[str, str]:  # type: ignore[override]
        return parse_cookie(self.META.get("HTTP_COOKIE", ""))

    def _get_scheme(self) -> str:
        return self.scope.get("scheme", "http")


# Names of headers, and what META calls them.
_META_KEYS: dict[bytes, str] = {}


def _meta_key(name: bytes) -> str:
    text = name.decode("latin-1")
    key = text.replace("-", "_").upper()
    if "_" in text:  # X_Forwarded_For would pass for X-Forwarded-For: it keeps a name that nobody reads
        key = text
    elif key not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
        key = f"HTTP_{key}"
    if len(_META_KEYS) < 500:
        _META_KEYS[name] = key
    return key


class BodyTooLarge(Exception):
    pass


class ClientGone(Exception):
    """The client left before its request was whole: nothing may be decided."""


class Lane:
    """An ASGI application: the views of `patterns` are called here, all other requests by `django`."""

    def __init__(self, patterns: Iterable[URLPattern], django: Callable[..., Awaitable[None]]):
        self._django = django
        self._fixed: dict[str, View] = {}
        self._variable: list[URLPattern] = []
        self._good_hosts: set[str] = set()
        for pattern in patterns:
            if not hasattr(pattern.callback, "refuse"):
                raise TypeError(f"{pattern}: a view on the lane is made by endpoints.endpoint")
            if pattern.pattern.converters:
                self._variable.append(pattern)
            else:
                self._fixed[f"/{pattern.pattern}"] = pattern.callback

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        view, arguments = self._find(scope["path"])
        refuse: Callable[..., HttpResponse] = getattr(view, "refuse", refusals.refusal)
        request, exchange = LaneRequest(scope), scope.get(EXCHANGE)
        try:
            response = self._refused(request, refuse)
            if not response and request.method not in ("GET", "HEAD"):
                limits = (LARGEST_BODY_BYTES, BODY_WITHIN_SECONDS) if view else DJANGO_BODY_LIMITS
                request._body = await _body(exchange, receive, *limits)
            if not response and view:
                response = await view(request, **arguments)
        except ClientGone:
            return
        except BodyTooLarge:
            response = refuse(request, "payload_too_large", "" if view else refusals.FORM_TOO_LARGE)
        except TimeoutError:
            response = refuse(request, "request_timeout")
        except SuspiciousOperation:
            response = refuse(request, "invalid_request", refusals.TOO_COMPLEX)
        except Exception:
            log.exception("%s %s failed", scope["method"], scope["path"])
            response = _last_resort(request, refuse)
        if response:
            await _send(response, exchange, send)
        else:
            await self._django(_without_aliases(scope), _replay(request._body, receive), send)

    def _find(self, path: str) -> tuple[View | None, dict[str, Any]]:
        if view := self._fixed.get(path):
            return view, {}
        for pattern in self._variable:
            if match := pattern.pattern.match(path[1:]):
                return pattern.callback, match[2]
        return None, {}

    def _refused(self, request: LaneRequest, refuse: Callable[..., HttpResponse]) -> HttpResponse | None:
        """Return the answer to a foreign host or to an address that asks too often; None for all others."""
        host = request.META.get("HTTP_HOST", "")
        if host not in self._good_hosts:
            try:
                request.get_host()
            except DisallowedHost:
                return refuse(request, "invalid_request", refusals.FOREIGN_HOST)
            if len(self._good_hosts) < 100:
                self._good_hosts.add(host)
        if wait_seconds := ratelimits.address_wait_seconds(client_address(request.META)):
            return refuse(request, "rate_limited", wait_seconds=wait_seconds)
        return None


def _last_resort(request: LaneRequest, refuse: Callable[..., HttpResponse]) -> HttpResponse:
    try:
        return refuse(request, "server_error")
    except Exception:  # for instance the page's template is what failed
        log.exception("the answer to that failed, too")
        return endpoints.refusal(request, "server_error")


async def _send(response: HttpResponse, exchange: Exchange | None, send: Send) -> None:
    """Send the response by the exchange; in another server than ours by the messages of ASGI."""
    status, head, body = response.__dict__.get("on_the_wire") or _on_the_wire(response)
    if exchange:
        if exchange.flow.write_paused:
            await exchange.flow.drain()
        exchange.respond(status, head, body, response.listener if isinstance(response, EventStream) else None)
        return
    headers = [tuple(line.split(b": ", 1)) for line in head.splitlines()]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _on_the_wire(response: HttpResponse) -> tuple[int, bytes, bytes]:
    """Return the response's status, header lines and body; they stay with it, because some are sent many times."""
    headers = response.headers
    head = headers.lines if isinstance(headers, endpoints.Headers) else _lines(tuple(headers.items()))
    if response.status_code != HTTPStatus.NOT_MODIFIED and not isinstance(response, EventStream):
        head += b"content-length: %d\r\n" % len(response.content)
    response.__dict__["on_the_wire"] = found = response.status_code, head, response.content
    return found


@lru_cache(maxsize=1000)
def _lines(headers: tuple[tuple[str, str], ...]) -> bytes:
    return endpoints.header_lines(dict(headers))


async def _body(exchange: Exchange | None, receive: Receive, largest_bytes: int, within_seconds: float) -> bytes:
    """Return the request's whole body. Raises BodyTooLarge as soon as it is, TimeoutError, ClientGone.

    Most often all of it is there already: a timer costs more than the rest of this.
    """
    if exchange and (whole := exchange.take_body()) is not None:
        return _checked(whole, largest_bytes)
    body, is_whole = b"", False
    async with asyncio.timeout(within_seconds):
        while not is_whole:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            body = _checked(body + message.get("body", b""), largest_bytes)
            is_whole = not message.get("more_body")
    return body


def _checked(body: bytes, largest_bytes: int) -> bytes:
    if len(body) > largest_bytes:
        raise BodyTooLarge
    return body


def _replay(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives a body which was read already: no thread waits for a slow client."""
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> Message:
        return messages.pop() if messages else await receive()

    return receive_again


def _without_aliases(scope: Scope) -> Scope:
    """Return the scope without header names that WSGI cannot tell from others: X_Forwarded_For for X-Forwarded-For."""
    return {**scope, "headers": [header for header in scope["headers"] if b"_" not in header[0]]}
