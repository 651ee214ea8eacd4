"""Presses of forms: each rendered form has a one-time token, and a repeated press gets the first one's answer.

A token is a nonce, signed for the session of whoever is signed in, else for the browser's CSRF cookie. Nothing is
stored when a form is rendered. The first press claims its token in Redis, together with what was typed: another text
in the same form is another press. Its answer is kept there, sealed, for its repeats.
"""

import time
import zlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable
from hashlib import blake2b
from hmac import compare_digest
from secrets import token_bytes
from typing import NamedTuple

import orjson
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils.crypto import salted_hmac

from sales import sealing, store

FIELD = "press"
NONCE_BYTES = SIGNATURE_BYTES = 16
# How long a repeat gets the first answer.
KEPT_SECONDS = 600
# How long a session's presses are known as done. Strangers' only as long as their answers: they could fill the memory.
KNOWN_SECONDS = settings.SESSION_COOKIE_AGE
# Compressed. What is larger is not kept, and a repeat is told that it was done.
LARGEST_ANSWER_BYTES = 64 * 1024
LARGEST_ANSWER_TO_STRANGERS_BYTES = 8 * 1024
# No view takes longer: the process that ran it is gone.
LOST_AFTER_SECONDS = 300

_DONE = b"done"
_NOT_TYPED = {FIELD, "csrfmiddlewaretoken"}


class Press(NamedTuple):
    nonce: bytes
    signature: bytes
    key: str

    @classmethod
    def of(cls, request: HttpRequest) -> "Press | None":
        """Return the press that a request is; None when its form has no token, or one that we did not make."""
        token = request.POST.get(FIELD, "") if request.method == "POST" else ""
        try:
            raw = urlsafe_b64decode(token) if token.isascii() and len(token) < 64 else b""
        except ValueError:
            raw = b""
        if len(raw) != NONCE_BYTES + SIGNATURE_BYTES:
            return None
        nonce = raw[:NONCE_BYTES]
        # Who reads the key in Redis learns neither the token nor what was typed.
        name = blake2b(_digest(request), key=nonce, digest_size=16).hexdigest()
        return cls(nonce, raw[NONCE_BYTES:], f"{store.PRESSES}{{{name}}}")

    def is_of(self, owner: str) -> bool:
        """Return whether the token was signed for this owner, also by a key that is now a fallback."""
        secrets = (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)
        return any(compare_digest(self.signature, _signature(self.nonce, owner, secret)) for secret in secrets)

    def claim(self, seconds: int) -> str:
        """Take the press if nobody has, and return how it stands: `first`, `done`, `under_way`, or `lost` when it has
        been under way for longer than any that ends. Raises RedisError."""
        if store.client().set(self.key, time.time(), nx=True, ex=seconds):
            return "first"
        found = store.client().get(self.key)
        if found is None:  # it was given back at this moment
            return "under_way"
        if found == _DONE:
            return "done"
        return "under_way" if time.time() - float(found) < LOST_AFTER_SECONDS else "lost"

    def keep(self, response: HttpResponseBase, owners: Iterable[str], seconds: int) -> None:
        """Keep the answer for these owners, and call the press done for so many seconds. Raises RedisError."""
        sealed = sealing.seal(_packed(response, [_mark(self.nonce, owner) for owner in owners]), self.nonce.hex())
        commands = store.pipeline(self.key)
        largest_bytes = LARGEST_ANSWER_BYTES if seconds == KNOWN_SECONDS else LARGEST_ANSWER_TO_STRANGERS_BYTES
        if not response.streaming and len(sealed) <= largest_bytes:
            commands.set(self._answer_key, sealed, ex=KEPT_SECONDS)
        commands.set(self.key, _DONE, ex=seconds)
        commands.execute()

    def lose(self, seconds: int) -> None:
        """Call the press `lost` for so many seconds. Raises RedisError."""
        store.client().set(self.key, 0, ex=seconds)

    def give_back(self) -> None:
        """Let the next press be the first. Raises RedisError."""
        store.client().delete(self.key)

    def answer(self, owners: Iterable[str]) -> HttpResponse | None:
        """Return the first answer, if it is kept and for one of these owners. Raises RedisError."""
        sealed = store.client().get(self._answer_key)
        packed = sealing.unseal(sealed, self.nonce.hex()) if sealed else None
        return _unpacked(packed, {_mark(self.nonce, owner) for owner in owners}) if packed else None

    @property
    def _answer_key(self) -> str:
        return f"{self.key}:answer"


def issue(owner: str) -> str:
    """Return a token for a form that is rendered for this owner."""
    nonce = token_bytes(NONCE_BYTES)
    return urlsafe_b64encode(nonce + _signature(nonce, owner, settings.SECRET_KEY)).decode()


def _signature(nonce: bytes, owner: str, secret: str) -> bytes:
    value = f"{nonce.hex()} {owner}"
    return salted_hmac("sales.presses", value, secret, algorithm="sha256").digest()[:SIGNATURE_BYTES]


def _mark(nonce: bytes, owner: str) -> str:
    """Return what of an owner is kept: of a session's key no more than tells it from others."""
    return blake2b(owner.encode(), key=nonce, digest_size=16).hexdigest()


def _digest(request: HttpRequest) -> bytes:
    """Return a digest of where the form is sent, and of all that was typed, ticked and chosen in it."""
    typed: list[object] = [request.get_full_path()]
    typed += [[name, *values] for name, values in request.POST.lists() if name not in _NOT_TYPED]
    for name, files in request.FILES.lists():
        for file in files:
            content = blake2b()
            for piece in file.chunks():
                content.update(piece)
            file.seek(0)
            typed.append([name, file.name, content.hexdigest()])
    # repr: names and values come from strangers, and may hold lone surrogates.
    return blake2b(repr(typed).encode()).digest()


def _packed(response: HttpResponseBase, marks: list[str]) -> bytes:
    cookies = [[name, cookie.value, dict(cookie)] for name, cookie in response.cookies.items()]
    head = [response.status_code, list(response.items()), cookies, marks]
    body = b"" if response.streaming else response.content  # type: ignore[attr-defined]
    return zlib.compress(orjson.dumps(head) + b"\n" + body)


def _unpacked(packed: bytes, marks: set[str]) -> HttpResponse | None:
    head, _, body = zlib.decompress(packed).partition(b"\n")
    status, headers, cookies, kept_marks = orjson.loads(head)
    if not marks & set(kept_marks):
        return None
    response = HttpResponse(body, status=status, headers=dict(headers))
    for name, value, attributes in cookies:
        response.cookies[name] = value
        response.cookies[name].update(attributes)
    return response
