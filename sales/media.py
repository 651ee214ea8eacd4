"""Pictures from this machine's disk, for shops without object storage."""

from pathlib import Path

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse

from flashsale.media_storage import FOR_GOOD
from sales.endpoints import is_known
from sales.refusals import refusal


def picture(request: HttpRequest, name: str) -> HttpResponse:
    """Return a stored picture. Its name is made of its content: browsers and proxies may keep it for good."""
    if request.method not in ("GET", "HEAD"):
        return refusal(request, "method_not_allowed", allow="GET, HEAD")
    try:
        content = Path(settings.MEDIA_ROOT, name).read_bytes()
    except OSError:
        raise Http404 from None
    etag = f'"{Path(name).stem}"'
    # Other sites may show what is sold here.
    headers = {"Cache-Control": FOR_GOOD, "ETag": etag, "Cross-Origin-Resource-Policy": "cross-origin"}
    if is_known(request, etag):
        return HttpResponse(status=304, headers=headers)
    return HttpResponse(content, content_type="image/webp", headers=headers)
