"""The page on which people set up their second factor, make new backup codes, and turn it off."""

import django_otp
import segno
from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.template.response import TemplateResponse
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from sales import second_factor
from sales.desk import handover
from sales.desk.signin_form import CodeInput

# The forms of the page, by their step, and what stands under the code of each.
HELP = {
    "on": "Six digits, which the app shows now.",
    "renew": "That your app shows now, or a backup code. The earlier backup codes are worth nothing then.",
    "off": "That your app shows now, or a backup code.",
}


class CodeForm(forms.Form):
    code = forms.CharField(
        label="Code", max_length=40, widget=CodeInput, error_messages={"required": "Type the code that your app shows."}
    )

    def __init__(self, step: str, data: QueryDict | None = None):
        super().__init__(data, auto_id=f"{step}_%s")
        self.fields["code"].help_text = HELP[step]


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def page(request: HttpRequest) -> HttpResponse:
    """Show how it stands, or take one of STEPS. Also for those who have yet to set one up before they see anything."""
    if not _may_see(request):
        return redirect_to_login(request.get_full_path(), reverse("admin:login"))
    step = STEPS.get(request.POST.get("step", ""))
    return step(request) if step else _page(request)


@never_cache
@require_http_methods(["GET", "HEAD"])
def codes_page(request: HttpRequest) -> HttpResponse:
    """Show the backup codes that were made just now; later lead back to the page that makes new ones."""
    codes = handover.handed_over(request).split()
    if codes and _may_see(request):
        return _page(request, codes)
    return HttpResponseRedirect(reverse("admin:second_factor"))


def _may_see(request: HttpRequest) -> bool:
    user = request.user
    may_see = second_factor.is_satisfied(request) or second_factor.is_due(user)
    return user.is_active and user.is_staff and may_see


def _show(request: HttpRequest, codes: list[str]) -> HttpResponse:
    return handover.lead_to(request, reverse("admin:backup_codes"), " ".join(codes))


def _begin(request: HttpRequest) -> HttpResponse:
    if not second_factor.is_on(request.user):
        second_factor.begin(request.user)
    return HttpResponseRedirect(request.path)


def _turn_on(request: HttpRequest) -> HttpResponse:
    form = CodeForm("on", request.POST)
    if form.is_valid():
        try:
            device, codes = second_factor.turn_on(request.user, form.cleaned_data["code"])
        except second_factor.Wrong as reason:
            form.add_error("code", str(reason))
        else:
            django_otp.login(request, device)
            return _show(request, codes)
    return _page(request, on=form)


def _renew(request: HttpRequest) -> HttpResponse:
    form = CodeForm("renew", request.POST)
    if _is_right(request, form):
        return _show(request, second_factor.renew_backup_codes(request.user))
    return _page(request, renew=form)


def _turn_off(request: HttpRequest) -> HttpResponse:
    form = CodeForm("off", request.POST)
    if not _is_right(request, form):
        return _page(request, off=form)
    second_factor.turn_off(request.user, request.user, "Turned the second factor off.")
    messages.success(request, "Your second factor is off.")
    return HttpResponseRedirect(request.path)


STEPS = {"begin": _begin, "on": _turn_on, "renew": _renew, "off": _turn_off}


def _is_right(request: HttpRequest, form: CodeForm) -> bool:
    """Return whether the form's code is taken; the form then says why not."""
    if form.is_valid():
        try:
            second_factor.check(request.user, form.cleaned_data["code"])
        except second_factor.Wrong as reason:
            form.add_error("code", str(reason))
    return form.is_valid()


def _page(request: HttpRequest, codes: list[str] | None = None, **forms_with_errors: CodeForm) -> HttpResponse:
    site, user = admin.site.each_context(request), request.user
    is_due = second_factor.is_due(user)
    waiting = second_factor.waiting(user)
    context = {
        **site,
        # What leads on is shown to who may go on.
        "is_nav_sidebar_enabled": site["is_nav_sidebar_enabled"] and not is_due,
        "title": "Second factor",
        "is_due": is_due,
        "is_required": settings.SECOND_FACTOR_IS_REQUIRED,
        "is_on": second_factor.is_on(user),
        "codes": codes,
        "codes_left": second_factor.backup_codes_left(user),
        "forms": {step: CodeForm(step) for step in HELP} | forms_with_errors,
    }
    if waiting:
        qr = segno.make(waiting.config_url).svg_inline(scale=5, light="#fff", dark="#000")
        context |= {"qr": qr, "secret": second_factor.secret_of(waiting)}
    return TemplateResponse(request, "admin/second_factor.html", context)
