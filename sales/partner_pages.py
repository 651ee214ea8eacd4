"""The page that a partner's site sends its users' browsers to: it tells them as whom they go on, and remembers it."""

import logging
import time

from django.db import DatabaseError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.timezone import now
from django.utils.translation import gettext_noop as _
from django.views.decorators.csrf import csrf_exempt

from sales import formats, identities, tokens, words
from sales.clock import to_ms
from sales.models import Identity, Sale
from sales.origins import is_own
from sales.refusals import refusal

# The address holds the token.
SECRET = {"Cache-Control": "private, no-store", "X-Robots-Tag": "noindex"}
# Partners' tokens may last as long as they like; a browser that others use, too, forgets after this.
LONGEST_SECONDS = 24 * 3600

TOO_OLD = _("This link does not work any more")
ASK_AGAIN = _("It is too old, or was cut off. Go back to the page that sent you here, and open its link once more.")
FROM_ELSEWHERE = _("This form came from another site. Open the link that you were given once more, and press there.")
NOT_NOW = _("The sale cannot be looked up right now. Try again in a moment.")

log = logging.getLogger(__name__)


# No cookie decides here: the token does, and the press has to come from this page.
@csrf_exempt
def enter(request: HttpRequest, slug: str) -> HttpResponse:
    """Show whom the partner's token names (GET), or have the browser remember it and go on to the sale (POST).

    A link alone signs nobody in: who opens somebody else's reads the name first.
    """
    response = _enter(request, slug)
    for name, value in SECRET.items():
        response[name] = value
    return response


def _enter(request: HttpRequest, slug: str) -> HttpResponse:
    if request.method not in ("GET", "HEAD", "POST"):
        return refusal(request, "method_not_allowed", allow="GET, HEAD, POST")
    if request.method == "POST" and not is_own(request):
        return refusal(request, "forbidden", FROM_ELSEWHERE)
    try:
        sale = Sale.objects.filter(slug=slug, published=True).first()
    except DatabaseError as error:
        log.warning("nobody can enter %s: %s", slug, error)
        return refusal(request, "unavailable", NOT_NOW)
    if sale is None:
        return refusal(request, "no_sale")
    if sale.identity == Identity.OPEN:  # it asks each shopper for a name, and looks at no token of a browser's
        return _to(sale)
    token = (request.POST if request.method == "POST" else request.GET).get("token", "")
    try:
        named = tokens.read_for(token, sale.id, sale.key_number)
    except tokens.InvalidToken:
        return refusal(request, "unauthorized", ASK_AGAIN, headline=TOO_OLD)
    return _remember(request, sale, named) if request.method == "POST" else _ask(request, sale, named, token)


def _ask(request: HttpRequest, sale: Sale, named: tokens.Named, token: str) -> HttpResponse:
    known = identities.remembered(request)
    context = {
        "sale": sale,
        "when": _when(sale),
        "user_id": named.user_id,
        "token": token,
        "replaced": known.user_id if known and known.user_id != named.user_id else "",
    }
    return render(request, "sales/enter.html", context)


def _when(sale: Sale) -> dict[str, str]:
    """Return when the sale starts or ends, as its own page says it."""
    at = now()
    status = "upcoming" if at < sale.starts_at else "active" if at < sale.ends_at else "ended"
    moment = formats.moment(to_ms(sale.starts_at if status == "upcoming" else sale.ends_at))
    return {"iso": moment["iso"], "text": str(words.WHEN[status]) % {"moment": moment["text"]}}


def _remember(request: HttpRequest, sale: Sale, named: tokens.Named) -> HttpResponse:
    response = _to(sale)
    known = identities.remembered(request)
    if known and known.user_id == named.user_id and known.sale is None:
        return response  # confirmed already, and for all sales
    seconds = min(named.expires_at - int(time.time()), LONGEST_SECONDS)
    token = tokens.issue(named.user_id, sale_id=sale.id, key_number=sale.key_number, seconds=seconds)
    identities.remember(response, token, seconds)
    return response


def _to(sale: Sale) -> HttpResponse:
    return HttpResponse(status=303, headers={"Location": sale.get_absolute_url()})
