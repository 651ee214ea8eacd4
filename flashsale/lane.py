"""The express lane: calls the async views that the crowd asks for directly; everything else goes to Django.

A lane view is an ordinary async Django view. It gets a genuine HttpRequest, but no middleware ran and no session, user
or SQL is there. What the middleware would have checked for all of them is checked here: host, client rate, body size.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from http import HTTPStatus
from typing import Any

from django.core.exceptions import DisallowedHost, SuspiciousOperation
from django.http import HttpRequest, HttpResponse, QueryDict, parse_cookie
from django.urls import URLPattern
from django.utils.datastructures import MultiValueDict
from django.utils.functional import cached_property

from sales import endpoints, ratelimits
from sales.addresses import client_address

LARGEST_BODY_BYTES = 8 * 1024
BODY_WITHIN_SECONDS = 5

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
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
            text, key = value.decode("latin-1"), _meta_key(name)
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


def _meta_key(name: bytes, known: dict[bytes, str] = {}) -> str:  # noqa: B006 (the cache of header names)
    if name not in known:
        key = name.decode("latin-1").replace("-", "_").upper()
        key = key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"
        if len(known) > 500:
            return key
        known[name] = key
    return known[name]


class BodyTooLarge(Exception):
    pass


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
        if view is None:
            await self._django(scope, receive, send)
            return
        response = await self._answer(view, arguments, scope, receive)
        headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in response.items()]
        if response.status_code != HTTPStatus.NOT_MODIFIED:
            headers.append((b"content-length", str(len(response.content)).encode()))
        await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
        await send({"type": "http.response.body", "body": response.content})

    def _find(self, path: str) -> tuple[View | None, dict[str, Any]]:
        if view := self._fixed.get(path):
            return view, {}
        for pattern in self._variable:
            if match := pattern.pattern.match(path[1:]):
                return pattern.callback, match[2]
        return None, {}

    async def _answer(self, view: View, arguments: dict[str, Any], scope: Scope, receive: Receive) -> HttpResponse:
        refuse = view.refuse  # type: ignore[attr-defined]
        try:
            request = LaneRequest(scope)
            self._check_host(request)
            if wait_seconds := ratelimits.address_wait_seconds(client_address(request.META)):
                return refuse("rate_limited", wait_seconds=wait_seconds)
            if scope["method"] not in ("GET", "HEAD"):
                request._body = await _body(receive)
            return await view(request, **arguments)
        except DisallowedHost:
            return refuse("invalid_request", "This host is not served here. Check the address that you used.")
        except SuspiciousOperation as error:
            return refuse("invalid_request", f"{error} Send a smaller or simpler request.")
        except BodyTooLarge:
            return refuse("payload_too_large")
        except TimeoutError:
            return refuse("request_timeout")
        except Exception:
            log.exception("%s %s failed", scope["method"], scope["path"])
            try:
                return refuse("server_error")
            except Exception:  # for instance the page's template is what failed
                log.exception("the answer to that failed, too")
                return endpoints.refusal("server_error")

    def _check_host(self, request: HttpRequest) -> None:
        host = request.META.get("HTTP_HOST", "")
        if host not in self._good_hosts:
            request.get_host()
            if len(self._good_hosts) < 100:
                self._good_hosts.add(host)


async def _body(receive: Receive) -> bytes:
    """Return the request's whole body. Raises BodyTooLarge as soon as it is; TimeoutError when it does not arrive."""
    body = b""
    async with asyncio.timeout(BODY_WITHIN_SECONDS):
        while True:
            message = await receive()
            body += message.get("body", b"")
            if len(body) > LARGEST_BODY_BYTES:
                raise BodyTooLarge
            if not message.get("more_body"):
                return body
