"""The page on which an operator confirms a step: the value that is, the value that will be, and a button."""

from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from sales import desk, states
from sales.models import MOST_UNITS, Sale

LONGEST_EXTENSION_MINUTES = 366 * 24 * 60


class NothingToAsk(forms.Form):
    """For a step that takes no value."""


class HowManyUnits(forms.Form):
    units = forms.IntegerField(
        label="Units to add",
        min_value=1,
        max_value=MOST_UNITS,
        help_text="They are added to the total, whatever it is by then.",
        error_messages={"required": "Say how many units to add.", "min_value": "Add one unit at least."},
    )


class HowMuchLonger(forms.Form):
    minutes = forms.IntegerField(
        label="Minutes longer",
        required=False,
        min_value=1,
        max_value=LONGEST_EXTENSION_MINUTES,
        help_text="Counted from the end, or from now when the sale has ended.",
    )
    until = forms.DateTimeField(
        label="Or until",
        required=False,
        help_text=f"In the time zone {settings.TIME_ZONE}.",
        widget=forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M"),
    )

    def clean(self) -> dict[str, Any]:
        if not self.errors and bool(self.cleaned_data["minutes"]) == bool(self.cleaned_data["until"]):
            raise ValidationError("Write either how many minutes longer, or the new end.")
        return self.cleaned_data


FORMS: dict[str, type[forms.Form]] = {"add-stock": HowManyUnits, "extend": HowMuchLonger}


@require_http_methods(["GET", "HEAD", "POST"])
def confirm(request: HttpRequest, model_admin: admin.ModelAdmin, sale_id: int, name: str) -> HttpResponse:
    """Show what the step would change (GET, with the step's values in the query), or take it (POST)."""
    sale, step = model_admin.get_object(request, str(sale_id)), desk.STEPS.get(name)
    if sale is None or step is None:
        raise Http404
    if not model_admin.has_change_permission(request, sale):
        raise PermissionDenied
    # Read before anything is planned: a plan gives the sale its new values.
    state = states.state(sale)
    form = _filled(request, step)
    changes: list[desk.Change] = []
    try:
        if form.is_valid():
            if request.method == "POST":
                return _take(request, sale, step, form.cleaned_data)
            changes = desk.plan(sale, step, form.cleaned_data)
    except desk.Refused as reason:
        form.add_error(None, str(reason))
    except ValidationError as error:
        form.add_error(None, ValidationError(error.messages))
    context = {
        **model_admin.admin_site.each_context(request),
        "title": f"{step.verb}: {sale}",
        "opts": model_admin.opts,
        "sale": sale,
        "step": step,
        "state": state,
        "form": form,
        "changes": changes,
        "sale_url": _sale_url(sale),
    }
    return TemplateResponse(request, "admin/sales/sale/step.html", context)


def _filled(request: HttpRequest, step: desk.Step) -> forms.Form:
    """Return the step's form, empty as long as a value is still to be asked for."""
    form_class = FORMS.get(step.name, NothingToAsk)
    data = request.POST if request.method == "POST" else request.GET
    return form_class(data) if data or form_class is NothingToAsk else form_class()


def _take(request: HttpRequest, sale: Sale, step: desk.Step, values: dict[str, Any]) -> HttpResponse:
    changes = desk.take(sale, step, values, request.user)  # type: ignore[arg-type]
    told = desk.mirror(sale)
    sentence = f"{sale} is {step.done} ({'; '.join(map(str, changes))}). {told.sentence}"
    messages.add_message(request, messages.SUCCESS if told.is_in_force else messages.WARNING, sentence)
    return HttpResponseRedirect(_sale_url(sale))


def _sale_url(sale: Sale) -> str:
    return reverse("admin:sales_sale_change", args=[sale.pk])
