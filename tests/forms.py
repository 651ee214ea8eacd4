"""The forms of a page, as a browser without JavaScript would send them."""

from html.parser import HTMLParser
from typing import NamedTuple


class Form(NamedTuple):
    method: str
    action: str
    fields: dict[str, str]


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self._is_inside = False

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attributes}
        if tag == "form":
            self.forms.append(Form(found.get("method", "get").lower(), found.get("action", ""), {}))
            self._is_inside = True
        elif tag == "input" and self._is_inside and "name" in found and _is_sent(found):
            self.forms[-1].fields[found["name"]] = found.get("value", "")

    def handle_endtag(self, tag: str) -> None:
        self._is_inside = self._is_inside and tag != "form"


def _is_sent(field: dict[str, str]) -> bool:
    kind = field.get("type", "text")
    return "checked" in field if kind in ("checkbox", "radio") else kind not in ("submit", "file")


def posted(page: str) -> list[Form]:
    """Return the page's forms that are sent by POST."""
    reader = _Reader()
    reader.feed(page)
    return [form for form in reader.forms if form.method == "post"]


def posted_to(page: str, end: str) -> Form:
    """Return the only form whose action ends like this."""
    (found,) = [form for form in posted(page) if form.action.partition("?")[0].endswith(end)]
    return found
