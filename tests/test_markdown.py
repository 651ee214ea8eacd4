"""Every Markdown file, as a real parser reads it: blocks of code end where they are meant to."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import settings
from markdown_it import MarkdownIt
from markdown_it.token import Token

pytestmark = pytest.mark.pure

TOP = Path(settings.BASE_DIR)
FILES = sorted(path for place in (TOP, TOP / "docs") for path in place.glob("*.md"))


def blocks(text: str) -> Iterator[Token]:
    """Return the fenced blocks of code."""
    return (token for token in MarkdownIt("commonmark").parse(text) if token.type == "fence")


def wrong_blocks(text: str) -> list[str]:
    """Return the first lines of blocks that nothing closes, or that hold what begins a heading or another block."""
    lines = text.splitlines()
    found = []
    for block in blocks(text):
        assert block.map
        first, end = block.map
        is_closed = lines[end - 1].strip() == block.markup
        if not is_closed or re.search(r"^(#{2,6} |```|~~~)", block.content, flags=re.MULTILINE):
            found.append(lines[first])
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_block_of_code_ends_before_what_follows_it(path: Path):
    assert wrong_blocks(path.read_text()) == []


@pytest.mark.parametrize(
    "text",
    [
        "```sh\nls\n",
        "```sh\nls\n\n## Heading\n\n```console\n$ ls\n```\n",
        "```sh\nls\n\n```console\n$ ls\n```\n",
        "- item\n\n  ```sh\n  ls\n\nText\n",
    ],
)
def test_a_block_that_does_not_end_is_seen(text: str):
    assert wrong_blocks(text)


def test_a_block_that_ends_is_not_blamed():
    assert wrong_blocks("```sh\n# a comment\nls\n```\n\n## Heading\n\n- item\n\n  ```\n  text\n  ```\n") == []


def test_the_files_are_there():
    assert {"README.md", "operations.md"} <= {path.name for path in FILES}
