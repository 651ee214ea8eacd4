"""Pages in English and German; the API and the operator's desk in English."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from babel.messages.catalog import Catalog
from babel.messages.mofile import read_mo
from babel.messages.pofile import read_po
from django.test import RequestFactory
from django.utils import translation

from flashsale.places import BASE_DIR
from sales import formats, languages
from sales.models import Sale
from tests import parts
from tests.conftest import MakeSale

GERMAN = Path("sales/locale/de/LC_MESSAGES")


@pytest.mark.pure
@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("", "en"),
        ("de", "de"),
        ("de-AT,de;q=0.9,en;q=0.8", "de"),
        ("fr, de;q=0.5", "de"),
        ("en-GB, de;q=0.9", "en"),
        ("fr", "en"),
        ("nonsense;;q=x,,", "en"),
        ("de" + "x" * 60_000, "en"),
    ],
)
def test_the_language_that_a_browser_asks_for(header: str, language: str):
    assert languages.of(RequestFactory().get("/", headers={"Accept-Language": header})) == language


def test_the_lane_speaks_german(http: httpx.Client, open_sale: Sale, seen: Callable[[], None]):
    seen()
    seen()
    german = http.get("/", headers={"Accept-Language": "de-CH"})
    english = http.get("/")

    assert (german.headers["content-language"], english.headers["content-language"]) == ("de", "en")
    assert '<html lang="de">' in german.text
    assert "Jetzt kaufen" in german.text
    assert "Buy now" in english.text
    assert "Buy now" not in german.text


def test_an_answer_to_the_form_is_german(http: httpx.Client, open_sale: Sale, seen: Callable[[], None]):
    seen()
    page = http.post("/sales/limited-edition-widget/", data={"userId": ""}, headers={"Accept-Language": "de"})

    assert "Bitte prüfen Sie Ihre Eingabe" in page.text


@pytest.mark.parametrize(
    ("path", "words"), [("/sales/nothing/", "Diesen Verkauf gibt es nicht."), ("/nowhere/", "keine Seite.")]
)
def test_refusals_are_german_on_the_lane_and_in_django(http: httpx.Client, path: str, words: str):
    assert words in http.get(path, headers={"Accept-Language": "de"}).text


def test_the_api_stays_english(http: httpx.Client, open_sale: Sale, seen: Callable[[], None]):
    seen()
    answer = http.post("/api/sale/purchase", json={"userId": "ada"}, headers={"Accept-Language": "de"})

    assert answer.json()["message"] == "Purchase successful!"


def test_the_operators_desk_stays_english(http: httpx.Client):
    page = http.get("/admin/login/", headers={"Accept-Language": "de"})

    assert '<html lang="en"' in page.text
    assert "Log in" in page.text


@pytest.mark.pure
@pytest.mark.parametrize(
    ("language", "price", "number", "moment"),
    [
        ("en", "€1,250.00", "12,345", "February 14, 2026, 10:05 AM UTC"),
        ("de", "1.250,00\xa0€", "12.345", "14. Februar 2026, 10:05 UTC"),
    ],
)
def test_numbers_and_moments_are_written_as_the_language_does(language: str, price: str, number: str, moment: str):
    with translation.override(language):
        assert formats.price("1250.00 EUR") == price
        assert formats.price("") == ""
        assert formats.number(12345) == number
        assert formats.moment(1771063530000) == {"iso": "2026-02-14T10:05:30Z", "text": moment}


@pytest.mark.pure
@pytest.mark.parametrize(
    ("ms", "english", "german"),
    [
        (0, "0 seconds", "0 Sekunden"),
        (1_400, "1 second", "1 Sekunde"),
        (41_000, "41 seconds", "41 Sekunden"),
        (60_000, "1 minute", "1 Minute"),
        (90_000, "90 seconds", "90 Sekunden"),
        (600_000, "10 minutes", "10 Minuten"),
        (10_800_000, "3 hours", "3 Stunden"),
        (259_200_000, "3 days", "3 Tage"),
    ],
)
def test_durations_are_written_as_the_language_does(ms: int, english: str, german: str):
    assert formats.duration(ms) == english
    with translation.override("de"):
        assert formats.duration(ms) == german


def test_a_page_keeps_its_own_numbers_out_of_the_language(
    http: httpx.Client, make_sale: MakeSale, seen: Callable[[], None]
):
    make_sale(stock=12345)
    seen()
    seen()

    text = http.get("/", headers={"Accept-Language": "de"}).text

    assert 'data-total="12345"' in text
    assert re.search(r'<progress[^>]*max="12345"', text)


@pytest.fixture(scope="module")
def gathered(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    """What pages say now: the sentences gathered anew from a copy of the sources."""
    parts.need("xgettext")
    tmp_path = tmp_path_factory.mktemp("gathered")
    for name in ("flashsale", "sales", "templates"):
        shutil.copytree(BASE_DIR / name, tmp_path / name)
    makemessages = [sys.executable, "-m", "django", "makemessages", "--locale=de", "--no-location", "--no-obsolete"]
    subprocess.run(makemessages, cwd=tmp_path, check=True, env={**os.environ, "PYTHONPATH": str(tmp_path)})
    return catalogue(tmp_path)


def catalogue(project_dir: Path) -> Catalog:
    with (project_dir / GERMAN / "django.po").open("rb") as file:
        return read_po(file, locale="de")


def test_every_english_sentence_has_a_german_one(gathered: Catalog):
    assert len(gathered) > 50
    assert [message.id for message in gathered if message.id and (not message.string or message.fuzzy)] == []


@pytest.mark.pure
def test_no_german_sentence_outlives_its_english_one(project_dir: Path, gathered: Catalog):
    assert {message.id for message in catalogue(project_dir)} == {message.id for message in gathered}


@pytest.mark.pure
def test_the_compiled_catalogue_is_up_to_date(project_dir: Path):
    with (project_dir / GERMAN / "django.mo").open("rb") as file:
        compiled = {message.id: message.string for message in read_mo(file) if message.id}

    assert compiled == {message.id: message.string for message in catalogue(project_dir) if message.id}


@pytest.mark.pure
def test_placeholders_survive_the_translation(project_dir: Path):
    for message in catalogue(project_dir):
        if message.id:
            assert sorted(re.findall(r"%\(\w+\)s", str(message.id))) == sorted(
                re.findall(r"%\(\w+\)s", str(message.string))
            )
