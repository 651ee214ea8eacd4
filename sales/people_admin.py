"""The people who sign in, and how an administrator helps one whose phone is lost."""

from typing import Any

from django.contrib import admin, messages
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db.models import Exists, OuterRef, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.views.decorators.http import require_http_methods
from django_otp.plugins.otp_static.models import StaticDevice
from django_otp.plugins.otp_totp.models import TOTPDevice

from sales import second_factor

# Their pages show secrets. People see their own where they set it up, and nobody another's.
admin.site.unregister((TOTPDevice, StaticDevice))
admin.site.unregister(User)


@admin.register(User)
class PeopleAdmin(UserAdmin):
    list_display = ("username", "first_name", "last_name", "is_staff", "has_second_factor")

    def get_queryset(self, request: HttpRequest) -> QuerySet[User]:
        devices = TOTPDevice.objects.filter(user=OuterRef("pk"), confirmed=True)
        return super().get_queryset(request).annotate(has_device=Exists(devices))

    @admin.display(description="Second factor", boolean=True)
    def has_second_factor(self, user: Any) -> bool:
        return user.has_device

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.lost_view)
        return [path("<int:user_id>/second-factor/", view, name="auth_user_second_factor"), *super().get_urls()]

    def lost_view(self, request: HttpRequest, user_id: int) -> HttpResponse:
        return forget(request, self, user_id)


@require_http_methods(["GET", "HEAD", "POST"])
def forget(request: HttpRequest, model_admin: PeopleAdmin, user_id: int) -> HttpResponse:
    """Ask whether the person's second factor is to be taken away (GET), or do it (POST)."""
    person = get_object_or_404(User, pk=user_id)
    if not model_admin.has_change_permission(request, person):
        raise PermissionDenied
    if person == request.user:  # who has lost nothing has a code to type
        return HttpResponseRedirect(reverse("admin:second_factor"))
    if request.method == "POST":
        second_factor.turn_off(person, request.user, "Took the second factor away: it was lost.")
        words = f"From now on {person} signs in with the password alone, until a new second factor is set up."
        messages.success(request, words)
        return HttpResponseRedirect(reverse("admin:auth_user_change", args=[person.pk]))
    context = {
        **model_admin.admin_site.each_context(request),
        "title": f"Second factor of {person}",
        "opts": model_admin.opts,
        "person": person,
        "is_on": second_factor.is_on(person),
    }
    return TemplateResponse(request, "admin/auth/user/second_factor.html", context)
