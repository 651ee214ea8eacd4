"""Bodies larger than anybody's: those of signed-in operators, kept on disk while they arrive, and for Django then."""

import asyncio
import logging
import re
import tempfile
from contextlib import suppress
from types import TracebackType
from typing import NamedTuple

from django.contrib.auth import SESSION_KEY
from django.db import DatabaseError, connection

from flashsale import bodies
from flashsale.bodies import BodyTooLarge, ClientGone, Message, Receive
from sales import refusals
from sales.desk import proof
from sales.sessions import SessionStore

PIECE_BYTES = 64 * 1024
# Of all that are under way in a worker; they are on its disk.
MOST_BYTES = 128 * 1024 * 1024

_MB = 1024 * 1024

Scope = Message

log = logging.getLogger(__name__)


class Bound(NamedTuple):
    """What may come to an address."""

    path: re.Pattern[str]
    largest_bytes: int
    within_seconds: int
    words: str = ""


BOUNDS = (
    # A sale's invitations: a million addresses are 25 MB.
    Bound(re.compile(r"/admin/sales/sale/\d+/invitations/"), 48 * _MB, 120, refusals.UPLOAD_TOO_LARGE),
    # A sale's form, with its picture.
    Bound(re.compile(r"/admin/sales/sale/(add|\d+/change)/"), 10 * _MB, 30, refusals.FORM_TOO_LARGE),
    # What is done with the selected rows of a list: Django reads at most a thousand fields, each of some 40 bytes here.
    Bound(re.compile(r"/admin/.*"), 64 * 1024, bodies.WITHIN_SECONDS, refusals.TOO_COMPLEX),
)


class TooManyUploads(bodies.NoRoom):
    """This worker receives enough of them already."""

    wait_seconds = 60

    def __init__(self) -> None:
        super().__init__(refusals.TOO_MANY_UPLOADS)


def is_proven(scope: Scope) -> bool:
    """Return whether more of a body may be kept than everybody's: for those who prove that they have signed in."""
    return _proven(scope) is not None


async def find_bound(scope: Scope) -> Bound | None:
    """Return what may come of a body beyond what everybody may send; None where that is all. Asks SQL, in a thread, but
    not for those who prove nothing."""
    if not (found := _proven(scope)):
        return None
    bound, session_key = found
    return bound if await asyncio.to_thread(_is_signed_in, session_key) else None


def _proven(scope: Scope) -> tuple[Bound, str] | None:
    bound = next((bound for bound in BOUNDS if bound.path.fullmatch(scope["path"])), None)
    if not bound or _declared_bytes(scope, bodies.LARGEST_BYTES + 1) <= bodies.LARGEST_BYTES:
        return None
    cookies = ";".join(value.decode("latin-1") for name, value in scope["headers"] if name == b"cookie")
    session_key = proof.session_of(cookies)
    return (bound, session_key) if session_key else None


def _declared_bytes(scope: Scope, otherwise: int) -> int:
    """Return the length that the body's head tells, which the parser has checked; `otherwise` for one in chunks."""
    told = dict(scope["headers"])
    if b"transfer-encoding" in told:
        return otherwise
    digits = told.get(b"content-length", b"").strip().lstrip(b"0")[:18]
    return int(digits or 0)


def _is_signed_in(session_key: str) -> bool:
    try:
        return SESSION_KEY in SessionStore(session_key).load()
    except DatabaseError:
        return False
    finally:
        connection.close()


class Upload:
    """A body that was received whole, until `with` ends."""

    _reserved_bytes = 0

    def __init__(self, largest_bytes: int) -> None:
        """Reserve the place for all of it. Raises TooManyUploads."""
        if Upload._reserved_bytes + largest_bytes > MOST_BYTES:
            raise TooManyUploads
        try:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 (closed by __exit__)
        except OSError as error:
            log.error("there is no place for an upload: %s", error)
            raise TooManyUploads from None
        self._largest_bytes = largest_bytes
        Upload._reserved_bytes += largest_bytes

    def __enter__(self) -> "Upload":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        Upload._reserved_bytes -= self._largest_bytes
        with suppress(OSError):  # what a full disk has not taken is tried again
            self._file.close()

    def replay(self, receive: Receive) -> Receive:
        """Return a `receive` that gives the body in pieces, and then what else comes."""
        self._file.seek(0)
        is_over = False

        async def receive_again() -> Message:
            nonlocal is_over
            if is_over:
                return await receive()
            piece = self._file.read(PIECE_BYTES)
            is_over = not piece
            return {"type": "http.request", "body": piece, "more_body": not is_over}

        return receive_again

    async def _fill(self, receive: Receive, bound: Bound) -> None:
        is_whole, count = False, 0
        while not is_whole:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            piece = message.get("body", b"")
            count += len(piece)
            if count > self._largest_bytes:
                raise BodyTooLarge(bound.words)
            is_whole = not message.get("more_body")
            self._write(piece, is_whole)

    def _write(self, piece: bytes, is_last: bool) -> None:
        try:
            self._file.write(piece)
            if is_last:
                self._file.flush()
        except OSError as error:
            log.error("an upload cannot be kept: %s", error)
            raise TooManyUploads from None


async def take(bound: Bound, scope: Scope, receive: Receive) -> Upload:
    """Return the request's body. Raises TooManyUploads, BodyTooLarge as soon as it is, TimeoutError, ClientGone."""
    declared_bytes = _declared_bytes(scope, bound.largest_bytes)
    if declared_bytes > bound.largest_bytes:
        raise BodyTooLarge(bound.words)
    upload = Upload(declared_bytes)
    try:
        async with asyncio.timeout(bound.within_seconds):
            await upload._fill(receive, bound)
    except BaseException as error:
        upload.__exit__(type(error), error, error.__traceback__)
        raise
    return upload
