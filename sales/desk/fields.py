"""The form fields for numbers and moments, which `numbers` and `moments` read."""

import re
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from django import forms
from django.utils import timezone

from sales import moments, numbers

# What a browser's picker can hold: no offset, and no more than milliseconds.
_PICKABLE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(?P<seconds>:\d\d(?P<milliseconds>\.\d{3})?)?")
_STEPS = {"seconds": "1", "milliseconds": "0.001"}
# A year of four digits; without an end, browsers take six.
_LATEST = "9998-12-31T23:59"


class WholeNumberField(forms.IntegerField):
    # In an input of type number, browsers drop what they do not like without a word.
    widget = forms.TextInput({"inputmode": "numeric"})

    def to_python(self, value: Any) -> int | None:
        if value in self.empty_values or not str(value).strip():
            return None
        try:
            return numbers.whole(str(value))
        except numbers.Unreadable as error:
            raise forms.ValidationError(str(error), "invalid") from None


class AmountField(forms.DecimalField):
    widget = forms.TextInput({"inputmode": "decimal"})

    def to_python(self, value: Any) -> Decimal | None:  # type: ignore[override]
        if value in self.empty_values or not str(value).strip():
            return None
        try:
            return numbers.amount(str(value))
        except numbers.Unreadable as error:
            raise forms.ValidationError(str(error), "invalid") from None


class MomentInput(forms.TextInput):
    """The browser's picker; a text field for what it cannot hold: a mistake, or a time with its offset."""

    def get_context(self, name: str, value: Any, attrs: dict[str, Any] | None) -> dict[str, Any]:
        context = super().get_context(name, value, attrs)
        widget = context["widget"]
        try:
            zone = timezone.get_current_timezone()
            widget["value"] = value and moments.written(moments.read(value, zone), zone)
        except moments.Unreadable:
            return context
        found = _PICKABLE.fullmatch(widget["value"] or "0001-01-01T00:00")
        if found:
            widget["type"] = "datetime-local"
            steps = [step for part, step in _STEPS.items() if found[part]]
            widget["attrs"] |= {"max": _LATEST, **({"step": steps[-1]} if steps else {})}
        return context


class MomentField(forms.Field):
    """A moment that is typed in the operators' time zone.

    `known` are moments that the form has shown: one that comes back as it was shown is that moment, to the microsecond.
    """

    widget = MomentInput
    known: Sequence[datetime] = ()

    def prepare_value(self, value: Any) -> Any:
        return moments.written(value, timezone.get_current_timezone()) if isinstance(value, datetime) else value

    def to_python(self, value: Any) -> datetime | None:
        if value in self.empty_values or not str(value).strip():
            return None
        zone = timezone.get_current_timezone()
        try:
            typed = moments.read(str(value), zone)
        except moments.Unreadable as error:
            raise forms.ValidationError(str(error), "invalid") from None
        return next((moment for moment in self.known if _shown(moment) == typed), typed)


def _shown(moment: datetime) -> datetime:
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)
