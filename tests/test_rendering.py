"""Pages for the crowd: rendered and compressed once for many, and held to a strict policy."""

import asyncio
import gzip
import re
from collections.abc import Callable

import httpx
import pytest
from django.test import RequestFactory

from sales import rendering
from sales.models import Sale


@pytest.fixture(autouse=True)
def _fresh(request: pytest.FixtureRequest, seen: Callable[[], None]) -> None:
    """Let neither the page nor the snapshot be those of the test before, while nobody asks for them."""
    if "open_sale" in request.fixturenames:
        request.getfixturevalue("open_sale")
        seen()


def test_the_page_is_compressed_for_browsers_that_accept_it(http: httpx.Client, open_sale: Sale):
    plain = http.get("/", headers={"Accept-Encoding": "identity"})
    packed = http.get("/", headers={"Accept-Encoding": "br, gzip"})
    refused = http.get("/", headers={"Accept-Encoding": "gzip;q=0"})

    assert "content-encoding" not in plain.headers
    assert "content-encoding" not in refused.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.text == plain.text
    assert int(packed.headers["content-length"]) < int(plain.headers["content-length"]) / 2
    assert packed.headers["etag"] != plain.headers["etag"]
    assert {response.headers["vary"] for response in (plain, packed)} == {"Accept-Encoding, Accept-Language"}
    assert {response.headers["cache-control"] for response in (plain, packed)} == {"public, max-age=1"}


def test_a_compressed_page_is_not_sent_again(http: httpx.Client, open_sale: Sale):
    etag = http.get("/").headers["etag"]

    again = http.get("/", headers={"If-None-Match": etag})

    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    assert [name for name in again.headers if name.startswith("content-") and "security" not in name] == []


@pytest.mark.pure
@pytest.mark.parametrize(
    ("header", "takes"),
    [
        ("gzip", True),
        ("deflate, GZIP;q=0.5", True),
        ("*", True),
        ("", False),
        ("br", False),
        ("gzip;q=0", False),
        ("gzip; q=0.000, *", False),
        ("*;q=0", False),
    ],
)
def test_the_accept_encoding_header_decides_about_gzip(header: str, takes: bool):
    assert rendering.allows(header, "gzip") is takes


@pytest.mark.pure
def test_a_page_is_rendered_and_compressed_once_for_many(monkeypatch: pytest.MonkeyPatch):
    compressed: list[bytes] = []
    pack = gzip.compress

    def count(content: bytes, *arguments: int, **options: int) -> bytes:
        compressed.append(content)
        return pack(content, *arguments, **options)

    monkeypatch.setattr("gzip.compress", count)
    requests = [RequestFactory().get("/", headers={"Accept-Language": name}) for name in ("de", "en", "de-AT", "fr")]

    async def ask_often() -> set[int]:
        return {id(rendering.page(request, "x", lambda: "<p>page</p>")) for _ in range(50) for request in requests}

    assert len(asyncio.run(ask_often())) == 2  # German and English
    assert len(compressed) == 2


def test_the_page_holds_to_a_strict_policy(http: httpx.Client, open_sale: Sale):
    for response in (http.get("/"), http.get("/sales/"), http.get("/sales/nothing/"), http.get("/admin/login/")):
        policy = dict(part.split(" ", 1) for part in response.headers["content-security-policy"].split("; "))

        assert {policy[name] for name in ("default-src", "base-uri", "frame-ancestors")} == {"'none'"}
        assert {policy[name] for name in ("script-src", "style-src", "connect-src", "form-action")} == {"'self'"}
        assert "unsafe" not in response.headers["content-security-policy"]


def test_nothing_in_the_page_needs_more_than_the_policy_gives(http: httpx.Client, open_sale: Sale):
    for path in ("/", "/sales/", "/nowhere/"):
        text = http.get(path).text

        assert not re.search(r"\sstyle=|\son\w+=|<style|javascript:", text)
        scripts = re.findall(r"<script[^>]*>", text)
        assert all('type="application/json"' in script or 'src="/static/' in script for script in scripts)
