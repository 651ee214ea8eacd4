"""The request that views on the lane get: Django's own, made of an ASGI scope."""

from typing import Any

from django.http import HttpRequest
from django.utils.functional import cached_property

Scope = dict[str, Any]


class LaneRequest(HttpRequest):
    """Django's request, made from an ASGI scope without the work that lane views have no use for.

    `HttpRequest.__init__` is not called on purpose: it takes 8 µs, most of it for what is lazy here. There is no
    GET, POST or COOKIES: a stranger may send thousands of fields, and a view looks for the one that it needs.
    """

    # 0 until Django has answered.
    status_of_django = 0

    def __init__(self, scope: Scope):
        self.scope = scope
        self.method = scope["method"]
        self.path = self.path_info = scope["path"]
        self.resolver_match = None
        self.content_type, self.content_params = None, None
        self._body = b""
        self._read_started = False

    @cached_property
    def META(self) -> dict[str, Any]:  # type: ignore[override]
        scope = self.scope
        server_name, server_port = scope.get("server") or ("unknown", 0)
        meta = {
            "REQUEST_METHOD": self.method,
            "QUERY_STRING": scope["query_string"].decode("latin-1"),
            "PATH_INFO": self.path,
            "SCRIPT_NAME": "",
            "SERVER_NAME": server_name,
            "SERVER_PORT": str(server_port or 0),
            "REMOTE_ADDR": (scope.get("client") or ("", 0))[0],
        }
        for name, value in scope["headers"]:
            text, key = value.decode("latin-1"), _META_KEYS.get(name) or _meta_key(name)
            # RFC 9110, section 5.3: repeated fields are one field with a list.
            meta[key] = f"{meta[key]},{text}" if key in meta else text
        return meta

    def lighten(self) -> None:
        """Forget what is made again when somebody asks: a request that has to wait is to take little memory."""
        self.__dict__.pop("META", None)

    def _get_scheme(self) -> str:
        return self.scope.get("scheme", "http")


# Names of headers, and what META calls them.
_META_KEYS: dict[bytes, str] = {}


def _meta_key(name: bytes) -> str:
    text = name.decode("latin-1")
    key = text.replace("-", "_").upper()
    if "_" in text:  # X_Forwarded_For would pass for X-Forwarded-For: it keeps a name that nobody reads
        key = text
    elif key not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
        key = f"HTTP_{key}"
    if len(_META_KEYS) < 500 and len(name) < 100:
        _META_KEYS[name] = key
    return key
