"""The page of a sale's partner in the admin: the key with which it vouches for its users, shown on demand."""

from typing import Any

from django.conf import settings
from django.contrib import admin
from django.contrib.admin.models import CHANGE, LogEntry
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from sales import tokens
from sales.desk import handover
from sales.models import Identity, Sale

# Of those who have the key, one more: the history names who it was.
SHOWN = "Looked at the partner’s key, number {}."


class PartnerAdmin(admin.ModelAdmin):
    """Adds the page to a sale's admin.

    templates/admin/sales/sale/change_form_object_tools.html links to it.
    """

    def get_urls(self) -> list[URLPattern]:
        checked = require_http_methods(["GET", "HEAD", "POST"])(self.partner_view)
        view = self.admin_site.admin_view(never_cache(checked))
        return [path("<int:sale_id>/partner/", view, name="sales_sale_partner"), *super().get_urls()]

    def partner_view(self, request: HttpRequest, sale_id: int) -> HttpResponse:
        """Tell what the key is for, and show it to who presses the button. For those who may change the sale."""
        if not self.has_change_permission(request):
            raise PermissionDenied
        sale = get_object_or_404(Sale, pk=sale_id)
        if request.method == "POST":
            words = SHOWN.format(sale.key_number)
            LogEntry.objects.log_actions(  # type: ignore[call-overload]
                request.user.pk, [sale], CHANGE, words, single_object=True
            )
            return handover.lead_to(request, request.path, str(sale.key_number))
        context: dict[str, Any] = {
            **self.admin_site.each_context(request),
            "title": f"Partner of {sale}",
            "opts": self.opts,
            "original": sale,
            "is_open": sale.identity == Identity.OPEN,
            "enter_url": settings.PUBLIC_URL + reverse("enter", args=[sale.slug]),
        }
        if handover.handed_over(request) == str(sale.key_number):
            context["key"] = tokens.partner_key(sale.id, sale.key_number)
        return TemplateResponse(request, "admin/sales/sale/partner.html", context)
