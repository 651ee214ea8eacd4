"""The page on which an operator confirms a step, or the end of an order: the value that is, the value that will be, and
a button."""

from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from sales import cancelling, publishing, states, store
from sales.clock import beside_utc
from sales.desk import mirroring, steps
from sales.desk.fields import MomentField, WholeNumberField
from sales.models import MOST_UNITS, Order, Sale

LONGEST_EXTENSION_MINUTES = 366 * 24 * 60


class NothingToAsk(forms.Form):
    """For a step that takes no value."""


class HowManyUnits(forms.Form):
    units = WholeNumberField(
        label="Units to add",
        min_value=1,
        max_value=MOST_UNITS,
        help_text="They are added to the total, whatever it is by then.",
        error_messages={"required": "Say how many units to add.", "min_value": "Add one unit at least."},
    )


class HowMuchLonger(forms.Form):
    minutes = WholeNumberField(
        label="Minutes longer",
        required=False,
        min_value=1,
        max_value=LONGEST_EXTENSION_MINUTES,
        help_text="Counted from the end, or from now when the sale has ended.",
    )
    until = MomentField(label="Or until", required=False, help_text=f"In the time zone {settings.TIME_ZONE}.")

    def clean(self) -> dict[str, Any]:
        if not self.errors and bool(self.cleaned_data["minutes"]) == bool(self.cleaned_data["until"]):
            raise ValidationError("Write either how many minutes longer, or the new end.")
        return self.cleaned_data


class MayBuyAgain(forms.Form):
    may_buy_again = forms.TypedChoiceField(
        label="May this shopper buy again in this sale?",
        choices=[("yes", "Yes, like everybody else"), ("no", "No: further attempts are refused")],
        coerce=lambda choice: choice == "yes",
        widget=forms.RadioSelect,
        error_messages={"required": "Choose whether this shopper may buy again."},
    )


FORMS: dict[str, type[forms.Form]] = {"add-stock": HowManyUnits, "extend": HowMuchLonger}


@require_http_methods(["GET", "HEAD", "POST"])
def confirm(request: HttpRequest, model_admin: admin.ModelAdmin, sale_id: int, name: str) -> HttpResponse:
    """Show what the step would change (GET, with the step's values in the query), or take it (POST)."""
    sale, step = model_admin.get_object(request, str(sale_id)), steps.STEPS.get(name)
    if sale is None or step is None:
        raise Http404
    if not model_admin.has_change_permission(request, sale):
        raise PermissionDenied
    # Read before anything is planned: a plan gives the sale its new values.
    state = states.state(sale)
    form = _filled(request, step)
    changes: list[steps.Change] = []
    try:
        if form.is_valid():
            if request.method == "POST":
                return _take(request, sale, step, form.cleaned_data)
            changes = steps.plan(sale, step, form.cleaned_data)
    except steps.Refused as reason:
        form.add_error(None, str(reason))
    except ValidationError as error:
        form.add_error(None, ValidationError(error.messages))
    context = {"state": state, "form": form, "changes": changes, "consequence": step.consequence}
    return _page(request, model_admin, sale, step.verb, context, step.page)


def _filled(request: HttpRequest, step: steps.Step) -> forms.Form:
    """Return the step's form, empty as long as a value is still to be asked for."""
    form_class = FORMS.get(step.name, NothingToAsk)
    data = request.POST if request.method == "POST" else request.GET
    return form_class(data) if data or form_class is NothingToAsk else form_class()


def _take(request: HttpRequest, sale: Sale, step: steps.Step, values: dict[str, Any]) -> HttpResponse:
    changes = steps.take(sale, step, values, request.user)  # type: ignore[arg-type]
    told = mirroring.mirror(sale)
    return _back(request, sale, f"{sale} is {step.done} ({'; '.join(map(str, changes))}).", told, step.page)


@require_http_methods(["GET", "HEAD", "POST"])
def confirm_cancellation(request: HttpRequest, model_admin: admin.ModelAdmin, order_id: int) -> HttpResponse:
    """Show what it means to cancel the order, and ask whether its shopper may buy again (GET), or cancel it (POST)."""
    order: Order | None = model_admin.get_object(request, str(order_id))
    if order is None:
        raise Http404
    if not (model_admin.has_view_permission(request, order) and may_cancel(request)):
        raise PermissionDenied
    form: forms.Form = MayBuyAgain(request.POST) if request.method == "POST" else MayBuyAgain()
    changes: list[steps.Change] = []
    try:
        if request.method == "POST" and form.is_valid():
            cancelling.cancel(order, request.user, **form.cleaned_data)  # type: ignore[arg-type]
            sentence = f"Order {order.order_id} of {order.user_id} is cancelled."
            return _back(request, order, sentence, mirroring.enforce(order.sale))
        changes = _changes(order)
    except cancelling.AlreadyCancelled:
        form = NothingToAsk({})
        form.is_valid()
        form.add_error(None, "This order is cancelled already.")
    consequence = _consequence(order) if changes else ""
    context = {"state": states.order_state(order), "form": form, "changes": changes, "consequence": consequence}
    return _page(request, model_admin, order, "Cancel", context)


def _consequence(order: Order) -> str:
    return (
        f"{order.user_id} bought it on {beside_utc(order.purchased_at)}. Its unit goes back to stock, and others can "
        "buy it while the sale is open. The receipt says that the order is cancelled. This cannot be undone, and no "
        "money is refunded by it."
    )


def may_cancel(request: HttpRequest) -> bool:
    """Return whether who is signed in may cancel orders."""
    return request.user.has_perm("sales.cancel_order")


def _changes(order: Order) -> list[steps.Change]:
    """Return what would be cancelled, and the stock, where Redis can tell it. Raises AlreadyCancelled."""
    if order.cancelled_at:
        raise cancelling.AlreadyCancelled
    changes = [steps.Change("Order", "valid", "cancelled")]
    try:
        is_purchase, standing = cancelling.is_purchase(order), publishing.standing(order.sale)
    except (store.RedisError, store.Unavailable):
        return changes
    if (is_purchase or order.sale.archived_at) and standing.remaining_stock is not None:
        then = max(0, int(standing.config["total_stock"]) - standing.sold + 1)
        changes.append(steps.Change("Units remaining", str(standing.remaining_stock), str(then)))
    return changes


def _page(
    request: HttpRequest,
    model_admin: admin.ModelAdmin,
    subject: Sale | Order,
    verb: str,
    context: dict[str, Any],
    page: str = "change",
) -> HttpResponse:
    context |= {
        **model_admin.admin_site.each_context(request),
        "title": f"{verb}: {subject}",
        "opts": model_admin.opts,
        "original": subject,
        "verb": verb,
        "back_url": _page_of(subject, page),
    }
    return TemplateResponse(request, f"admin/sales/{model_admin.opts.model_name}/confirmation.html", context)


def _back(
    request: HttpRequest, subject: Sale | Order, sentence: str, told: mirroring.Told, page: str = "change"
) -> HttpResponse:
    """Lead back to what was changed, with the sentence and what came of it in Redis."""
    level = messages.SUCCESS if told.is_in_force else messages.WARNING
    messages.add_message(request, level, f"{sentence} {told.sentence}")
    return HttpResponseRedirect(_page_of(subject, page))


def _page_of(subject: Sale | Order, page: str) -> str:
    return reverse(f"admin:sales_{subject._meta.model_name}_{page}", args=[subject.pk])
