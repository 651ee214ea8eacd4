"""Sales in the admin: prepared, run step by step, and mirrored into Redis once they are committed."""

from functools import partial
from typing import Any

from django.contrib import admin, messages
from django.db import transaction
from django.db.models import QuerySet
from django.forms.widgets import Script
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html

from sales import durability, publishing, states, store
from sales.clock import beside_utc
from sales.desk import confirmations, mirroring, sale_form, steps
from sales.desk.analytics_page import AnalyticsAdmin
from sales.desk.invitations_page import InvitationsAdmin
from sales.desk.live_page import LiveAdmin
from sales.desk.partner_page import PartnerAdmin
from sales.desk.preflight_page import PreflightAdmin
from sales.desk.sale_form import SaleForm
from sales.desk.sale_words import saved_line
from sales.desk.searching import Searched
from sales.models import Sale

PICTURE_IS_KEPT = "The picture that you chose is kept. Choose a file only to take another."


@admin.register(Sale)
class SaleAdmin(LiveAdmin, AnalyticsAdmin, InvitationsAdmin, PreflightAdmin, PartnerAdmin, Searched):
    form = SaleForm
    list_display = ("name", "state", "sold", "remaining", "total_stock", "starts", "ends", "mirror")
    search_fields = ("name", "slug")
    actions = ("mirror_again",)
    times = ("starts", "ends")
    fieldsets = (
        (
            "What is sold",
            {"fields": ("name", "slug", "description", ("image", "preview"), ("display_price", "currency"))},
        ),
        ("How many", {"fields": ("total_stock",)}),
        ("When", {"fields": ("starts_at", "ends_at")}),
        ("Who may buy", {"fields": ("identity", "one_mailbox")}),
        ("Shown to shoppers", {"fields": ("state", "mirror")}),
    )

    class Media:
        js = (Script("sales/desk/chosen_picture.js", type="module"),)

    def get_fieldsets(self, request: HttpRequest, obj: Sale | None = None) -> Any:
        if obj is None:
            return self.fieldsets[:-1]
        if self.has_change_permission(request, obj):
            return self.fieldsets
        # Who only looks has no form whose help texts tell the times in UTC.
        return [(name, {"fields": self.times} if name == "When" else options) for name, options in self.fieldsets]

    def get_readonly_fields(self, request: HttpRequest, obj: Sale | None = None) -> tuple[str, ...]:
        return ("preview", "state", "mirror", *self.times, *(("slug",) if obj and obj.first_published_at else ()))

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Sale | None:
        sale = super().get_object(request, object_id, from_field)
        is_saved = request.method == "POST" and transaction.get_connection().in_atomic_block
        if sale and is_saved:  # what is typed is compared with what is saved, and that must not change in between
            publishing.lock(sale)
        return sale

    def get_form(self, request: HttpRequest, obj: Sale | None = None, change: bool = False, **kwargs: Any) -> Any:
        form: Any = super().get_form(request, obj, change, **kwargs)
        form.original, form.operator = None if change else self._original(request), request.user
        return form

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        original = self._original(request)
        if original:
            return sale_form.copy_of(original)
        this_minute = states.now().replace(second=0, microsecond=0)
        return {"starts_at": this_minute, **super().get_changeform_initial_data(request)}

    def _original(self, request: HttpRequest) -> Sale | None:
        """Return the sale that is duplicated, if any is."""
        number = request.GET.get("copy", "")[:18]
        return Sale.objects.filter(pk=number).first() if number.isdecimal() else None

    def get_urls(self) -> list[URLPattern]:
        step = self.admin_site.admin_view(self.step_view)
        return [path("<int:sale_id>/<slug:name>-sale/", step, name="sales_sale_step"), *super().get_urls()]

    def step_view(self, request: HttpRequest, sale_id: int, name: str) -> HttpResponse:
        return confirmations.confirm(request, self, sale_id, name)

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> HttpResponse:
        sale = context.get("original")
        if sale:
            may_change = self.has_change_permission(request, sale)
            context["state"] = states.state(sale)
            context["standing"] = states.standing_of(sale)
            context["steps"] = steps.offered(sale, states.seen_at(sale)) if may_change else []
        if getattr(context["adminform"].form, "picture_note", ""):
            context["adminform"].form["image"].help_text = PICTURE_IS_KEPT
        return super().render_change_form(request, context, *args, **kwargs)

    def view_on_site(self, sale: Sale) -> str | None:
        return sale.get_absolute_url() if sale.published else None

    def save_model(self, request: HttpRequest, obj: Sale, form: Any, change: bool) -> None:
        """Save what was typed, and nothing else: what others change at the same time stays theirs."""
        if not change:
            obj.published = False
            obj.save()
            return
        obj.mirror_due = True
        picture = ["renditions"] if "image" in form.changed_data else []
        obj.save(update_fields=[*form.changed_data, *picture, "mirror_due"])
        transaction.on_commit(partial(self._mirror, request, obj))

    def construct_change_message(self, request: HttpRequest, form: Any, formsets: Any, add: bool = False) -> Any:
        if add:
            return super().construct_change_message(request, form, formsets, add)
        return f"Changed. {'; '.join(map(str, form.changes()))}." if form.changes() else "Saved without a change."

    def response_add(self, request: HttpRequest, obj: Sale, post_url_continue: str | None = None) -> HttpResponse:
        words = f"{obj} is saved, and hidden from shoppers. It has {saved_line(obj)}."
        self.message_user(request, f"{words} When everything is right, choose “Publish”.", messages.SUCCESS)
        return HttpResponseRedirect(reverse("admin:sales_sale_change", args=[obj.pk]))

    def response_change(self, request: HttpRequest, obj: Sale) -> HttpResponse:
        self.message_user(request, f"Now saved: {saved_line(obj)}.", messages.SUCCESS)
        return super().response_change(request, obj)

    @admin.action(
        description="Mirror again: write the selected sales into Redis as they are here", permissions=["change"]
    )
    def mirror_again(self, request: HttpRequest, queryset: QuerySet[Sale]) -> None:
        for sale in queryset:
            self._mirror(request, sale)

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, str] | None = None) -> HttpResponse:
        try:
            if (found := durability.check()) != "ok":
                self.message_user(request, f"Redis may lose acknowledged purchases: {found}", messages.WARNING)
        except store.Unavailable:
            self.message_user(request, f"{states.NO_REDIS}: nothing is sold until it is back.", messages.ERROR)
        return super().changelist_view(request, extra_context)

    def has_delete_permission(self, request: HttpRequest, obj: Sale | None = None) -> bool:
        """A sale is unpublished, not deleted: Redis and its orders refer to it."""
        return False

    def _mirror(self, request: HttpRequest, sale: Sale) -> None:
        told = mirroring.mirror(sale)
        self.message_user(
            request, f"{sale}: {told.sentence}", messages.SUCCESS if told.is_in_force else messages.WARNING
        )

    @admin.display(description="Now")
    def state(self, sale: Sale) -> str:
        state = states.state(sale)
        return format_html('<span class="sale-state" data-state="{}">{}</span>', state.word, state.line)

    @admin.display(description="As shoppers see it")
    def preview(self, sale: Sale) -> str:
        if not sale.renditions:
            return "A placeholder, until you choose a picture."
        url, size = sale.image.storage.url(sale.renditions[0]["name"]), sale.renditions[0]
        return format_html('<img src="{}" width="{}" height="{}" alt="">', url, size["width"] // 2, size["height"] // 2)

    @admin.display(description="Mirror")
    def mirror(self, sale: Sale) -> str:
        return states.mirror_words(sale)

    @admin.display(description="Starts", ordering="starts_at")
    def starts(self, sale: Sale) -> str:
        return beside_utc(sale.starts_at)

    @admin.display(description="Ends", ordering="ends_at")
    def ends(self, sale: Sale) -> str:
        return beside_utc(sale.ends_at)

    @admin.display(description="Units sold")
    def sold(self, sale: Sale) -> str:
        standing = states.standing_of(sale)
        return "?" if standing is None else str(standing.sold)

    @admin.display(description="Units remaining")
    def remaining(self, sale: Sale) -> str:
        standing = states.standing_of(sale)
        return "?" if standing is None or standing.remaining_stock is None else str(standing.remaining_stock)
