"""What is gathered for browsers: all that pages ask for, by names with a hash, and nothing else."""

import re
from pathlib import Path

import pytest
from django.conf import settings
from django.contrib import admin
from django.contrib.admin.widgets import AutocompleteSelect
from django.template.utils import get_app_template_dirs
from django.templatetags.static import static

from sales.models import Sale

pytestmark = pytest.mark.usefixtures("static_files")


def is_gathered(url: str) -> bool:
    return (settings.STATIC_ROOT / url.removeprefix(settings.STATIC_URL)).is_file()


def test_all_that_forms_of_the_desk_ask_for_is_gathered():
    widget = AutocompleteSelect(Sale._meta.get_field("name"), admin.site)
    media = [widget.media, *(model_admin.media for model_admin in admin.site._registry.values())]
    asked = {url for each in media for url in re.findall(r'(?:src|href)="([^"]+)"', str(each))}

    assert {url.rpartition("/")[2].partition(".")[0] for url in asked} >= {"select2", "jquery", "chosen_picture"}
    assert [url for url in asked if not is_gathered(url)] == []


def test_all_that_templates_name_is_gathered():
    directories = [settings.BASE_DIR / "templates", *get_app_template_dirs("templates")]
    templates = [Path(path) for directory in directories for path in directory.rglob("*.html")]
    named = {name for path in templates for name in re.findall(r"{% static [\"']([^\"']+)[\"']", path.read_text())}

    assert len(named) > 20
    assert [name for name in named if not is_gathered(static(name))] == []


def test_no_file_is_gathered_under_a_second_name():
    gathered = {path.relative_to(settings.STATIC_ROOT) for path in settings.STATIC_ROOT.rglob("*") if path.is_file()}
    plain = [str(path) for path in gathered if not re.search(r"\.[0-9a-f]{12}(\.|$)", path.name)]

    assert plain == ["staticfiles.json"]
