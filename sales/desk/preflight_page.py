"""The preflight's page in the admin, one click from a sale's form."""

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.views.decorators.cache import never_cache

from sales import preflight
from sales.findings import VERDICTS, summary, worst
from sales.models import Sale


class PreflightAdmin(admin.ModelAdmin):
    """Adds the page to a sale's admin, what failed first.

    templates/admin/sales/sale/change_form_object_tools.html links to it.
    """

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(never_cache(self.preflight_view))
        return [path("<int:sale_id>/preflight/", view, name="sales_sale_preflight"), *super().get_urls()]

    def preflight_view(self, request: HttpRequest, sale_id: int) -> HttpResponse:
        """Run the checks, and show what they found. For those who may change the sale."""
        if not self.has_change_permission(request):
            raise PermissionDenied
        sale = get_object_or_404(Sale, pk=sale_id)
        findings = preflight.run(lambda: sale)
        context = {
            **self.admin_site.each_context(request),
            "title": f"Preflight of {sale}",
            "opts": self.opts,
            "original": sale,
            "findings": sorted(findings, key=lambda finding: VERDICTS.index(finding.verdict), reverse=True),
            "summary": summary(findings),
            "verdict": worst(findings),
        }
        return TemplateResponse(request, "admin/sales/sale/preflight.html", context)
