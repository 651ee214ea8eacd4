"""What is not shown as it is: what could pass for more than text, secrets, and who somebody is."""

import hashlib
import html
import re
from functools import lru_cache
from urllib.parse import quote, unquote, urlsplit

from django.conf import settings
from django.utils.crypto import salted_hmac

MASK = "[secret]"
# To mask a shorter one would spoil every line, and tell what it is.
SHORTEST_MASKED = 4
LOG_NAME_BYTES = 6

_PASSWORD = re.compile(r"(?<=//)\S*@")
# Without the characters that more often end what stands before an address, in a query or in quotes.
_E_MAIL = re.compile(r"[\w.!#$*+^{|}~-]{1,64}(?:@|%40)(?:[a-z0-9-]{1,63}\.){1,8}[a-z]{2,63}", re.IGNORECASE)


def shown(found: object) -> str:
    """Return the text of an error or the like as it may be shown to an operator: one line, without our secrets."""
    return escaped(masked(str(found)))


def escaped(text: str) -> str:
    """Return `text` on one line: what is not printable is written out, like \\x1b and \\u202e.

    Those are Unicode's categories Other and Separator, but for the space: control characters and so the escape codes of
    terminals, line and paragraph separators, bidirectional controls, lone surrogates.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def masked(text: str) -> str:
    """Return `text` without the secrets of the settings, however they are spelled in it."""
    secrets = _secrets(settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS, *_passwords())
    return secrets.sub(MASK, text) if secrets else text


def _passwords() -> list[str]:
    found = [urlsplit(settings.REDIS_URL).password, settings.REDIS_ADDRESS.sentinel_options.get("password")]
    found += [settings.EMAIL_HOST_PASSWORD, settings.METRICS_TOKEN]
    return [password for password in found + [base.get("PASSWORD") for base in settings.DATABASES.values()] if password]


@lru_cache(maxsize=10)
def _secrets(*secrets: str) -> re.Pattern[str] | None:
    """Return the pattern of all spellings, longer ones first: one secret may begin with another."""
    plain = {spelled for secret in secrets for spelled in (secret, unquote(secret))}
    spelled = plain | {quote(secret, safe="") for secret in plain} | {html.escape(secret) for secret in plain}
    spelled |= {repr(secret)[1:-1] for secret in plain}
    known = sorted((secret for secret in spelled if len(secret) >= SHORTEST_MASKED), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, known))) if known else None


def without_password(text: str) -> str:
    """Return `text` without what stands before the host of an address."""
    return _PASSWORD.sub("…@", text)


def named(identifier: str) -> str:
    """Return what stands for a shopper in the logs: a digest, unless LOG_IDENTIFIERS is plain."""
    return identifier if settings.LOG_IDENTIFIERS == "plain" else log_name(identifier, settings.SECRET_KEY)


def log_name(identifier: str, secret_key: str) -> str:
    """Return 12 hex characters that are the same each time, and that nobody without the key can try names on.

    (BLAKE2b keyed as a MAC: RFC 7693, section 2.9.)
    """
    digest = hashlib.blake2b(key=_key(secret_key), digest_size=LOG_NAME_BYTES)
    digest.update(identifier.encode(errors="surrogatepass"))
    return digest.hexdigest()


def with_names(text: str) -> str:
    """Return `text`, which may quote what a client has sent, with `named` in place of e-mail addresses."""
    return _E_MAIL.sub(lambda found: named(found[0].replace("%40", "@").casefold()), text)


@lru_cache(maxsize=10)
def _key(secret_key: str) -> bytes:
    return salted_hmac("flashsale.log_names", "key", secret=secret_key, algorithm="sha256").digest()
