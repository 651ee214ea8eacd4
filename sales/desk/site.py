"""Django's admin site, with a second factor for who has one."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, URLResolver, path, reverse

from sales import second_factor
from sales.desk import second_factor_page
from sales.desk.signin_form import SignInForm


class DeskSite(admin.AdminSite):
    login_form = SignInForm

    def has_permission(self, request: HttpRequest) -> bool:
        return super().has_permission(request) and second_factor.is_satisfied(request)

    def get_urls(self) -> list[URLPattern | URLResolver]:
        pages = [
            path("second-factor/", second_factor_page.page, name="second_factor"),
            path("second-factor/codes/", second_factor_page.codes_page, name="backup_codes"),
        ]
        return [*pages, *super().get_urls()]

    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Django's own view; who has to set up a second factor first is led there."""
        is_staff = super().has_permission(request)
        if is_staff and request.method == "GET" and second_factor.is_due(request.user):
            return HttpResponseRedirect(reverse("admin:second_factor"))
        lacks_code = is_staff and not second_factor.is_satisfied(request)
        return super().login(request, {**(extra_context or {}), "lacks_code": lacks_code})
