"""The page about the API: all of the document, for people, without a script."""

import html
import json
import re
import shlex
import subprocess
from collections.abc import Callable

import httpx
import pytest

from sales import outcomes
from sales.models import Sale
from tests.conftest import OpenPage
from tests.openapi import DOCUMENT, operations


@pytest.fixture
def page(http: httpx.Client) -> str:
    return html.unescape(http.get("/api/docs").text)


def test_it_shows_each_operation_and_each_code(page: str):
    for method, path in operations():
        assert re.search(rf"<b>{method.upper()}</b>\s*<code>{re.escape(path)}</code>", page), path
    for code in outcomes.HTTP_STATUS.keys() - outcomes.CODE.keys():
        assert f"<code>{code}</code>" in page


def test_its_contents_lead_to_each_section(page: str):
    targets = set(re.findall(r'href="#(\w+)"', page))

    assert targets == set(re.findall(r'<section class="card operation" id="(\w+)"', page))
    assert {"getStatus", "purchase", "getUser", "getHealth", "refusals"} <= targets


def test_it_shows_the_examples_as_they_are(page: str):
    for answer in DOCUMENT["components"]["responses"].values():
        for example in answer.get("content", {}).get("application/json", {}).get("examples", {}).values():
            assert json.dumps(example["value"], indent=2) in page


def test_its_commands_do_what_they_say(http: httpx.Client, page: str, open_sale: Sale, seen: Callable[[], None]):
    seen()
    commands = re.findall(r"<code>(curl .+)</code>", page)
    asked = [shlex.split(re.sub(r"http://[^/]+", str(http.base_url).rstrip("/"), command)) for command in commands]

    answers = [answer_of([*words, "-s", "-m", "60"]) for words in asked]

    assert len(answers) == len({operation["summary"] for operation in operations().values()})
    assert all(answers)
    assert any('"code":"purchased"' in answer for answer in answers)


def answer_of(command: list[str]) -> str:
    """Return what a command prints; of a stream, which does not end, the first line."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        if not any("events" in word for word in command):
            return process.stdout.read()
        line = process.stdout.readline()
        process.kill()
        return line


def test_it_is_kept_by_caches_for_a_minute(http: httpx.Client):
    first = http.get("/api/docs", headers={"Accept-Language": "de"})
    again = http.get("/api/docs", headers={"If-None-Match": first.headers["etag"]})

    assert (first.headers["content-language"], first.headers["content-encoding"]) == ("en", "gzip")
    assert first.headers["cache-control"] == "public, max-age=60"
    assert "script-src 'self'" in first.headers["content-security-policy"]
    assert (again.status_code, again.content) == (304, b"")


def test_it_needs_no_script(open_page: OpenPage):
    page = open_page("/api/docs#purchase", java_script_enabled=False, viewport={"width": 360, "height": 640})

    assert page.locator("#purchase h3").is_visible()
    assert page.locator("script").count() == 0
    page.locator("#purchase summary", has_text="409").click()
    assert page.locator("#purchase").get_by_text("Every unit is bought.").is_visible()
