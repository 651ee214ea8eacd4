"""The operator's desk: sales are edited here, and mirrored into Redis once they are committed."""

from functools import partial
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.widgets import AdminFileWidget
from django.core.files.uploadedfile import UploadedFile
from django.db import models, transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html

from sales import continuity, durability, pictures, publishing, store
from sales.models import Order, Quarantine, Sale
from sales.preflight_admin import PreflightAdmin

admin.site.site_header = admin.site.site_title = "Flash sales"
admin.site.index_title = "The operator's desk"

NO_REDIS = "Redis cannot be reached"
RETRY = 'Saved, but shoppers see the sale as it was: {reason}. When that is mended, choose "Publish" in the list.'


class SaleForm(forms.ModelForm):
    class Meta:
        model = Sale
        fields = "__all__"
        # What a picture is, `pictures` says, and in words that help.
        field_classes = {"image": forms.FileField}
        widgets = {"image": AdminFileWidget({"accept": "image/jpeg,image/png,image/webp"})}

    def clean_image(self) -> Any:
        """Return the name of the widest rendition of an upload; `False` when the picture is to go."""
        upload = self.cleaned_data["image"]
        if not isinstance(upload, UploadedFile):
            self.renditions: list[pictures.Stored] = self.instance.renditions if upload else []
            return upload
        try:
            self.renditions = pictures.store(pictures.render(upload))
        except pictures.BadPicture as error:
            raise forms.ValidationError(str(error)) from None
        return self.renditions[-1]["name"]

    def clean_total_stock(self) -> int:
        total_stock = self.cleaned_data["total_stock"]
        if self.instance.pk and total_stock < (sold := _units_sold(self.instance)):
            raise forms.ValidationError(f"{sold} units are sold already: set {sold} or more.", code="below_sold")
        return total_stock

    def clean(self) -> dict[str, Any] | None:
        """Keep the price that buyers' receipts show."""
        is_priced_anew = self.instance.pk and {"display_price", "currency"} & set(self.changed_data)
        if is_priced_anew and (sold := _units_sold(self.instance)):
            price = Sale.objects.get(pk=self.instance.pk).price_text() or "no price"
            self.add_error("display_price", f"{sold} units are sold already: keep {price}, or make a sale of its own.")
        return super().clean()

    def save(self, commit: bool = True) -> Sale:
        self.instance.renditions = self.renditions
        return super().save(commit)


@admin.register(Sale)
class SaleAdmin(PreflightAdmin):
    form = SaleForm
    list_display = ("name", "sold", "remaining", "total_stock", "starts_at", "ends_at", "paused", "state")
    search_fields = ("name", "slug")
    actions = ("publish",)
    fieldsets = (
        ("Product", {"fields": ("name", "slug", "description", ("image", "preview"), ("display_price", "currency"))}),
        ("Sale", {"fields": ("total_stock", ("starts_at", "ends_at"), "paused", "published")}),
        ("Live, from Redis", {"fields": ("state", "sold", "remaining")}),
    )

    def get_readonly_fields(self, request: HttpRequest, obj: Sale | None = None) -> tuple[str, ...]:
        return ("preview", "state", "sold", "remaining", *(("slug",) if obj and obj.published else ()))

    def save_model(self, request: HttpRequest, obj: Sale, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        transaction.on_commit(partial(self._publish, request, obj))

    @admin.action(description="Publish: mirror the selected sales into Redis again", permissions=["change"])
    def publish(self, request: HttpRequest, queryset: QuerySet[Sale]) -> None:
        for sale in queryset:
            self._publish(request, sale)

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, str] | None = None) -> HttpResponse:
        try:
            if (found := durability.check()) != "ok":
                self.message_user(request, f"Redis may lose acknowledged purchases: {found}", messages.WARNING)
        except store.Unavailable:
            self.message_user(request, f"{NO_REDIS}: nothing is sold until it is back.", messages.ERROR)
        return super().changelist_view(request, extra_context)

    def has_delete_permission(self, request: HttpRequest, obj: Sale | None = None) -> bool:
        """A sale is unpublished, not deleted: Redis and its orders refer to it."""
        return False

    def _publish(self, request: HttpRequest, sale: Sale) -> None:
        try:
            standing = publishing.publish(sale)
        except store.Unavailable:
            self.message_user(request, f"{sale}: {RETRY.format(reason=NO_REDIS)}", messages.WARNING)
        except publishing.NotPublished as reason:
            if isinstance(reason, publishing.BelowSold):  # sold while the form was open: SQL keeps what is in force
                Sale.objects.filter(pk=sale.pk).update(total_stock=reason.in_force)
            self.message_user(request, f"{sale} is as it was for shoppers: {reason}", messages.ERROR)
        else:
            live = f"{standing.sold} sold, {standing.remaining_stock} remaining"
            words = f"live now: {live}" if sale.published else "not shown to shoppers"
            self.message_user(request, f"{sale} is {words}.", messages.SUCCESS)

    @admin.display(description="As shoppers see it")
    def preview(self, sale: Sale) -> str:
        if not sale.renditions:
            return "A placeholder, until you choose a picture."
        url, size = sale.image.storage.url(sale.renditions[0]["name"]), sale.renditions[0]
        return format_html('<img src="{}" width="{}" height="{}" alt="">', url, size["width"] // 2, size["height"] // 2)

    @admin.display(description="Mirror")
    def state(self, sale: Sale) -> str:
        standing = _standing(sale)
        if standing is None:
            return NO_REDIS
        if closed := continuity.closed_reason(standing.config):
            return f"CLOSED: {closed}"
        if sale.first_published_at and not standing.config:
            return f"CLOSED: Redis has lost this sale. Run manage.py restore_sale {sale.slug}"
        if not standing.is_mirrored(sale):
            return 'differs from Redis: choose "Publish"'
        return "in Redis" if sale.published else "not published"

    @admin.display(description="Units sold")
    def sold(self, sale: Sale) -> str:
        standing = _standing(sale)
        return "?" if standing is None else str(standing.sold)

    @admin.display(description="Units remaining")
    def remaining(self, sale: Sale) -> str:
        standing = _standing(sale)
        return "?" if standing is None or standing.remaining_stock is None else str(standing.remaining_stock)


class ReadOnlyAdmin(admin.ModelAdmin):
    """What happened: it is read here, never edited."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False


@admin.register(Order)
class OrderAdmin(ReadOnlyAdmin):
    list_display = ("order_id", "sale", "user_id", "purchased_at")
    list_filter = ("sale",)
    search_fields = ("user_id", "order_id")
    date_hierarchy = "purchased_at"


@admin.register(Quarantine)
class QuarantineAdmin(ReadOnlyAdmin):
    list_display = ("entry_id", "sale", "reason", "set_aside_at")
    list_filter = ("sale",)


def _standing(sale: Sale) -> publishing.Standing | None:
    """Return what Redis holds of the sale, read once for a row of the list; None when Redis cannot be reached."""
    if not hasattr(sale, "_standing"):
        try:
            sale._standing = publishing.standing(sale)  # type: ignore[attr-defined]
        except store.Unavailable:
            sale._standing = None  # type: ignore[attr-defined]
    return sale._standing  # type: ignore[attr-defined]


def _units_sold(sale: Sale) -> int:
    standing = _standing(sale)
    return max(standing.sold if standing else 0, sale.orders.count())
