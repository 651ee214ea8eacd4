"""The API's description of itself, held to a real answer: its status, its headers, its type, its fields."""

import json
import re
from typing import Any

import httpx
import jsonschema_rs

from sales import headers, reference

DOCUMENT = json.loads(reference.SOURCE.read_bytes())
RESOLVED = reference.read()
METHODS = {"get", "post", "put", "patch", "delete"}

# Those of HTTP itself, those that any answer may have, and those that browsers are told for their safety.
OF_HTTP = {"date", "content-type", "content-length", "content-encoding", "connection"}
OF_MIDDLEWARE = {"content-language", "vary", "x-request-id", "traceparent", "strict-transport-security"}
OF_BROWSERS = {name.lower() for name in headers.OF_PAGES} | {
    "access-control-allow-origin",
    "access-control-expose-headers",
}
UNLISTED_HEADERS = OF_HTTP | OF_MIDDLEWARE | OF_BROWSERS

Node = dict[str, Any]


def operations() -> dict[tuple[str, str], Node]:
    """Return the operations by method and path."""
    paths = RESOLVED["paths"].items()
    return {(method, path): item[method] for path, item in paths for method in item.keys() & METHODS}


def find_path(path: str) -> str:
    """Return the path in the document that an address is of."""
    for template in DOCUMENT["paths"]:
        pattern = re.escape(template).replace(r"\{slug\}", r"[-\w]+").replace(r"\{userId\}", r"[\s\S]+")
        if re.fullmatch(pattern, path):
            return template
    raise AssertionError(f"{path} is not documented")


def check(response: httpx.Response) -> None:
    """Raise AssertionError where the answer is another than the document says."""
    method, path = response.request.method.lower(), find_path(response.request.url.path)
    item = RESOLVED["paths"][path]
    operation = item.get("get" if method == "head" else method)
    status = str(response.status_code)
    if operation is None:  # what is said to a method that the path does not take, and before that is looked at
        operation = next(item[name] for name in METHODS if name in item)
        assert status in ("400", "405", "413", "414", "429"), f"{method} {path}: {status}"
    assert status in operation["responses"], f"{method} {path}: {status} is not documented"
    documented = operation["responses"][status]
    check_headers(response, documented.get("headers", {}))
    if method != "head":
        _check_content(response.headers.get("content-type", ""), response.content, documented.get("content", {}))


def check_headers(response: httpx.Response, documented: Node) -> None:
    listed = {name.lower(): header for name, header in documented.items()}
    undocumented = set(response.headers) - set(listed) - UNLISTED_HEADERS
    assert not undocumented, f"undocumented headers: {undocumented}"
    for name, header in listed.items():
        value = response.headers.get(name)
        assert value is not None or not header.get("required"), f"the header {name} is missing"
        if value is not None:
            is_number = header["schema"].get("type") == "integer"
            validator(header["schema"]).validate(int(value) if is_number else value)


def _check_content(media_type: str, content: bytes, documented: Node) -> None:
    media_type = media_type.partition(";")[0]
    if not content:
        assert not documented
        return
    assert media_type in documented, f"undocumented type: {media_type}"
    if media_type == "application/json":
        exact(documented[media_type]["schema"]).validate(json.loads(content))


def validator(schema: Node) -> jsonschema_rs.Draft202012Validator:
    return jsonschema_rs.Draft202012Validator(schema, validate_formats=True)


def exact(schema: Node) -> jsonschema_rs.Draft202012Validator:
    """Return the validator that takes no field which is not documented, as readers must."""
    return validator(_closed(schema))


def _closed(schema: Node) -> Node:
    closed = dict(schema)
    if "properties" in schema:
        closed["properties"] = {name: _closed(field) for name, field in schema["properties"].items()}
    if any(word in schema for word in ("properties", "allOf", "oneOf")):
        closed["unevaluatedProperties"] = False
    return closed
