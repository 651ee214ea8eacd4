"""The form in which people sign in to the admin: name, password and, of who has turned it on, the second factor."""

from typing import Any

from django import forms
from django.contrib.admin.forms import AdminAuthenticationForm
from django.core.exceptions import ValidationError

from sales import second_factor


class CodeInput(forms.TextInput):
    """Phones and password managers fill it in; backup codes have letters, so that the keyboard has them."""

    def __init__(self) -> None:
        attributes = {"autocomplete": "one-time-code", "autocapitalize": "none", "spellcheck": "false"}
        super().__init__(attributes)


class SignInForm(AdminAuthenticationForm):
    code = forms.CharField(
        label="Code",
        required=False,
        max_length=40,
        widget=CodeInput,
        help_text="Of your second factor. Leave this empty if you have none.",
    )

    def confirm_login_allowed(self, user: Any) -> None:
        """Take the code, of who has one: only then the password is known to be right."""
        super().confirm_login_allowed(user)
        if second_factor.is_on(user):
            try:
                user.otp_device = second_factor.check(user, self.cleaned_data.get("code", ""))
            except second_factor.Wrong as reason:
                raise ValidationError({"code": str(reason)}) from None
