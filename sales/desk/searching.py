"""The search boxes of the admin's lists."""

from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.admin.views.main import SEARCH_VAR, ChangeList
from django.db.models import QuerySet
from django.http import HttpRequest

from sales import shoppers


class SearchForm(forms.Form):
    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        # Each word of it is a condition in SQL, which takes a thousand of them.
        self.fields[SEARCH_VAR] = forms.CharField(required=False, strip=False, max_length=shoppers.LONGEST_PASTED)


class BoundedList(ChangeList):
    search_form_class = SearchForm


class Searched(admin.ModelAdmin):
    """A list whose search takes a text no longer than a person types."""

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return BoundedList


class PersonSearch(Searched):
    """A list of what shoppers did: whom somebody looks for is spelled as they are."""

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        return super().get_search_results(request, queryset, _spelling(search_term))


def _spelling(term: str) -> str:
    """Return a name, or a part of one, as it is spelled in SQL; what can be none is left as it is."""
    before = "a" if term.startswith("@") else ""  # without anything before it, it is no domain
    try:
        return shoppers.find(before + term).removeprefix(before)
    except shoppers.InvalidShopper:
        return term
