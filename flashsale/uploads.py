"""Files that operators upload, larger than any other request: kept on disk while they arrive, and for Django then."""

import asyncio
import re
import tempfile
from types import TracebackType

from django.conf import settings
from django.contrib.auth import SESSION_KEY
from django.db import DatabaseError, connection

from flashsale.bodies import BodyTooLarge, ClientGone, Message, Receive
from sales import refusals
from sales.sessions import SessionStore

LARGEST_BYTES = 48 * 1024 * 1024
WITHIN_SECONDS = 120
# In each worker; they are on its disk.
MOST_AT_ONCE = 2
IN_MEMORY_BYTES = 1024 * 1024
PIECE_BYTES = 64 * 1024

# A sale's invitations: a million addresses are 25 MB.
_PATH = re.compile(r"/admin/sales/sale/\d+/invitations/")


class TooManyUploads(Exception):
    """This worker receives enough of them already."""


async def is_expected(path: str, cookies: dict[str, str]) -> bool:
    """Return whether so large a body may come to this path: from somebody who has signed in, which strangers have not.

    What they may do there, Django's view says. Asks SQL, in a thread.
    """
    key = cookies.get(settings.SESSION_COOKIE_NAME, "")
    return bool(key and _PATH.fullmatch(path)) and await asyncio.to_thread(_is_signed_in, key)


def _is_signed_in(session_key: str) -> bool:
    try:
        return SESSION_KEY in SessionStore(session_key).load()
    except DatabaseError:
        return False
    finally:
        connection.close()


class Upload:
    """A body that was received whole, until `with` ends."""

    _under_way = 0

    def __init__(self) -> None:
        if Upload._under_way >= MOST_AT_ONCE:
            raise TooManyUploads
        Upload._under_way += 1
        self._file = tempfile.SpooledTemporaryFile(IN_MEMORY_BYTES)  # noqa: SIM115 (closed by __exit__)

    def __enter__(self) -> "Upload":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        Upload._under_way -= 1
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

    async def _fill(self, receive: Receive) -> None:
        is_whole = False
        while not is_whole:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            self._file.write(message.get("body", b""))
            if self._file.tell() > LARGEST_BYTES:
                raise BodyTooLarge(refusals.UPLOAD_TOO_LARGE)
            is_whole = not message.get("more_body")


async def take(receive: Receive) -> Upload:
    """Return the request's body. Raises TooManyUploads, BodyTooLarge as soon as it is, TimeoutError, ClientGone."""
    upload = Upload()
    try:
        async with asyncio.timeout(WITHIN_SECONDS):
            await upload._fill(receive)
    except BaseException as error:
        upload.__exit__(type(error), error, error.__traceback__)
        raise
    return upload
