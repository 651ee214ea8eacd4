"""docs/performance.md and README.md: what they say of speed follows from what was measured."""

import json

import pytest
from django.conf import settings

from tests.load.bench import sentences, tables
from tests.load.bench.__main__ import DOCUMENT
from tests.load.growth import words
from tests.load.scaling import GROWTH as GROWTH_FILE

pytestmark = pytest.mark.pure

BENCH = tables.Results.from_json(json.loads(DOCUMENT.with_suffix(".json").read_text()))
GROWTH = json.loads(GROWTH_FILE.read_text())
README = settings.BASE_DIR / "README.md"


@pytest.mark.parametrize("table", [tables.whole(BENCH), words.report(GROWTH)], ids=["bench", "growth"])
def test_the_tables_say_what_was_measured(table: str):
    assert table in DOCUMENT.read_text()


@pytest.mark.parametrize("sentence", sentences.of_the_guide(BENCH, GROWTH))
def test_the_words_below_the_tables_follow_from_them(sentence: str):
    assert sentence in " ".join(DOCUMENT.read_text().split())


@pytest.mark.parametrize("sentence", sentences.of_the_readme(BENCH))
def test_the_readme_follows_from_the_tables(sentence: str):
    assert sentence in " ".join(README.read_text().split())


def test_the_readme_tells_of_errors_if_there_were_any():
    assert ("No error and no time-out." in README.read_text()) == (tables.our_errors(BENCH) == 0)


def test_measured_results_survive_writing_and_reading():
    written = json.loads(DOCUMENT.with_suffix(".json").read_text())

    assert tables.Results.from_json(written).as_json() == written
