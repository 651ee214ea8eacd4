"""Every address. What the crowd asks for is in LANE: an async view made by `endpoints.endpoint`, one line each."""

from django.contrib import admin
from django.urls import path, register_converter

from sales import (
    api,
    files,
    media,
    metrics_api,
    pages,
    partner_pages,
    receipt_pages,
    reference,
    shopper_api,
    shopper_pages,
)
from sales.desk import signin


class AnyText:
    """What is left of the address, whatever it holds: a shopper's name may have a slash or a line break."""

    regex = r"[\s\S]+"

    def to_python(self, value: str) -> str:
        return value

    def to_url(self, value: str) -> str:
        return value


class PictureName(AnyText):
    """A picture's name, as `pictures` makes them."""

    regex = r"[\w-]{1,80}\.webp"


register_converter(AnyText, "any")
register_converter(PictureName, "picture")

LANE = [
    path("", pages.sale, name="home"),
    path("sales/", pages.sales, name="sales"),
    path("sales/<slug:slug>/", pages.sale, name="sale"),
    path("api/sale/status", api.status),
    path("api/sale/events", api.events),
    path("api/sale/shopper", api.shopper),
    path("api/sale/purchase", api.purchase),
    path("api/sale/user/<any:user_id>", api.user),
    path("api/sales/<slug:slug>/status", api.status),
    path("api/sales/<slug:slug>/events", api.events),
    path("api/sales/<slug:slug>/shopper", api.shopper),
    path("api/sales/<slug:slug>/purchase", api.purchase),
    path("api/sales/<slug:slug>/user/<any:user_id>", api.user),
    path("api/openapi.json", reference.document, name="openapi"),
    path("api/docs", reference.page, name="api_docs"),
    path("health", api.health),
    path("health/live", api.live),
    path("metrics", metrics_api.read),
    path("static/<any:name>", files.static),
    path("media/products/<picture:name>", media.picture),
    path("robots.txt", files.named("robots.txt")),
    path("favicon.ico", files.named("favicon.ico")),
]

urlpatterns = [
    *LANE,
    path("receipts/", receipt_pages.receipt, {"token": ""}),
    path("receipts/<str:token>/", receipt_pages.receipt, name="receipt"),
    path("shopper/", shopper_pages.shopper, name="shopper"),
    path("shopper/confirm/", shopper_pages.confirm, name="confirm"),
    path("shopper/enter/<slug:slug>/", partner_pages.enter, name="enter"),
    path("shopper/leave/", shopper_pages.leave, name="leave"),
    path("api/shopper/code", shopper_api.code),
    path("api/shopper/token", shopper_api.token),
    path("orders/find/", receipt_pages.find_order, name="find_order"),
    path("admin/login/", signin.login),
    # Django lets those sign out who may see a page; here everybody may, also who has yet to set up a second factor.
    path("admin/logout/", admin.site.logout),
    path("admin/", admin.site.urls),
]

handler400 = "sales.refusals.bad_request"
handler403 = "sales.refusals.forbidden"
handler404 = "sales.refusals.not_found"
handler500 = "sales.refusals.server_error"
