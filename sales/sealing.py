"""Small secrets that others keep for us, in Redis or in a cookie: sealed, so that only we can read or make them."""

from collections.abc import Iterator
from secrets import token_bytes

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.conf import settings
from django.utils.crypto import salted_hmac

# NIST SP 800-38D, section 8.2: 96 random bits never meet twice for what one key seals here.
NONCE_BYTES = 12


def seal(data: bytes, purpose: str) -> bytes:
    """Return the data encrypted and authenticated (AES-256-GCM). Only `unseal` with the same purpose opens it."""
    nonce = token_bytes(NONCE_BYTES)
    return nonce + next(_ciphers(purpose)).encrypt(nonce, data, None)


def unseal(sealed: bytes, purpose: str) -> bytes | None:
    """Return what was sealed for this purpose, also by a key that is now a fallback; None for anything else."""
    for cipher in _ciphers(purpose):
        try:
            return cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], None)
        except (InvalidTag, ValueError):  # ValueError: it is too short for a nonce
            continue
    return None


def _ciphers(purpose: str) -> Iterator[AESGCM]:
    for secret in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS):
        yield AESGCM(salted_hmac("sales.sealing", purpose, secret, algorithm="sha256").digest())
