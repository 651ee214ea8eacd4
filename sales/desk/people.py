"""The people who sign in, their roles, and how an administrator helps one whose phone is lost."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group, User
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
from sales.desk.searching import Searched

# The devices' pages show secrets. People see their own where they set it up, and nobody another's.
admin.site.unregister((TOTPDevice, StaticDevice, User, Group))


class Ticked(Searched):
    """Many of many are ticked: Django's two boxes to move things between cannot be read by everybody."""

    filter_horizontal = ()

    def formfield_for_manytomany(self, db_field: Any, request: Any = None, **kwargs: Any) -> Any:
        kwargs["widget"] = forms.CheckboxSelectMultiple
        return super().formfield_for_manytomany(db_field, request, **kwargs)


@admin.register(Group)
class RoleAdmin(Ticked, GroupAdmin):
    pass


@admin.register(User)
class PeopleAdmin(Ticked, UserAdmin):
    list_display = ("username", "roles", "is_staff", "is_active", "has_second_factor")
    readonly_fields = ("last_login", "date_joined")
    fieldsets = (
        ("Who", {"fields": ("username", "password", "first_name", "last_name", "email")}),
        ("What they may do", {"fields": ("is_active", "is_staff", "is_superuser", "groups")}),
        ("When", {"fields": ("last_login", "date_joined")}),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[User]:
        devices = TOTPDevice.objects.filter(user=OuterRef("pk"), confirmed=True)
        return super().get_queryset(request).annotate(has_device=Exists(devices)).prefetch_related("groups")

    @admin.display(description="Roles")
    def roles(self, user: User) -> str:
        return ", ".join(group.name for group in user.groups.all())

    @admin.display(description="Second factor", boolean=True)
    def has_second_factor(self, user: Any) -> bool:
        return user.has_device

    def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        """Who leaves is made inactive, not deleted: the history of what they did would go with them."""
        return False

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
