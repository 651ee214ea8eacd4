"""Django's page of an error under DEBUG, which shows settings and variables, without our secrets."""

from django.utils.safestring import SafeString, mark_safe
from django.views.debug import ExceptionReporter

from flashsale.redaction import masked


class MaskedReporter(ExceptionReporter):
    def get_traceback_html(self) -> SafeString:
        return mark_safe(masked(super().get_traceback_html()))  # noqa: S308 (as safe as it was)

    def get_traceback_text(self) -> SafeString:
        return mark_safe(masked(super().get_traceback_text()))  # noqa: S308
