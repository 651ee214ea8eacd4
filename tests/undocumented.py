"""An application that answers otherwise than it is documented; test_fuzz.py serves it."""

from typing import Any

from django.http import HttpResponse

from flashsale.asgi import application
from sales import api, endpoints, shoppers

right_normalise = shoppers.normalise


def normalise(user_id: object) -> str:
    """Fail where a name is an e-mail address."""
    spelling = right_normalise(user_id)
    if "@" in spelling:
        raise ZeroDivisionError
    return spelling


def answer(status: int, body: dict[str, Any], headers: dict[str, str] | None = None) -> HttpResponse:
    """Answer with a field of another type than the document says."""
    changed = {"pid": "none"} if "pid" in body else {}
    return endpoints.answer(status, body | changed, headers)


shoppers.normalise = normalise
api.answer = answer

__all__ = ["application"]
