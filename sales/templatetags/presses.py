"""What a form carries: its one-time token, beside Django's CSRF token where that is asked for.

The library is built into the template engine, and its `csrf_token` takes the place of Django's: so every form of the
admin has a token, too.
"""

from typing import Any

from django import template
from django.template.base import Parser, Token
from django.template.context import Context
from django.template.defaulttags import CsrfTokenNode
from django.utils.html import format_html
from django.utils.safestring import SafeString

from sales import press_guard, presses

register = template.Library()


@register.simple_tag(takes_context=True)
def press_token(context: Context) -> SafeString:
    """Return the field with the form's one-time token; nothing where no request is answered."""
    request: Any = context.get("request")
    if request is None:
        return SafeString()
    token = presses.issue(press_guard.owner(request))
    return format_html('<input type="hidden" name="{}" value="{}">', presses.FIELD, token)


class TokensNode(CsrfTokenNode):
    def render(self, context: Context) -> SafeString:
        return format_html("{}{}", super().render(context), press_token(context))


@register.tag
def csrf_token(parser: Parser, token: Token) -> TokensNode:
    return TokensNode()
