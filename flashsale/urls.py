"""Every address. What the crowd asks for is in LANE: an async view made by `endpoints.endpoint`, one line each."""

from django.contrib import admin
from django.urls import path, re_path, register_converter

from sales import api, media, pages, receipt_pages
from sales.desk import signin


class AnyText:
    """What is left of the address, whatever it holds: a shopper's name may have a slash or a line break."""

    regex = r"[\s\S]+"

    def to_python(self, value: str) -> str:
        return value

    def to_url(self, value: str) -> str:
        return value


register_converter(AnyText, "any")

LANE = [
    path("", pages.sale, name="home"),
    path("sales/", pages.sales, name="sales"),
    path("sales/<slug:slug>/", pages.sale, name="sale"),
    path("api/sale/status", api.status),
    path("api/sale/events", api.events),
    path("api/sale/purchase", api.purchase),
    path("api/sale/user/<any:user_id>", api.user),
    path("api/sales/<slug:slug>/status", api.status),
    path("api/sales/<slug:slug>/events", api.events),
    path("api/sales/<slug:slug>/purchase", api.purchase),
    path("api/sales/<slug:slug>/user/<any:user_id>", api.user),
    path("health", api.health),
    path("health/live", api.live),
]

urlpatterns = [
    *LANE,
    path("receipts/", receipt_pages.receipt, {"token": ""}),
    path("receipts/<str:token>/", receipt_pages.receipt, name="receipt"),
    path("orders/find/", receipt_pages.find_order, name="find_order"),
    path("admin/login/", signin.login),
    # Django lets those sign out who may see a page; here everybody may, also who has yet to set up a second factor.
    path("admin/logout/", admin.site.logout),
    path("admin/", admin.site.urls),
    re_path(r"^media/(?P<name>products/[\w-]{1,80}\.webp)$", media.picture),
]

handler400 = "sales.refusals.bad_request"
handler403 = "sales.refusals.forbidden"
handler404 = "sales.refusals.not_found"
handler500 = "sales.refusals.server_error"
