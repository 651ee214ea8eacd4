"""Static files, from memory: gathered and packed before a worker starts, small, and the same for everybody."""

import asyncio
import logging
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.staticfiles import finders
from django.contrib.staticfiles.storage import staticfiles_storage
from django.http import Http404, HttpRequest, HttpResponse
from whitenoise.media_types import MediaTypes

from flashsale.media_storage import FOR_GOOD
from sales import refusals
from sales.endpoints import View, endpoint, etag_of, is_known
from sales.headers import OF_PAGES
from sales.rendering import Version, takes, version

# In each worker. What is gathered now is about 1.4 MB; files of earlier releases may lie beside it.
MOST_BYTES = 32 * 1024 * 1024
# What browsers and crawlers ask for by a fixed name.
ROOT = settings.BASE_DIR / "static" / "root"
# Smallest first, with what their files' names end in.
CODINGS = {"br": ".br", "gzip": ".gz"}
_HASHED = re.compile(r"\.([0-9a-f]{12})\.\w+")

# A file in its codings, "" for none.
File = dict[str, Version]

log = logging.getLogger(__name__)


@endpoint("GET", "HEAD", refuse=refusals.refusal)
async def static(request: HttpRequest, name: str) -> HttpResponse:
    """Return a static file. In DEBUG it is read anew each time."""
    file = await asyncio.to_thread(_as_it_is_now, name) if settings.DEBUG else gathered().get(name)
    return _answer(request, file) if file else refusals.not_found(request, Http404())


def named(name: str) -> View:
    """Return a view of a file that has a fixed address."""
    file = _file(ROOT / name, "public, max-age=60")

    @endpoint("GET", "HEAD", refuse=refusals.refusal)
    async def view(request: HttpRequest) -> HttpResponse:
        return _answer(request, file)

    return view


def _answer(request: HttpRequest, file: File) -> HttpResponse:
    coding = next((coding for coding in file if coding and takes(request, coding)), "")
    found = file[coding]
    return found.not_modified if is_known(request, found.etag) else found.whole


@lru_cache(maxsize=1)
def gathered() -> dict[str, File]:
    """Return the gathered files by name: those that pages ask for now, then the newest of the others."""
    storage: Any = staticfiles_storage
    current = set(storage.hashed_files.values())
    found: dict[str, File] = {}
    room_bytes = MOST_BYTES
    for path in sorted(_plain_files(), key=lambda path: (_name(path) not in current, -path.stat().st_mtime)):
        found[_name(path)] = _file(path, FOR_GOOD)
        room_bytes -= sum(len(each.whole.content) for each in found[_name(path)].values())
        if room_bytes < 0:
            log.error("static files beyond %d bytes are not served: remove old ones from %s", MOST_BYTES, path.parent)
            break
    return found


def _plain_files() -> Iterator[Path]:
    """Yield the gathered files without their packed twins."""
    for path in settings.STATIC_ROOT.rglob("*"):
        if path.is_file() and _HASHED.search(path.name) and path.suffix not in CODINGS.values():
            yield path


def _name(path: Path) -> str:
    return path.relative_to(settings.STATIC_ROOT).as_posix()


def _as_it_is_now(name: str) -> File | None:
    path = finders.find(name)
    return _file(Path(path), "no-cache") if path else None


def _file(path: Path, caching: str) -> File:
    """Return a file in all the codings that it is packed in."""
    content = path.read_bytes()
    hashed = _HASHED.search(path.name)
    etag = f'"{hashed[1]}"' if hashed else etag_of(content)
    headers = {**OF_PAGES, "Cache-Control": caching}
    media_type = MediaTypes().get_type(str(path))
    of_content = {"Content-Type": f"{media_type}; charset=utf-8" if media_type.startswith("text/") else media_type}
    packed = {coding: twin for coding, end in CODINGS.items() if (twin := Path(f"{path}{end}")).is_file()}
    if packed:
        headers["Vary"] = "Accept-Encoding"
    return {
        coding: version(
            twin.read_bytes(),
            {**headers, "ETag": f'{etag[:-1]}-{coding}"'},
            {**of_content, "Content-Encoding": coding},
        )
        for coding, twin in packed.items()
    } | {"": version(content, {**headers, "ETag": etag}, of_content)}
