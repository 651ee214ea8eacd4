"""docs/partners.md: what it shows works as it stands there."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from django.urls import reverse

from sales import store, tokens
from sales.models import Sale
from tests import parts
from tests.conftest import MakeSale

PROGRAMS = {"python": [sys.executable, "-c"], "sh": ["sh", "-euc"]}


@pytest.fixture
def page(project_dir: Path) -> str:
    return (project_dir / "docs" / "partners.md").read_text()


def run(page: str, language: str, sale: Sale, key: str, http: httpx.Client) -> subprocess.CompletedProcess[str]:
    """Run the page's example in that language, as a partner's server would."""
    if language == "sh":
        parts.need("curl")
        parts.need("openssl")
    (example,) = re.findall(rf"^```{language}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    given = {"SHOP": str(http.base_url).rstrip("/"), "SALE": sale.slug, "SALE_KEY": key}
    environment = {"PATH": os.environ["PATH"], **given}
    command = [*PROGRAMS[language], example]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("language", PROGRAMS)
def test_the_example_buys(http: httpx.Client, make_sale: MakeSale, seen: Callable[[], None], page: str, language: str):
    sale = make_sale(identity="verified")
    seen()

    done = run(page, language, sale, tokens.partner_key(sale.id, 1), http)

    purchases = store.client().hgetall(store.key(sale.id, "purchases"))
    assert done.returncode == 0, done.stderr
    assert list(purchases) == [b"ada@example.com"]
    assert purchases[b"ada@example.com"].split()[0].decode() in done.stdout


@pytest.mark.parametrize("language", PROGRAMS)
def test_the_example_buys_nothing_with_another_key(
    http: httpx.Client, make_sale: MakeSale, seen: Callable[[], None], page: str, language: str
):
    """The control of the test above."""
    sale = make_sale(identity="verified")
    seen()

    done = run(page, language, sale, tokens.partner_key(sale.id, 2), http)

    assert "401" in done.stderr + done.stdout or "unauthorized" in done.stdout
    assert not store.client().exists(store.key(sale.id, "purchases"))


@pytest.mark.pure
def test_the_page_names_the_current_address_and_limits(page: str):
    assert f"https://shop.example.com{reverse('enter', args=['SLUG'])}?token=TOKEN" in page
    assert f"more than {tokens.LONGEST_TOKEN:,} characters" in page
    assert len(tokens.partner_key(1, 1)) == 64
