"""Every address that a stranger can reach, and what can be written there."""

import re
from collections.abc import Callable
from dataclasses import dataclass

SLUG = "widget"
_HIDDEN = re.compile(r'<input type="hidden" name="([\w-]+)" value="([^"]*)"')


@dataclass(frozen=True)
class Address:
    """An address: who answers it (`lane` or `django`), and the fields of its body.

    `{}` in the path is a text of the asker's. `form_at` is the page whose form is sent there.
    """

    method: str
    path: str
    kind: str = "lane"
    fields: tuple[str, ...] = ()
    is_json: bool = False
    form_at: str = ""

    def form(self, get: Callable[[str], tuple[dict[str, str], str]]) -> tuple[dict[str, str], dict[str, str]]:
        """Return the cookies and the hidden fields without which the form is refused before anything is read."""
        if not self.form_at:
            return {}, {}
        cookies, text = get(self.form_at)
        return cookies, dict(_HIDDEN.findall(text))


ADDRESSES = [
    *(Address("GET", path) for path in ("/", "/sales/", "/sales/{}/", f"/sales/{SLUG}/")),
    *(Address("GET", f"/api/sale/{name}") for name in ("status", "shopper", "user/{}")),
    *(Address("GET", f"/api/sales/{{}}/{name}") for name in ("status", "shopper", "user/ada")),
    *(Address("GET", path) for path in ("/api/openapi.json", "/api/docs", "/health", "/health/live", "/metrics")),
    *(Address("GET", path) for path in ("/robots.txt", "/favicon.ico")),
    *(
        Address("POST", path, fields=("userId",), is_json=True)
        for path in ("/api/sale/purchase", "/api/sales/{}/purchase")
    ),
    Address("POST", f"/sales/{SLUG}/", fields=("userId",)),
    *(Address("GET", path, "django") for path in ("/receipts/", "/receipts/{}/", "/shopper/", "/orders/find/")),
    *(Address("GET", path, "django") for path in ("/shopper/enter/widget/", "/admin/login/", "/admin/", "/admin/{}/")),
    *(Address("GET", path) for path in ("/media/products/{}.webp", "/static/{}")),
    Address("GET", "/{}", "django"),
    Address("POST", "/orders/find/", "django", ("sale", "user_id", "order_code"), form_at="/orders/find/"),
    Address("POST", "/shopper/", "django", ("email", "sale"), form_at="/shopper/"),
    Address("POST", "/shopper/confirm/", "django", ("email", "sale", "code"), form_at="/shopper/"),
    Address("POST", "/shopper/leave/", "django", form_at="/shopper/"),
    Address("POST", "/api/shopper/code", "django", ("email",), is_json=True),
    Address("POST", "/api/shopper/token", "django", ("email", "code"), is_json=True),
    Address("POST", "/admin/login/", "django", ("username", "password", "code"), form_at="/admin/login/"),
    Address("POST", "/admin/logout/", "django", form_at="/admin/login/"),
]
