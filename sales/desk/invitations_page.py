"""The page of a sale's list of invited shoppers: how many they are, another file of them, and looking somebody up."""

from typing import Any, cast

from django import forms
from django.contrib import admin, messages
from django.contrib.auth.models import AbstractBaseUser
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from sales import invitation_files, invitations, invited_mirror, shoppers, store
from sales.models import Identity, Sale

REPLACED = "Somebody else has replaced the list meanwhile, and this was not done. Look at it, and repeat this."
NOT_IN_FORCE = "It is saved, but Redis has not taken it yet: it takes effect as soon as Redis does."


class UploadForm(forms.Form):
    file = forms.FileField(
        label="File",
        help_text="An address on each line, or CSV with a column “email”, a row on each line; UTF-8, at most 48 MB.",
        widget=forms.FileInput({"accept": ".csv,.txt,text/csv,text/plain"}),
        error_messages={"required": "Choose a file.", "empty": "The file is empty. Choose another."},
    )
    mode = forms.ChoiceField(
        label="What to do with it",
        choices=[("add", "Add to the list"), ("replace", "Replace the list: nobody else is invited")],
        initial="add",
        widget=forms.RadioSelect,
        error_messages={"required": "Choose whether it is added, or replaces the list."},
    )
    bad_lines: list[invitation_files.BadLine] = []
    remark = ""

    def clean_file(self) -> Any:
        file = self.cleaned_data["file"].file
        try:
            self.remark = invitation_files.check(file).remark()
        except invitation_files.BadFile as error:
            self.bad_lines = error.lines
            raise forms.ValidationError(str(error)) from None
        return file

    def clean(self) -> dict[str, Any]:
        if "file" in self.cleaned_data and self.errors:
            self.add_error("file", "Choose the file again: the form does not keep it.")
        return self.cleaned_data


class WhoForm(forms.Form):
    """Somebody to look up."""

    who = forms.CharField(label="Address", error_messages={"required": "Write the address to look for."})

    def clean_who(self) -> str:
        try:
            return shoppers.find(self.cleaned_data["who"])
        except shoppers.InvalidShopper as error:
            raise forms.ValidationError(str(error)) from None


class InvitationsAdmin(admin.ModelAdmin):
    """Adds the page to a sale's admin. Who may see the sale sees how many are invited; the rest is for those who may
    change it."""

    def get_urls(self) -> list[URLPattern]:
        view = require_http_methods(["GET", "HEAD", "POST"])(never_cache(self.invitations_view))
        page = self.admin_site.admin_view(view)
        return [path("<int:sale_id>/invitations/", page, name="sales_sale_invitations"), *super().get_urls()]

    def invitations_view(self, request: HttpRequest, sale_id: int) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        sale = get_object_or_404(Sale, pk=sale_id)
        if request.method != "POST":
            return self._page(request, sale)
        if not self.has_change_permission(request, sale):
            raise PermissionDenied
        steps = {"upload": self._upload, "remove": self._remove, "empty": self._empty}
        step = steps.get(request.POST.get("step", ""))
        try:
            return step(request, sale) if step else self._page(request, sale)
        except invitations.Replaced:
            messages.error(request, REPLACED)
            return _back(sale)

    def _upload(self, request: HttpRequest, sale: Sale) -> HttpResponse:
        form = UploadForm(request.POST, request.FILES)
        if not form.is_valid():
            return self._page(request, sale, form)
        write = invitations.replace if form.cleaned_data["mode"] == "replace" else invitations.add
        written = write(sale, invitation_files.user_ids(form.cleaned_data["file"]), _user(request))
        answer = _mirrored(request, sale, written.sentence())
        if form.remark:
            messages.warning(request, form.remark)
        return answer

    def _remove(self, request: HttpRequest, sale: Sale) -> HttpResponse:
        form = WhoForm(request.POST)
        if form.is_valid():
            who = form.cleaned_data["who"]
            removed = invitations.remove(sale, who, _user(request))
            return _mirrored(request, sale, f"{'Taken off' if removed else 'Not on'} the list: {who}.")
        return _back(sale)

    def _empty(self, request: HttpRequest, sale: Sale) -> HttpResponse:
        invitations.empty(sale, _user(request))
        return _mirrored(request, sale, "The list is empty: nobody is invited.")

    def _page(self, request: HttpRequest, sale: Sale, upload: UploadForm | None = None) -> HttpResponse:
        may_change = self.has_change_permission(request, sale)
        who = WhoForm(request.GET if "who" in request.GET else None)
        entries = invitations.found(sale, who.cleaned_data["who"]) if may_change and who.is_valid() else None
        invited = sale.invited().count()
        context = {
            **self.admin_site.each_context(request),
            "title": f"Invitations to {sale}",
            "opts": self.opts,
            "original": sale,
            "invited": invited,
            "invited_text": f"{invited:,}",
            "may_change": may_change,
            "is_by_invitation": sale.identity == Identity.INVITED,
            "redis": _redis_words(sale),
            "upload": upload or UploadForm(),
            "who": who,
            "entries": entries,
            "asks_to_empty": "empty" in request.GET,
        }
        return TemplateResponse(request, "admin/sales/sale/invitations.html", context)


def _user(request: HttpRequest) -> AbstractBaseUser:
    return cast(AbstractBaseUser, request.user)


def _mirrored(request: HttpRequest, sale: Sale, sentence: str) -> HttpResponse:
    """Tell Redis, lead back to the page with what came of it, and delete the list before."""
    try:
        is_in_force = invited_mirror.mirror(sale)
    except store.Unavailable:
        is_in_force = False
    waits = invited_mirror.why_it_waits(sale)
    told = waits or ("It is in force." if is_in_force else NOT_IN_FORCE)
    level = messages.SUCCESS if is_in_force and not waits else messages.WARNING
    messages.add_message(request, level, f"{sentence} {told}")
    invitations.tidy(sale)
    return _back(sale)


def _redis_words(sale: Sale) -> str:
    """Return what of the list is in force."""
    if waits := invited_mirror.why_it_waits(sale):
        return waits
    try:
        mirrored = invited_mirror.look(sale)
    except store.RedisError:
        return "Redis cannot be reached: nothing is sold until it is back."
    if mirrored.is_current(sale):
        return "The list is in force."
    if mirrored.is_whole():
        return "The list before this one is in force, until Redis has taken this one. That takes some seconds."
    return "Redis does not hold the list yet, and sells nothing until it does. That takes some seconds."


def _back(sale: Sale) -> HttpResponse:
    return HttpResponseRedirect(reverse("admin:sales_sale_invitations", args=[sale.pk]))
