"""The analytics of a sale in the admin: a page, and the same as JSON and CSV."""

from collections.abc import Iterable, Iterator
from typing import Any

from django.conf import settings
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, JsonResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.views.decorators.cache import never_cache

from sales import analytics
from sales.desk import analytics_words, csv_styles, exports, live_words
from sales.desk.live_page import table_rows
from sales.models import Sale
from sales.paging import pages

FOR_EXCEL = "-for-excel.csv"


class AnalyticsAdmin(admin.ModelAdmin):
    """Adds the pages to a sale's admin, for all who may see the sale."""

    def get_urls(self) -> list[URLPattern]:
        page, files = (self.admin_site.admin_view(never_cache(view)) for view in (self.analytics_view, self.file_view))
        return [
            path("<int:sale_id>/analytics/", page, name="sales_sale_analytics"),
            path("<int:sale_id>/analytics/<str:name>", files, name="sales_sale_analytics_file"),
            *super().get_urls(),
        ]

    def analytics_view(self, request: HttpRequest, sale_id: int) -> HttpResponse:
        """Show what became of the sale, and how it compares with earlier ones."""
        sale = self._seen(request, sale_id)
        found, early = analytics.measures(sale), analytics.early(sale)
        timeline = analytics.timeline(sale, found.sold_out_at)
        columns = live_words.columns(timeline.points, timeline.step)
        context = {
            **self.admin_site.each_context(request),
            "title": f"Analytics of {sale}",
            "opts": self.opts,
            "original": sale,
            "found": found,
            "tiles": analytics_words.tiles(found, early, timeline),
            "step": timeline.step,
            "charts": [{"chart": chart, "rows": table_rows(chart, columns)} for chart in live_words.CHARTS],
            "columns": columns,
            "outcomes": analytics_words.outcome_lines(timeline.outcomes),
            "early": analytics_words.early_lines(found, early),
            "comparison": analytics_words.comparison([found, *analytics.earlier(sale)]),
            "time_zone": settings.TIME_ZONE,
        }
        return TemplateResponse(request, "admin/sales/sale/analytics.html", context)

    def file_view(self, request: HttpRequest, sale_id: int, name: str) -> HttpResponseBase:
        """Return one of the files: all of it as JSON, or this sale and earlier ones or its seconds as CSV."""
        sale = self._seen(request, sale_id)
        if name == "analytics.json":
            found = analytics.measures(sale)
            timeline = analytics.timeline(sale, found.sold_out_at)
            body = analytics_words.as_json(found, analytics.early(sale), timeline, analytics.earlier(sale))
            return JsonResponse(body, headers=_attachment(sale, name))
        style = csv_styles.for_excel(request) if name.endswith(FOR_EXCEL) else csv_styles.FOR_PROGRAMS
        if name in ("sales.csv", f"sales{FOR_EXCEL}"):
            records = [analytics_words.record(found) for found in (analytics.measures(sale), *analytics.earlier(sale))]
            return _csv(sale, name, [list(records[0]), *(list(record.values()) for record in records)], style)
        if name in ("seconds.csv", f"seconds{FOR_EXCEL}"):
            return _csv(sale, name, analytics_words.second_rows(analytics.seconds(sale)), style)
        raise Http404

    def _seen(self, request: HttpRequest, sale_id: int) -> Sale:
        if not self.has_view_permission(request):
            raise PermissionDenied
        return get_object_or_404(Sale, pk=sale_id)


def _csv(sale: Sale, name: str, rows: Iterable[Iterable[Any]], style: csv_styles.Style) -> StreamingHttpResponse:
    """Return the rows as a file; the first one is a header."""

    def lines() -> Iterator[str]:
        rest = iter(rows)
        yield style.beginning + exports.text([style.headed(next(rest), analytics_words.TIMES)], style)
        for page in pages(rest):
            yield exports.text([tuple(exports.cell(value, style) for value in row) for row in page], style)

    return StreamingHttpResponse(lines(), content_type="text/csv; charset=utf-8", headers=_attachment(sale, name))


def _attachment(sale: Sale, name: str) -> dict[str, str]:
    return {"Content-Disposition": f'attachment; filename="{sale.slug}-{name}"'}
