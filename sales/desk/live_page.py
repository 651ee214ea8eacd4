"""The live dashboard of a sale in the admin, and the numbers that its script asks for."""

from datetime import datetime
from typing import Any

from django.conf import settings
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.views.decorators.cache import never_cache

from sales import live
from sales.desk import live_words
from sales.models import Sale

# The tables of a page that no script brings up to date.
TABLE_SECONDS = 60


class LiveAdmin(admin.ModelAdmin):
    """Adds the pages to a sale's admin, for all who may see the sale."""

    def get_urls(self) -> list[URLPattern]:
        page, data = (self.admin_site.admin_view(never_cache(view)) for view in (self.live_view, self.live_data_view))
        return [
            path("<int:sale_id>/live/", page, name="sales_sale_live"),
            path("<int:sale_id>/live/data/", data, name="sales_sale_live_data"),
            *super().get_urls(),
        ]

    def live_view(self, request: HttpRequest, sale_id: int) -> HttpResponse:
        """Show the sale as it is now; the script goes on from there. `?wall` is for a screen on the wall."""
        sale = self._seen(request, sale_id)
        picture = live.look(sale)
        rows = live_words.columns(picture.seconds[-TABLE_SECONDS:])
        context = {
            **self.admin_site.each_context(request),
            "title": f"{sale}, live",
            "opts": self.opts,
            "original": sale,
            "state": picture.state,
            "tiles": live_words.tiles(sale, picture),
            "share_left": live_words.share_left(picture),
            "charts": [{"chart": chart, "rows": table_rows(chart, rows)} for chart in live_words.CHARTS],
            "seen_at": _clock(picture.now_ms // 1000),
            "data_url": reverse("admin:sales_sale_live_data", args=[sale.pk]),
            "time_zone": settings.TIME_ZONE,
        }
        name = "wall" if "wall" in request.GET else "live"
        return TemplateResponse(request, f"admin/sales/sale/{name}.html", context)

    def live_data_view(self, request: HttpRequest, sale_id: int) -> HttpResponse:
        """Return the numbers as JSON, with the seconds after `?since=`, in seconds since 1970."""
        sale = self._seen(request, sale_id)
        since = request.GET.get("since", "")[:12]
        picture = live.look(sale, int(since) if since.isdecimal() else live.BEGINNING)
        return JsonResponse(live_words.as_json(sale, picture))

    def _seen(self, request: HttpRequest, sale_id: int) -> Sale:
        if not self.has_view_permission(request):
            raise PermissionDenied
        return get_object_or_404(Sale, pk=sale_id)


def table_rows(chart: live_words.Chart, columns: dict[str, list[Any]]) -> list[tuple[str, list[str]]]:
    """Return the lines of a chart's table, the newest first: the time, and the value of each series."""
    lists = [columns[series.key] for series in chart.series]
    lines = zip(columns["second"], zip(*lists, strict=True), strict=True)
    return [(_clock(second), ["–" if value is None else f"{value:,}" for value in values]) for second, values in lines][
        ::-1
    ]


def _clock(second: int) -> str:
    return f"{datetime.fromtimestamp(second, timezone.get_current_timezone()):%H:%M:%S}"
