"""Which request is being handled: its ID, and the trace that it is part of (W3C Trace Context)."""

import random
import re
from contextvars import Context, ContextVar
from typing import NamedTuple

from django.http import HttpRequest

handled: ContextVar[HttpRequest | None] = ContextVar("handled", default=None)

_ID = "flashsale.request_id"
_SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
# Section 3.2: version, trace, the caller's span, flags; a later version may have more.
_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(-[!-~]{0,100})?")


class Trace(NamedTuple):
    traceparent: str
    trace_id: str
    span_id: str


def no_request() -> Context:
    """Return the context for a task or timer that outlives the request in which it is made: it is part of none, and
    keeps none in memory."""
    return Context()


def request_id() -> str:
    """Return the ID of the request that is handled: the one that it brought, if that is sane, or a random one.

    An ID that was asked for by this is in the answer's headers. Outside of any request it is another each time.
    """
    request = handled.get()
    return _id_of(request) if request else _random_id()


def _id_of(request: HttpRequest) -> str:
    found = request.__dict__.get(_ID)
    if not found:
        sent = request.META.get("HTTP_X_REQUEST_ID", "")
        found = request.__dict__[_ID] = sent if _SANE_ID.fullmatch(sent) else _random_id()
    return found


def _random_id() -> str:
    return f"{random.getrandbits(64):016x}"


def trace_of(request: HttpRequest) -> Trace | None:
    """Return the trace that the request says it is part of; None when it says so in a way that is not valid."""
    sent = request.META.get("HTTP_TRACEPARENT", "")
    match = _TRACEPARENT.fullmatch(sent)
    if not match:
        return None
    version, trace_id, span_id, more = match.groups()
    if version == "ff" or (version == "00" and more) or not int(trace_id, 16) or not int(span_id, 16):
        return None
    return Trace(sent, trace_id, span_id)


def header_lines(request: HttpRequest) -> bytes:
    """Return the lines that name the request in the head of its answer.

    They are the ID, when one was sent or something has asked for it, and the trace, when one was sent.
    """
    meta = request.META
    if "HTTP_X_REQUEST_ID" not in meta and _ID not in request.__dict__ and "HTTP_TRACEPARENT" not in meta:
        return b""
    lines = ""
    if "HTTP_X_REQUEST_ID" in meta or _ID in request.__dict__:
        lines = f"x-request-id: {_id_of(request)}\r\n"
    if trace := trace_of(request):
        lines += f"traceparent: {trace.traceparent}\r\n"
    return lines.encode("ascii")
