"""What only a holder of the secret key can make: keyed BLAKE2b (RFC 7693, section 2.9), with a key for each use."""

import hashlib
from collections.abc import Iterable
from functools import lru_cache

from django.conf import settings
from django.utils.crypto import salted_hmac


def digest(salt: str, text: str, size: int, secret: str = "") -> bytes:
    """Return `size` bytes that stand for `text`, by the key of that salt; without a `secret`, by the secret key."""
    keyed = _keyed(salt, size, secret or settings.SECRET_KEY).copy()
    keyed.update(text.encode())
    return keyed.digest()


def of_order(named: str, secret: str = "") -> bytes:
    """Return the 16 bytes that sign the order `SALE_ID.ORDER_ID`: the address of its receipt has all of them, its order
    code is made from the first eight. Without a `secret`, by the secret key."""
    return digest("sales.receipts", named, 16, secret)


def secrets() -> Iterable[str]:
    """Return the secret keys that may have made something that still counts, the one in use first."""
    return settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS


@lru_cache(maxsize=20)
def _keyed(salt: str, size: int, secret: str) -> "hashlib.blake2b":
    """Return the hash with its key, which is derived from `secret` and made once: half of the work."""
    key = salted_hmac(salt, "key", secret=secret, algorithm="sha256").digest()
    return hashlib.blake2b(key=key, digest_size=size)
