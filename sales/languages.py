"""The language of a page: of those that we have, the one that the asker's browser likes best."""

from functools import lru_cache

from babel import Locale, UnknownLocaleError
from django.conf import settings
from django.http import HttpRequest
from django.middleware.locale import LocaleMiddleware
from django.utils import translation
from django.utils.translation.trans_real import parse_accept_lang_header

# Django reads no more of the header than this.
LONGEST_HEADER = 500


def of(request: HttpRequest) -> str:
    """Return the language's code. No cookie is looked at: the lane's pages are the same for all who speak it."""
    return _best(request.META.get("HTTP_ACCEPT_LANGUAGE", "")[:LONGEST_HEADER])


@lru_cache(maxsize=1000)
def _best(accept_language: str) -> str:
    request = HttpRequest()
    request.META["HTTP_ACCEPT_LANGUAGE"] = accept_language
    return translation.get_language_from_request(request)


def locale_of(request: HttpRequest) -> Locale:
    """Return the locale that the asker's browser likes best, whether we have its language or not; else ours."""
    for code, _ in parse_accept_lang_header(request.META.get("HTTP_ACCEPT_LANGUAGE", "")[:LONGEST_HEADER]):
        try:
            return Locale.parse(code, sep="-")
        except (UnknownLocaleError, ValueError):
            continue
    return Locale.parse(settings.LANGUAGE_CODE)


def load() -> None:
    """Read every catalogue of sentences now, so that no shopper waits for one."""
    for code, _ in settings.LANGUAGES:
        with translation.override(code):
            translation.gettext("Buy now")


class ShoppersLanguage(LocaleMiddleware):
    """Django's own middleware for shoppers; the operator's desk stays in English, as our words on it are."""

    def process_request(self, request: HttpRequest) -> None:
        if request.path_info.startswith("/admin/"):
            translation.activate(settings.LANGUAGE_CODE)
            request.LANGUAGE_CODE = settings.LANGUAGE_CODE
        else:
            super().process_request(request)
