"""schemathesis with all its checks, for a short while; `make fuzz` does it at length."""

from collections.abc import Callable

import pytest

from sales.models import Sale
from tests.fuzz import schema
from tests.servers import WebServer, free_port

pytestmark = pytest.mark.long


@pytest.mark.django_db(transaction=True)  # the server, another process, looks at SQL
def test_every_answer_is_documented(server: WebServer, open_sale: Sale, seen: Callable[[], None]):
    seen()
    found = schema.run(server.url, examples=10, seed=1)

    assert found.is_right, found.output
    assert found.cases > 200


@pytest.mark.django_db(transaction=True)
def test_an_answer_that_is_not_documented_is_found(open_sale: Sale, static_files: None):
    """The control: the run above can fail."""
    settings = {"PORT": str(free_port()), "WEB_CONCURRENCY": "1"}

    with WebServer(settings, "tests.undocumented:application") as server:
        found = schema.run(server.url, 1, 1, "/api/sale/user/{userId}", "/health/live")

    assert not found.is_right
    assert "Server error" in found.output
    assert "Response violates schema" in found.output
