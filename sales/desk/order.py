"""What happened: orders, entries that could not become orders, and purchases that are missing. It is read here, and
exported, never edited; orders may be cancelled, and missing ones settled."""

from datetime import UTC, datetime
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.options import IncorrectLookupParameters
from django.core.exceptions import PermissionDenied
from django.db import models
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect, StreamingHttpResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html

from sales import cancelling, missing, order_codes, states, store
from sales.clock import beside_utc
from sales.desk import confirmations, csv_styles, exports
from sales.desk.searching import PersonSearch, Searched
from sales.models import MissingOrder, Order, Quarantine
from sales.purchases import purchased_ms


class ReadOnlyAdmin(Searched):
    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False


class StateFilter(admin.SimpleListFilter):
    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("valid", "Valid"), ("cancelled", "Cancelled")]

    def queryset(self, request: HttpRequest, queryset: models.QuerySet[Order]) -> models.QuerySet[Order]:
        if self.value() not in ("valid", "cancelled"):
            return queryset
        return queryset.filter(cancelled_at__isnull=self.value() == "valid")


@admin.register(Order)
class OrderAdmin(PersonSearch, ReadOnlyAdmin):
    list_display = ("order_id", "order_code", "state", "user_id", "sale", "purchased")
    list_filter = ("sale", StateFilter)
    list_select_related = ("sale",)
    search_fields = ("user_id", "order_id")
    date_hierarchy = "purchased_at"
    # To count a million orders for "of 1,000,000" costs more than to show the page.
    show_full_result_count = False
    fieldsets = (
        ("Who bought what", {"fields": ("order_id", "order_code", "user_id", "sale_page", "purchased")}),
        ("How it was decided", {"fields": ("unit", "key", "in_redis")}),
    )

    def get_urls(self) -> list[URLPattern]:
        export = self.admin_site.admin_view(self.export_view)
        cancel = self.admin_site.admin_view(self.cancel_view)
        return [
            path("export/", export, name="sales_order_export"),
            path("export/for-excel/", export, {"is_for_excel": True}, name="sales_order_export_for_excel"),
            path("<int:order_id>/cancel/", cancel, name="sales_order_cancel"),
            *super().get_urls(),
        ]

    def get_search_results(
        self, request: HttpRequest, queryset: models.QuerySet[Order], search_term: str
    ) -> tuple[models.QuerySet[Order], bool]:
        """Return the orders with that code, typed in any way; without one, Django's findings in `search_fields`."""
        if (code := order_codes.read(search_term)) and (coded := queryset.filter(order_code=code)).exists():
            return coded, False
        return super().get_search_results(request, queryset, search_term)

    def cancel_view(self, request: HttpRequest, order_id: int) -> HttpResponse:
        return confirmations.confirm_cancellation(request, self, order_id)

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> HttpResponse:
        order = context["original"]
        context["state"] = states.order_state(order)
        context["may_cancel"] = confirmations.may_cancel(request) and not order.cancelled_at
        return super().render_change_form(request, context, *args, **kwargs)

    def export_view(self, request: HttpRequest, is_for_excel: bool = False) -> HttpResponseBase:
        """Return the orders that the list shows under the same query, all of them, as CSV."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        try:
            orders = self.get_changelist_instance(request).queryset
        except IncorrectLookupParameters:
            return HttpResponseRedirect(reverse("admin:sales_order_changelist"))
        name = f"orders-{timezone.now().astimezone(UTC):%Y%m%dT%H%M%SZ}.csv"
        headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
        style = csv_styles.for_excel(request) if is_for_excel else csv_styles.FOR_PROGRAMS
        return StreamingHttpResponse(
            exports.lines(orders, style), content_type="text/csv; charset=utf-8", headers=headers
        )

    @admin.display(description="Purchased", ordering="purchased_at")
    def purchased(self, order: Order) -> str:
        return beside_utc(order.purchased_at)

    @admin.display(description="Sale")
    def sale_page(self, order: Order) -> str:
        return format_html('<a href="{}">{}</a>', reverse("admin:sales_sale_change", args=[order.sale_id]), order.sale)

    @admin.display(description="State", ordering="cancelled_at")
    def state(self, order: Order) -> str:
        state = states.order_state(order)
        return format_html('<span class="order-state" data-state="{}">{}</span>', state.word, state.word)

    @admin.display(description="Unit")
    def unit(self, order: Order) -> str:
        return (
            "1 unit was left after it" if order.remaining_stock == 1 else f"{order.remaining_stock} were left after it"
        )

    @admin.display(description="Idempotency key")
    def key(self, order: Order) -> str:
        if not order.key_digest:
            return "bought without one"
        return f"bought with one, whose digest is {order.key_digest}: a repeat with it gets the same answer"

    @admin.display(description="Redis")
    def in_redis(self, order: Order) -> str:
        """Return whether Redis, which decided the purchase, still says the same."""
        if order.sale.archived_at:
            return "holds no purchases of this sale, which is archived: SQL does"
        try:
            is_purchase = cancelling.is_purchase(order)
        except store.RedisError:
            return f"{states.NO_REDIS}: ask again when it is back"
        if order.cancelled_at and not is_purchase:
            return "has the unit back in stock"
        if is_purchase and not order.cancelled_at:
            return "holds the same purchase"
        if order.cancellation_due:
            return "still holds the purchase, and gives the unit back as soon as it can"
        if order.cancelled_at:
            return f"still holds the purchase: run manage.py audit_sale {order.sale.slug} --repair"
        return f"does not hold this purchase: run manage.py audit_sale {order.sale.slug}"


@admin.register(Quarantine)
class QuarantineAdmin(ReadOnlyAdmin):
    list_display = ("entry_id", "sale", "reason", "set_aside")
    list_filter = ("sale",)
    fields = ("entry_id", "sale", "reason", "fields", "set_aside")

    @admin.display(description="Set aside", ordering="set_aside_at")
    def set_aside(self, entry: Quarantine) -> str:
        return beside_utc(entry.set_aside_at)


@admin.register(MissingOrder)
class MissingOrderAdmin(PersonSearch, ReadOnlyAdmin):
    list_display = ("order_id", "state", "user_id", "sale", "purchased", "note")
    list_filter = ("state", "sale")
    list_select_related = ("sale",)
    search_fields = ("user_id", "order_id")
    show_full_result_count = False
    fields = ("order_id", "user_id", "sale", "state", "note", "purchased", "found")
    actions = ("settle",)

    def has_settle_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("sales.settle_missingorder")

    @admin.action(description="Settle: the shopper was told, or got what was promised", permissions=["settle"])
    def settle(self, request: HttpRequest, queryset: models.QuerySet[MissingOrder]) -> None:
        """Settle those of the selected that restore_sale has left over; the history says who did it."""
        settled = missing.settle(queryset, request.user)
        words = f"{settled} settled. They are not counted as missing any more."
        if others := queryset.count() - settled:
            words += f" {others} are not left over: restore_sale comes first."
        self.message_user(request, words, messages.SUCCESS if settled else messages.WARNING)

    @admin.display(description="Purchased", ordering="order_id")
    def purchased(self, lost: MissingOrder) -> str:
        return beside_utc(datetime.fromtimestamp(purchased_ms(lost.order_id) / 1000, UTC))

    @admin.display(description="Found", ordering="found_at")
    def found(self, lost: MissingOrder) -> str:
        return beside_utc(lost.found_at)
