"""What no text that comes to Django's pages may have: NUL, which PostgreSQL takes in no text."""

from collections.abc import Callable, Iterator

from django.http import HttpRequest, HttpResponse

from sales.refusals import refusal


def check(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """Make a middleware that refuses a path and a form with NUL, whatever field it is in: some fields of forms ask SQL
    for what was sent. What a query has is asked of SQL only by lists, whose search and filters look at it first."""

    def respond(request: HttpRequest) -> HttpResponse:
        if any("\0" in text for text in _texts(request)):
            return refusal(request, "invalid_request")
        return get_response(request)

    return respond


def _texts(request: HttpRequest) -> Iterator[str]:
    yield request.path
    for name, values in request.POST.lists():
        yield name
        yield from values
