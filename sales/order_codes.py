"""Order codes like K7QX-2M9P: short enough to read out, and with the buyer's name enough to find the order.

Eight characters of Crockford's alphabet (crockford.com/base32.html) are 40 bits. Two of a million orders may share a
code, so none finds an order without its sale and name.
"""

import re
import unicodedata
from hmac import compare_digest

from sales import keyed_hashes

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
EXAMPLE = "K7QX-2M9P"
# Of what is typed: with blanks, dashes and some stray signs. More is not looked at.
LONGEST_TYPED = 40

_CHARACTERS = 8
# Five bits of each byte.
_WRITTEN = ALPHABET.encode() * 8
_MISTAKEN = str.maketrans("ILO", "110")
_BESIDE = re.compile(r"[\s.\-\u2010-\u2015\u2212]+")
_CODE = re.compile(f"[{ALPHABET}]{{{_CHARACTERS}}}")


def make(sale_id: int, order_id: str, secret: str = "") -> str:
    """Return the code of an order. It is made from the secret key, so that nobody computes another's."""
    return of_signature(keyed_hashes.of_order(f"{sale_id}.{order_id}", secret))


def of_signature(signature: bytes) -> str:
    """Return the code of the order that `keyed_hashes.of_order` has signed so."""
    code = signature[:_CHARACTERS].translate(_WRITTEN).decode()
    return f"{code[:4]}-{code[4:]}"


def read(text: str) -> str:
    """Return the code that somebody typed, in its one spelling; "" when it can be none.

    Case, blanks and dashes are of no matter, and I, L and O are the digits that they look like.
    """
    if len(text) > LONGEST_TYPED:
        return ""
    mended = _BESIDE.sub("", unicodedata.normalize("NFKC", text)).upper().translate(_MISTAKEN)
    return f"{mended[:4]}-{mended[4:]}" if _CODE.fullmatch(mended) else ""


def fits(given: str, sale_id: int, order_id: str, stored: str) -> bool:
    """Return whether a code that was given is one under which the order was told: the `stored` one, which SQL keeps
    whatever becomes of the secret key ("" before the order is written), or one by a secret key of now or before."""
    codes = [stored, *(make(sale_id, order_id, secret) for secret in keyed_hashes.secrets())]
    return any(compare_digest(given.encode(), code.encode()) for code in codes)
