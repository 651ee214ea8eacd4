"""The guard against double presses around all of Django's views: two middlewares, with the CSRF check in between.

`keep` stands outside everything that sets cookies, so that a repeat gets them, too. `Claiming` stands inside everything
that may refuse. Without Redis forms are not guarded: operators must be able to act then, and the page still disables a
form at the press.
"""

import logging
import time
from collections.abc import Callable, Iterable
from threading import BoundedSemaphore
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import get_token
from django.utils.translation import gettext_noop as _

from sales import formlimits, refusals, store
from sales.presses import KEPT_SECONDS, KNOWN_SECONDS, Press

# Most repeats come a fraction of a second after the first press; a list of a million addresses takes a minute.
WAIT_SECONDS = 20.0
LOOK_EVERY_SECONDS = 0.05
# Who waits holds a thread.
MOST_WAITING = max(1, settings.DJANGO_THREADS // 4)
# These say that nothing was done, and to try again.
NOTHING_DONE = (429, 503)
# The view broke off: how much was done, nobody knows.
BROKE_OFF = 500
# Strangers must not fill Redis: presses beyond this are not guarded. Forms that send a mail or take a code or a
# password have narrower limits of their own, and what the others do may be done twice.
OF_STRANGERS: formlimits.Limits = {
    "address": formlimits.by_address("60/10m"),
    "all": ("20000/10m", lambda group, request: "all"),
}

SENT_ALREADY = _("You already sent this")
DONE_THEN = _("We took it the first time, and did nothing again. Open the page again to see the result.")
STILL_OPEN = _(
    "We got this already, and are still working on it or were interrupted. We won't do it twice. Check the result "
    "before you send it again."
)

_room = BoundedSemaphore(MOST_WAITING)

log = logging.getLogger(__name__)
View = Callable[..., HttpResponse]


def keep(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """Make a middleware that keeps the first answer, and gives it to repeats."""

    def respond(request: HttpRequest) -> HttpResponse:
        press = Press.of(request)
        if press is None:
            return get_response(request)
        owners = _owners(request.COOKIES)
        if not any(map(press.is_of, owners)) and (first := _kept(press, owners)):
            return first  # the first answer has changed the browser's cookies, as signing in does
        request.press = press  # type: ignore[attr-defined]
        response = get_response(request)
        if replayed := getattr(request, "first_answer", None):
            return replayed
        if seconds := getattr(request, "known_seconds", 0):
            given = {name: cookie.value for name, cookie in response.cookies.items()}
            _settle(press, response, [*owners, *_owners(given)], seconds)
        return response

    return respond


class Claiming:
    """The middleware that lets only the first of several presses reach the view."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]):
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self._get_response(request)

    def process_view(self, request: HttpRequest, view: View, args: Any, kwargs: Any) -> HttpResponse | None:
        press: Press | None = getattr(request, "press", None)
        if press is None:
            return None
        owner = next(filter(press.is_of, _owners(request.COOKIES)), None)
        if owner is None:
            # Who is not signed in (any more) does nothing in the admin but sign in: the view leads there.
            leads_to_sign_in = request.path.startswith("/admin/") and not request.user.is_authenticated
            return None if leads_to_sign_in else refusals.csrf_failure(request)
        is_session = owner.startswith("session")
        try:
            if not is_session and formlimits.wait_seconds(request, "press", OF_STRANGERS):
                return None
            return _first_or_repeat(request, press, KNOWN_SECONDS if is_session else KEPT_SECONDS)
        except store.RedisError as error:
            log.warning("a form is not guarded against a double press: %s", error)
            return None


def owner(request: HttpRequest) -> str:
    """Return for whom a form is rendered. Shoppers' pages know no session."""
    if request.path.startswith("/admin/") and request.user.is_authenticated and request.session.session_key:
        return f"session {request.session.session_key}"
    get_token(request)  # the browser gets a CSRF cookie, if it has none
    return f"csrf {request.META['CSRF_COOKIE']}"


def _owners(cookies: dict[str, str]) -> list[str]:
    """Return as whom a browser with these cookies may press."""
    found = {"session": cookies.get(settings.SESSION_COOKIE_NAME), "csrf": cookies.get(settings.CSRF_COOKIE_NAME)}
    return [f"{kind} {value}" for kind, value in found.items() if value]


def _first_or_repeat(request: HttpRequest, press: Press, known_seconds: int) -> HttpResponse | None:
    """Return None to the first press, which the view is to answer; to others the first answer, or why there is none.

    A repeat waits for the first, for a while. It never takes its place: whether that was done, nobody knows.
    """
    found = press.claim(known_seconds)
    if found == "under_way" and _room.acquire(blocking=False):
        try:
            found = _waited_for(press, known_seconds)
        finally:
            _room.release()
    if found == "first":
        request.known_seconds = known_seconds  # type: ignore[attr-defined]
        return None
    if found == "done":
        first = press.answer(_owners(request.COOKIES))
        request.first_answer = first  # type: ignore[attr-defined]
        return first or refusals.refusal(request, "invalid_request", DONE_THEN, headline=SENT_ALREADY)
    return refusals.refusal(request, "unknown", STILL_OPEN)


def _waited_for(press: Press, known_seconds: int) -> str:
    deadline = time.monotonic() + WAIT_SECONDS
    found = "under_way"
    while found == "under_way" and time.monotonic() < deadline:
        time.sleep(LOOK_EVERY_SECONDS)
        found = press.claim(known_seconds)
    return found


def _kept(press: Press, owners: Iterable[str]) -> HttpResponse | None:
    try:
        return press.answer(owners)
    except store.RedisError:
        return None


def _settle(press: Press, response: HttpResponse, owners: list[str], seconds: int) -> None:
    try:
        if response.status_code in NOTHING_DONE:
            press.give_back()
        elif response.status_code == BROKE_OFF:
            press.lose(seconds)
        else:
            press.keep(response, owners, seconds)
    except store.RedisError as error:
        log.warning("the answer to a form was not kept for a double press: %s", error)
