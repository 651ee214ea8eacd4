"""Lines of text as spreadsheets and editors write them, and the cells of each: one line is one row.

A quotation mark that is open where its line ends is refused. Read as CSV allows, one that was typed by mistake would
take the lines after it into its cell, up to the next one or the end of the file, and nobody would see that they are
gone.
"""

import csv
import re
from collections.abc import Iterator
from io import TextIOWrapper
from typing import BinaryIO

# Spreadsheets write what their language takes for a separator, and may say which in a first line of their own.
SEPARATORS = ",;\t"
SEPARATOR_LINE = re.compile(f'"?sep=([{SEPARATORS}])"?', re.IGNORECASE)
# Longer ones are not kept, so that a file without line ends takes no memory.
LONGEST_LINE = 10_000

# What makes a spreadsheet read a cell as a formula (https://owasp.org/www-community/attacks/CSV_Injection). An
# apostrophe before it is of ours; so it is before other apostrophes, so that each is taken away again.
_FORMULA = re.compile(r"'*[=+\-@\t\r]")

_OPEN_QUOTE = (
    "A quotation mark is open where the line ends. Take line breaks out of its cells, or leave out all columns but the "
    "addresses; if the quotation mark is there by mistake, remove it."
)
_TEXT_AFTER_QUOTE = (
    "After a cell in quotation marks comes more text. Leave out all columns but the addresses, or write each quotation "
    "mark inside a cell twice."
)


class UnreadableLine(ValueError):
    """The line has no cells; the message says why and what to do."""


def lines(file: BinaryIO) -> Iterator[tuple[int, str | None]]:
    """Yield the number of each line, from 1, and the line without its end (LF, CR, or both); None for one that is
    longer than LONGEST_LINE characters. Bytes that are not UTF-8 become lone surrogates."""
    file.seek(0)
    text = TextIOWrapper(file, "utf-8-sig", "surrogateescape")
    try:
        for number, line in enumerate(iter(lambda: text.readline(LONGEST_LINE + 1), ""), 1):
            if line.endswith("\n") or len(line) <= LONGEST_LINE:
                yield number, line.removesuffix("\n")
                continue
            while (rest := text.readline(LONGEST_LINE)) and not rest.endswith("\n"):
                pass
            yield number, None
    finally:
        text.detach()


def harmless(cell: str) -> str:
    """Return the cell with an apostrophe before what a spreadsheet would run as a formula."""
    return f"'{cell}" if _FORMULA.match(cell) else cell


def original(cell: str) -> str:
    """Return the cell of which `harmless` made this one."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def cells(line: str, separator: str) -> list[str]:
    """Return what is in the line's cells, trimmed. Raises UnreadableLine."""
    if '"' not in line:
        return [cell.strip() for cell in line.split(separator)]
    # An open quotation mark makes the reader ask for the second line.
    reader = csv.reader((line.rstrip(" "), ""), delimiter=separator, strict=True, skipinitialspace=True)
    try:
        return [cell.strip() for cell in next(reader)]
    except csv.Error:
        raise UnreadableLine(_OPEN_QUOTE if reader.line_num > 1 else _TEXT_AFTER_QUOTE) from None
