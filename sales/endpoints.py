"""What all lane views share: answers, refusals, and reading what was asked."""

import hashlib
from codecs import BOM_UTF8
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any

import orjson
from django.http import HttpRequest, HttpResponse

from flashsale.pieces import FileBody
from flashsale.tracing import request_id
from sales import cors, ratelimits, shoppers, snapshots, store
from sales.headers import OF_DATA, Headers
from sales.outcomes import CODE, HTTP_STATUS, SENTENCE, challenge, retry_after
from sales.ratelimits import Quota

JSON = "application/json"

View = Callable[..., Coroutine[Any, Any, HttpResponse]]


class Refused(Exception):
    """The request is answered without a decision. `code` is a word of `outcomes`."""

    def __init__(self, code: str, message: str = ""):
        super().__init__(code)
        self.code, self.message = code, message


JSON_HEADERS = Headers({"Content-Type": JSON, "Cache-Control": "no-store", **OF_DATA})


class Answer(HttpResponse):
    """Django's response, made without the work that JSON on the lane has no use for: cookies, character sets.

    `HttpResponse.__init__` is not called on purpose: it takes 4 µs. `headers` are ours, and hold nothing of a client's.
    """

    def __init__(self, content: bytes, status: int, headers: dict[str, str]):
        self._container = [content]
        self.status_code = status
        self.headers = headers  # type: ignore[assignment]

    @property
    def content(self) -> bytes:  # type: ignore[override]
        """The body, which Django would put together from parts at each look. Nothing is added to it."""
        return self._container[0]


class FileAnswer(Answer):
    """An answer whose body is read from a file while it is sent."""

    def __init__(self, body: FileBody, status: int, headers: dict[str, str]):
        super().__init__(b"", status, headers)
        self.body = body


def answer(status: int, body: dict[str, Any], headers: dict[str, str] | None = None) -> HttpResponse:
    return Answer(orjson.dumps(body), status, {**JSON_HEADERS, **headers} if headers else JSON_HEADERS)


def refusal(
    request: HttpRequest,
    code: str,
    message: str = "",
    *,
    quota: Quota | None = None,
    wait_seconds: int = 1,
    allow: str = "",
) -> HttpResponse:
    """Return the JSON answer to a request that got no decision. It is English, whatever language is asked for.

    It names the request, by which who asks for help can be found in the log. A `quota` tells how long to wait.
    """
    waiting = retry_after(code, quota.seconds if quota else wait_seconds)
    asked = challenge(code, request.META.get("HTTP_AUTHORIZATION", ""))
    headers = waiting | ratelimits.headers(quota) | asked | ({"Allow": allow} if allow else {})
    body = refusal_body(code, message)
    body["requestId"] = request_id()
    return answer(HTTP_STATUS[code], body, headers)


def plain(found: HttpResponse) -> HttpResponse:
    """Return an answer of the lane's as one that middleware may add to."""
    return HttpResponse(found.content, status=found.status_code, headers=dict(found.headers))


def refusal_body(code: str, message: str = "") -> dict[str, Any]:
    return {
        "success": False,
        "code": CODE.get(code, code),
        "message": message or SENTENCE[code],
        "remainingStock": None,
    }


def endpoint(
    *methods: str, refuse: Callable[..., HttpResponse] = refusal, is_limited: bool = True
) -> Callable[[View], View]:
    """Make a lane view of a function that may raise Refused or store.Failure.

    The lane finds on the view what `refuse` is, which makes the answers without a decision as `refusal` does, and
    whether its requests count against their address's rate.
    """

    def decorate(view: View) -> View:
        @wraps(view)
        async def checked(request: HttpRequest, **arguments: Any) -> HttpResponse:
            if request.method not in methods:
                return _other_method(request, methods, refuse)
            try:
                return await view(request, **arguments)
            except Refused as error:
                return refuse(request, error.code, error.message)
            except store.Failure as failure:
                return refuse(request, failure.outcome)

        checked.refuse, checked.is_limited = refuse, is_limited  # type: ignore[attr-defined]
        return checked

    return decorate


def _other_method(request: HttpRequest, methods: tuple[str, ...], refuse: Callable[..., HttpResponse]) -> HttpResponse:
    if headers := cors.preflight(request, methods):
        return Answer(b"", 204, headers)
    return refuse(request, "method_not_allowed", allow=", ".join(methods))


async def find_sale(slug: str) -> snapshots.Snapshot:
    sale = await snapshots.find(slug)
    if sale is None:
        raise Refused("no_sale")
    return sale


async def find_shown_sale(slug: str) -> snapshots.Snapshot:
    """Return a sale that has a page, which a rehearsal has not."""
    sale = await find_sale(slug)
    if sale.is_rehearsal:
        raise Refused("no_sale")
    return sale


def read_shopper(user_id: object) -> str:
    try:
        return shoppers.normalise(user_id)
    except shoppers.InvalidShopper as error:
        raise Refused("invalid_request", str(error)) from None


def read_json(body: bytes) -> dict[str, Any] | None:
    """Return the JSON object of a body, None when it is none. A byte order mark before it is passed over."""
    try:
        found = orjson.loads(body.removeprefix(BOM_UTF8))
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None


def etag_of(content: bytes) -> str:
    """Return a strong ETag (RFC 9110, section 8.8.3) of `content`."""
    return f'"{hashlib.blake2b(content, digest_size=8).hexdigest()}"'


def is_known(request: HttpRequest, etag: str) -> bool:
    """Return whether the asker says that it has this version already."""
    return etag in request.META.get("HTTP_IF_NONE_MATCH", "")
