"""Pages for the crowd: rendered a few times a second and compressed once each time, however many look at them."""

import gzip
import re
import time
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from django.http import HttpRequest, HttpResponse
from django.utils import translation

from sales import languages
from sales.endpoints import Answer, etag_of, is_known
from sales.headers import OF_PAGES
from sales.per_loop import per_loop

# Each worker renders a page at most this often in each language.
RENDER_EVERY_SECONDS = 0.25
MOST_PAGES = 500
# Level 6 takes three times as long and saves one byte in twenty.
GZIP_LEVEL = 4

HTML = "text/html; charset=utf-8"


class Version(NamedTuple):
    """One encoding of a page: the whole response, and the one to who has it already."""

    etag: str
    whole: HttpResponse
    not_modified: HttpResponse


class Page(NamedTuple):
    rendered_at: float
    plain: Version
    gzipped: Version


def page(request: HttpRequest, name: str, render: Callable[[], str]) -> HttpResponse:
    """Return the page `name` in the asker's language and encoding; `render` makes it in the active language."""
    if response := known(request, name):
        return response
    language = languages.of(request)
    with translation.override(language):
        made = packed(render().encode(), {"Content-Type": HTML, "Content-Language": language})
    if len(_pages()) >= MOST_PAGES:
        _pages().clear()
    _pages()[name, language] = made
    return answer(request, made)


def known(request: HttpRequest, name: str) -> HttpResponse | None:
    """Return the page `name` as it was rendered a moment ago; None when it is time to render it again."""
    found = _pages().get((name, languages.of(request)))
    if found and time.monotonic() - found.rendered_at <= RENDER_EVERY_SECONDS:
        return answer(request, found)
    return None


def answer(request: HttpRequest, found: Page) -> HttpResponse:
    """Return the version of the page that the asker takes, or a 304 to who has it."""
    version = found.gzipped if takes(request, "gzip") else found.plain
    return version.not_modified if is_known(request, version.etag) else version.whole


def takes(request: HttpRequest, coding: str) -> bool:
    """Return whether the asker takes a content coding."""
    return allows(request.META.get("HTTP_ACCEPT_ENCODING", "")[:200], coding)


@lru_cache(maxsize=1000)
def allows(accept_encoding: str, coding: str) -> bool:
    """Return whether an Accept-Encoding header allows a content coding (RFC 9110, section 12.5.3)."""
    weights = {}
    for part in accept_encoding.lower().split(","):
        name, *parameters = re.split(r"\s*;\s*", part.strip())
        weights[name] = not any(re.fullmatch(r"q=0(\.0*)?", parameter) for parameter in parameters)
    return weights.get(coding, weights.get("*", False))


def packed(
    content: bytes,
    content_headers: dict[str, str],
    *,
    common_headers: dict[str, str] = OF_PAGES,
    vary: str = "Accept-Encoding, Accept-Language",
    max_age: int = 1,
) -> Page:
    """Return the page with all that its answers need. Caches keep it for `max_age` seconds."""
    etag = etag_of(content)
    compressed = gzip.compress(content, GZIP_LEVEL, mtime=0)
    headers = {**common_headers, "Cache-Control": f"public, max-age={max_age}", "Vary": vary}
    return Page(
        time.monotonic(),
        version(content, {**headers, "ETag": etag}, content_headers),
        version(compressed, {**headers, "ETag": f'{etag[:-1]}-gzip"'}, {**content_headers, "Content-Encoding": "gzip"}),
    )


def version(content: bytes, headers: dict[str, str], content_headers: dict[str, str]) -> Version:
    """Make both responses. Some clients unpack the empty 304, too, if it says that it is packed."""
    whole, not_modified = Answer(content, 200, {**headers, **content_headers}), Answer(b"", 304, headers)
    return Version(headers["ETag"], whole, not_modified)


@per_loop
def _pages() -> dict[tuple[str, str], Page]:
    return {}
