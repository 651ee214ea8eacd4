"""What the head of a request must keep to, beyond what the parser checks already (llhttp without its leniencies).

Where two servers may read the same bytes as different requests, someone can hide a request in another's body (RFC 9112,
section 11.2). So whatever is not plain is refused, also where the RFC would let a server guess.
"""

import httptools

LARGEST_HEAD_BYTES = 16 * 1024
MOST_HEADERS = 100
# Of the bytes around a chunked body: sizes and extensions of chunks, trailers. A chunk of some size pays for itself.
LARGEST_FRAMING_BYTES = 2 * 1024
# About what Python takes for a request and for each of its fields, beside their bytes.
_REQUEST_BYTES, _FIELD_BYTES = 1500, 150

Headers = list[tuple[bytes, bytes]]


class Trailers(Headers):
    """Fields behind a chunked body: no headers (RFC 9110, section 6.5.1). Nobody reads them, and none is kept."""

    def append(self, field: tuple[bytes, bytes]) -> None:
        pass


class Refused(Exception):
    """This is no request that could be answered. Nothing that follows it on its connection can be read, either."""

    status = 400
    text = b"This is not a valid HTTP request."


class HeadTooLarge(Refused):
    status = 431
    text = b"The head of this request is too large: at most 100 header fields and 16 KiB are read."


class FramingTooLarge(Refused):
    text = b"This body comes in too many small chunks. Send it in larger ones, or with a Content-Length."


class HeadTooSlow(Refused):
    status = 408
    text = b"The head of this request took too long to arrive. Send it again."


class TooManyAtOnce(Refused):
    text = b"Too many requests were sent before the first answer. Wait for answers in between."


class UpgradeWithBody(Refused):
    text = b"This server speaks HTTP/1.1 alone. Send the request again, without the header Upgrade."


def refusal(error: httptools.HttpParserError) -> Refused:
    """Return why the parser has stopped: what a callback raised, if it was one of these."""
    found = error.__context__
    # Where it was raised would keep the packet while the answer waits for its turn.
    return found.with_traceback(None) if isinstance(found, Refused) else Refused()


def check_size(target: bytes, headers: Headers) -> None:
    """Raise HeadTooLarge if it is."""
    if len(headers) > MOST_HEADERS:
        raise HeadTooLarge
    if _size(target, headers) > LARGEST_HEAD_BYTES:
        raise HeadTooLarge


def memory_bytes(target: bytes, headers: Headers) -> int:
    """Return about how much memory a request takes that waits for its turn."""
    return _REQUEST_BYTES + _FIELD_BYTES * len(headers) + _size(target, headers)


def _size(target: bytes, headers: Headers) -> int:
    return len(target) + sum(len(name) + len(value) + len(": \r\n") for name, value in headers)


def checked_target(version: str, method: bytes, target: bytes, headers: Headers) -> bytes:
    """Return the request target in origin form (RFC 9112, section 3.2), or `*`. Raises Refused.

    Of Transfer-Encoding only `chunked` is understood, once, and not in HTTP/1.0 (section 6.1): the parser would also
    take other codings in front of it, and leave them undone. A host that the target alone names becomes the
    header Host, which is checked later.
    """
    codings = [value.strip(b" \t").lower() for name, value in headers if name == b"transfer-encoding"]
    if version not in ("1.0", "1.1") or (codings and (version == "1.0" or codings != [b"chunked"])):
        raise Refused
    if target.startswith(b"/") or (target == b"*" and method == b"OPTIONS"):
        return target
    scheme, _, rest = target.partition(b"://")
    authority = rest.replace(b"?", b"/").partition(b"/")[0]
    hosts = [value.strip(b" \t").lower() for name, value in headers if name == b"host"]
    # Section 3.2.2 has the target's host win over the header. They are the same, or somebody means mischief.
    if version == "1.0" and not hosts:
        headers.append((b"host", authority))
        hosts = [authority.lower()]
    if scheme.lower() not in (b"http", b"https") or hosts != [authority.lower()]:
        raise Refused
    path = rest[len(authority) :]
    return path if path.startswith(b"/") else b"/" + path


def has_body(headers: Headers) -> bool:
    kinds = (b"content-length", b"transfer-encoding")
    return any(name in kinds and value != b"0" for name, value in headers)
