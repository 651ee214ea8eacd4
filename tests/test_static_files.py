"""Static files: what is gathered for browsers, and how they get it."""

import os
import re
from pathlib import Path

import httpx
import pytest
from django.conf import settings
from django.contrib import admin
from django.contrib.admin.widgets import AutocompleteSelect
from django.template.utils import get_app_template_dirs
from django.templatetags.static import static

from sales import files
from sales.models import Sale
from tests.servers import ICON, WebServer, free_port

pytestmark = pytest.mark.usefixtures("static_files")


def is_gathered(url: str) -> bool:
    return (settings.STATIC_ROOT / url.removeprefix(settings.STATIC_URL)).is_file()


@pytest.mark.pure
def test_all_that_forms_of_the_desk_ask_for_is_gathered():
    widget = AutocompleteSelect(Sale._meta.get_field("name"), admin.site)
    media = [widget.media, *(model_admin.media for model_admin in admin.site._registry.values())]
    asked = {url for each in media for url in re.findall(r'(?:src|href)="([^"]+)"', str(each))}

    assert {url.rpartition("/")[2].partition(".")[0] for url in asked} >= {"select2", "jquery", "chosen_picture"}
    assert [url for url in asked if not is_gathered(url)] == []


@pytest.mark.pure
def test_all_that_templates_name_is_gathered():
    directories = [settings.BASE_DIR / "templates", *get_app_template_dirs("templates")]
    templates = [Path(path) for directory in directories for path in directory.rglob("*.html")]
    named = {name for path in templates for name in re.findall(r"{% static [\"']([^\"']+)[\"']", path.read_text())}

    assert len(named) > 20
    assert [name for name in named if not is_gathered(static(name))] == []


@pytest.mark.pure
def test_no_file_is_gathered_under_a_second_name():
    gathered = {path.relative_to(settings.STATIC_ROOT) for path in settings.STATIC_ROOT.rglob("*") if path.is_file()}
    plain = [str(path) for path in gathered if not re.search(r"\.[0-9a-f]{12}(\.|$)", path.name)]

    assert plain == ["staticfiles.json"]


# Over HTTP


@pytest.fixture
def sheet() -> str:
    return static("sales/sale.css")


@pytest.mark.parametrize(
    ("accepted", "coding"), [("gzip, br", "br"), ("gzip", "gzip"), ("br;q=0, gzip", "gzip"), ("identity", None)]
)
def test_a_file_comes_in_the_coding_that_is_accepted(
    http: httpx.Client, sheet: str, project_dir: Path, accepted: str, coding: str | None
):
    response = http.get(sheet, headers={"Accept-Encoding": accepted})

    assert response.headers.get("content-encoding") == coding
    assert response.headers["content-type"] == "text/css; charset=utf-8"
    assert response.headers["vary"] == "Accept-Encoding"
    assert len(response.content) == (project_dir / "static/sales/sale.css").stat().st_size


def test_each_coding_has_its_own_etag_and_304(http: httpx.Client, sheet: str):
    etags = set()
    for accepted in ("br", "gzip", "identity"):
        whole = http.get(sheet, headers={"Accept-Encoding": accepted})
        etag = whole.headers["etag"]
        again = http.get(sheet, headers={"Accept-Encoding": accepted, "If-None-Match": etag})
        etags.add(etag)

        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["cache-control"] == whole.headers["cache-control"] == "public, max-age=31536000, immutable"

    assert len(etags) == 3


def test_head_tells_the_length(http: httpx.Client, sheet: str):
    head, got = http.head(sheet), http.get(sheet)

    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == got.headers["content-length"]


def test_files_are_only_read(http: httpx.Client):
    response = http.post(ICON)

    assert (response.status_code, response.headers["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize(
    "path", ["staticfiles.json", "", "sales/", "sales/sale.css", "../db.sqlite3", "%2e%2e/local.env"]
)
def test_nothing_else_is_served(http: httpx.Client, path: str):
    assert http.get(f"/static/{path}").status_code == 404


@pytest.mark.pure
def test_all_files_together_are_small():
    found = files.gathered()

    assert len(found) > 100
    assert sum(len(each.whole.content) for file in found.values() for each in file.values()) < 4 * 1024 * 1024


@pytest.mark.pure
def test_of_earlier_releases_the_newest_are_kept(sheet: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    current = sheet.removeprefix("/static/")
    monkeypatch.setattr(settings, "STATIC_ROOT", tmp_path)
    for number, name in enumerate([current, *(f"a.{n:012x}.css" for n in range(5))]):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(bytes(1000))
        os.utime(tmp_path / name, (number, number))
    monkeypatch.setattr(files, "MOST_BYTES", 2_500)

    found = files.gathered.__wrapped__()

    assert list(found) == [current, "a.000000000004.css", "a.000000000003.css"]


@pytest.mark.usefixtures("transactional_db", "redis_server")
def test_in_debug_files_come_as_they_are_now():
    with WebServer({"PORT": str(free_port()), "DEBUG": "on", "WEB_CONCURRENCY": "1"}) as server:
        ours, djangos = (httpx.get(f"{server.url}/static/{name}") for name in ("sales/sale.css", "admin/css/base.css"))
        nothing = httpx.get(f"{server.url}/static/sales/nothing.css")

    assert (ours.status_code, djangos.status_code, nothing.status_code) == (200, 200, 404)
    assert ours.headers["cache-control"] == "no-cache"
