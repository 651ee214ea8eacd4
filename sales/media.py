"""Pictures from this machine's disk, for shops without object storage."""

from pathlib import Path

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse

from flashsale.media_storage import FOR_GOOD
from flashsale.pieces import PIECE_BYTES, FileBody, in_thread
from sales import refusals
from sales.endpoints import Answer, FileAnswer, endpoint, is_known
from sales.headers import OF_PAGES


@endpoint("GET", "HEAD", refuse=refusals.refusal)
async def picture(request: HttpRequest, name: str) -> HttpResponse:
    """Return a stored picture. Its name is made of its content: browsers and proxies may keep it for good."""
    found = await in_thread(_read, Path(settings.MEDIA_ROOT, "products", name))
    if found is None:
        return refusals.not_found(request, Http404())
    etag = f'"{Path(name).stem}"'
    # Other sites may show what is sold here.
    headers = {**OF_PAGES, "Cache-Control": FOR_GOOD, "ETag": etag, "Cross-Origin-Resource-Policy": "cross-origin"}
    if is_known(request, etag):
        return Answer(b"", 304, headers)
    headers["Content-Type"] = "image/webp"
    return Answer(found, 200, headers) if isinstance(found, bytes) else FileAnswer(found, 200, headers)


def _read(path: Path) -> bytes | FileBody | None:
    """Return a picture, a long one as what is read while it is sent: a copy for each reader would fill the memory."""
    try:
        size = path.stat().st_size
        return path.read_bytes() if size <= PIECE_BYTES else FileBody(path, size)
    except OSError:
        return None
