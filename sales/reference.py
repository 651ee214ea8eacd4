"""The API's description of itself: `openapi.json` for programs, and a page for people that is made of it."""

import json
import re
import shlex
from collections.abc import Callable, Iterator
from functools import lru_cache
from http import HTTPStatus
from pathlib import Path
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.utils import translation
from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe

from sales import rendering
from sales.endpoints import JSON, endpoint
from sales.headers import OF_DATA, OF_PAGES

SOURCE = Path(__file__).with_name("openapi.json")
EVENT_STREAM = "text/event-stream"
METHODS = ("get", "post", "put", "patch", "delete")
CACHED_SECONDS = 60

Node = dict[str, Any]


@endpoint("GET", "HEAD")
async def document(request: HttpRequest) -> HttpResponse:
    return rendering.answer(request, _document())


@endpoint("GET", "HEAD")
async def page(request: HttpRequest) -> HttpResponse:
    """Return the page. It is in English, as the API's messages are."""
    return rendering.answer(request, _page())


@lru_cache(maxsize=1)
def _document() -> rendering.Page:
    return _packed(SOURCE.read_bytes(), {"Content-Type": JSON}, OF_DATA)


@lru_cache(maxsize=1)
def _page() -> rendering.Page:
    with translation.override("en"):
        content = render_to_string("sales/reference.html", context(read()))
    return _packed(content.encode(), {"Content-Type": rendering.HTML, "Content-Language": "en"}, OF_PAGES)


def _packed(content: bytes, headers: dict[str, str], common_headers: dict[str, str]) -> rendering.Page:
    return rendering.packed(
        content, headers, common_headers=common_headers, vary="Accept-Encoding", max_age=CACHED_SECONDS
    )


def read() -> Node:
    """Return the document with what its references mean in their place."""
    found = json.loads(SOURCE.read_bytes())
    return _resolved(found, found)


def _resolved(node: Any, whole: Node) -> Any:
    if isinstance(node, list):
        return [_resolved(item, whole) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" not in node:
        return {name: _resolved(value, whole) for name, value in node.items()}
    target = whole
    for name in node["$ref"].removeprefix("#/").split("/"):
        target = target[name]
    return _resolved(target, whole)


def context(whole: Node) -> Node:
    """Return what the page shows of the document."""
    operations = list(_operations(whole))
    return {
        "title": whole["info"]["title"],
        "about": [_text(paragraph) for paragraph in whole["info"]["description"].split("\n\n")],
        "groups": [
            {**tag, "operations": [operation for operation in operations if operation["tag"] == tag["name"]]}
            for tag in whole["tags"]
        ],
        "refusal": list(_fields(whole["components"]["schemas"]["Refusal"])),
    }


def _operations(whole: Node) -> Iterator[Node]:
    """Yield the operations; one that differs from an earlier one in its address alone is an address more of that."""
    alike: dict[str, Node] = {}
    for path, item in whole["paths"].items():
        for method in METHODS:
            if method not in item:
                continue
            operation = dict(item[method])
            name = operation.pop("operationId")
            known = json.dumps(operation, sort_keys=True)
            if known not in alike:
                alike[known] = {**_operation(method, path, item, operation), "id": name, "paths": []}
            alike[known]["paths"].append(path)
            alike[known]["path_parameters"] |= {
                parameter["name"]: _parameter(parameter) for parameter in item.get("parameters", [])
            }
    yield from alike.values()


def _operation(method: str, path: str, item: Node, operation: Node) -> Node:
    body = operation.get("requestBody", {}).get("content", {}).get(JSON)
    return {
        "method": method.upper(),
        "tag": operation["tags"][0],
        "summary": operation["summary"],
        "about": _text(operation.get("description", "")),
        "path_parameters": {},
        "parameters": [_parameter(parameter) for parameter in operation.get("parameters", [])],
        "body": body and {"fields": list(_fields(body["schema"])), "examples": _examples(body)},
        "curl": _curl(path, item, operation),
        "answers": [_answer(int(status), answer) for status, answer in operation["responses"].items()],
    }


def _parameter(parameter: Node) -> Node:
    return {**parameter, "about": _text(parameter["description"]), "kind": _kind(parameter["schema"])}


def _answer(status: int, answer: Node) -> Node:
    contents = answer.get("content", {})
    is_good = status < 300
    return {
        "status": status,
        "phrase": HTTPStatus(status).phrase,
        "is_good": is_good,
        "codes": [] if is_good else list(contents.get(JSON, {}).get("examples", {})),
        "about": _text(answer["description"]),
        "headers": [(name, _text(header["description"])) for name, header in answer.get("headers", {}).items()],
        "fields": list(_fields(contents[JSON]["schema"])) if is_good and JSON in contents else [],
        "contents": [(media_type, _examples(content, media_type)) for media_type, content in contents.items()],
    }


def _examples(content: Node, media_type: str = JSON) -> list[Node]:
    write = _WRITTEN[media_type]
    return [
        {"name": name, "about": _text(example.get("summary", "")), "text": write(example["value"])}
        for name, example in content.get("examples", {}).items()
    ]


# How an example looks on the wire.
_WRITTEN: dict[str, Callable[[Any], str]] = {
    JSON: lambda value: json.dumps(value, indent=2, ensure_ascii=False),
    EVENT_STREAM: lambda event: "\n".join(f"{name}: {value}" for name, value in event.items()),
    "text/plain": str,
}


def _curl(path: str, item: Node, operation: Node) -> str:
    """Return a command that asks for the operation with its examples."""
    for parameter in item.get("parameters", []):
        path = path.replace(f"{{{parameter['name']}}}", parameter["example"])
    words = ["curl", f"{settings.PUBLIC_URL}{path}"]
    if EVENT_STREAM in operation["responses"].get("200", {}).get("content", {}):
        words.insert(1, "-N")  # show each event at once
    if body := operation.get("requestBody"):
        example = next(iter(body["content"][JSON]["examples"].values()))["value"]
        words += ["-H", f"Content-Type: {JSON}", "-d", json.dumps(example)]
    return shlex.join(words)


def _fields(schema: Node, prefix: str = "") -> Iterator[Node]:
    """Yield what an object has, and what the objects in it have."""
    for name, field in _properties(schema).items():
        yield {"name": prefix + name, "kind": _kind(field), "about": _text(field.get("description", ""))}
        yield from _fields(field, f"{prefix}{name}.")


def _properties(schema: Node) -> dict[str, Node]:
    found: dict[str, Node] = {}
    for part in [*schema.get("allOf", []), schema]:
        for name, field in part.get("properties", {}).items() if part is schema else _properties(part).items():
            found[name] = {**found.get(name, {}), **field}
    return found


def _kind(schema: Node) -> str:
    """Return the values that a field takes, in words."""
    if "const" in schema:
        return json.dumps(schema["const"])
    if "enum" in schema:
        return " | ".join(json.dumps(value) for value in schema["enum"])
    types = schema.get("type", "object")
    return " or ".join([types] if isinstance(types, str) else types)


def _text(described: str) -> SafeString:
    """Return a description as HTML: of Markdown it has code alone."""
    words = re.split(r"`([^`]+)`", described)
    return mark_safe("".join(f"<code>{escape(w)}</code>" if at % 2 else escape(w) for at, w in enumerate(words)))  # noqa: S308 (escaped)
