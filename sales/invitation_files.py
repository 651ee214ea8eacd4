"""Files of invited shoppers as operators have them: an address on each line, or CSV with a column of addresses."""

import re
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from typing import BinaryIO, NamedTuple

from sales import csv_lines, email_codes, shoppers
from sales.csv_lines import UnreadableLine

# What a header may call the column, in any case, with any spaces and punctuation. The first that is there is taken.
COLUMNS = (
    *("email", "emailaddress", "emailadresse", "mail", "mailaddress", "mailadresse"),
    *("userid", "address", "adresse"),
)
# What of the header of an export of ours no other file is likely to have.
_OF_EXPORTS = {"userid", "orderid"}
MOST_SHOWN = 20
MOST_EXAMPLES = 3
LONGEST_EXAMPLE = 40

# What may stand before the @ of any address.
_PLAIN = re.compile(r"[a-z0-9]+(?:[._+-][a-z0-9]+)*")
LONGEST_PLAIN = 64
_BLANK = " " + csv_lines.SEPARATORS

_VOUCHED_FOR = "that your partner vouches for"
_NO_HEADER = "The first line has several columns, and none is called “email”. Write that over the addresses."
_TWO_COLUMNS = "Several columns of the header are called “{}”. Leave out all but the one with the addresses."
_SEVERAL_COLUMNS = "It has several columns: write one address on each line, or a header."
_SHIFTED = "It has more cells than the header: write a cell with the separator in it in quotation marks."
_TOO_LONG = f"It is longer than {csv_lines.LONGEST_LINE:,} characters: leave out all columns but the addresses."


class BadLine(NamedTuple):
    """A line that names nobody. `number` counts from 1."""

    number: int
    reason: str


class BadFile(ValueError):
    """The file is not taken. The message says why and what to do; `lines` are the first bad ones, if there are any."""

    def __init__(self, message: str, lines: list[BadLine] | None = None):
        super().__init__(message)
        self.lines = lines or []


class Checked(NamedTuple):
    """What a good file says: how many shoppers it names, one who comes twice counted twice; how many of them are no
    e-mail addresses, and the first of these; how many lines are comments."""

    named: int
    bare_names: int
    examples: list[str]
    comments: int

    def remark(self) -> str:
        """Return what may be other than the operator thinks; empty when nothing may."""
        remarks = []
        examples = ", ".join(f"“{name}”" for name in self.examples)
        if self.bare_names == 1:
            remarks.append(
                f"1 of those in the file is no e-mail address, {examples}: it is only good as a name {_VOUCHED_FOR}."
            )
        elif self.bare_names:
            many = f"{self.bare_names:,} of those in the file are no e-mail addresses, e.g. {examples}"
            remarks.append(f"{many}: they are only good as names {_VOUCHED_FOR}.")
        if self.comments:
            verb = "line that begins with “#” was" if self.comments == 1 else "lines that begin with “#” were"
            remarks.append(f"{self.comments:,} {verb} left out.")
        return " ".join(remarks)


class _Layout(NamedTuple):
    """How the lines are written: what stands between their cells, how many the header has, and in which the addresses
    are. Without a header `place` is None, and each line has one. In an export of ours each is a name as it is."""

    separator: str
    width: int = 1
    place: int | None = None
    is_export: bool = False


def check(file: BinaryIO) -> Checked:
    """Read the whole file, and return what it says. Raises BadFile."""
    named = bare_names = comments = bad = 0
    examples: list[str] = []
    shown: list[BadLine] = []
    for line in _read(file):
        if line is None:
            comments += 1
            continue
        checked = line if isinstance(line, BadLine) else _shopper(*line)
        if isinstance(checked, BadLine):
            bad += 1
            if len(shown) < MOST_SHOWN:
                shown.append(checked)
            continue
        named += 1
        name, is_address = checked
        if not is_address:
            bare_names += 1
            if len(examples) < MOST_EXAMPLES and name not in examples:
                examples.append(name if len(name) <= LONGEST_EXAMPLE else f"{name[:LONGEST_EXAMPLE]}…")
    if bad:
        verb = "line names" if bad == 1 else "lines name"
        raise BadFile(f"{bad:,} {verb} nobody, so nothing was changed. Correct the file, and upload it again.", shown)
    if not named:
        raise BadFile("The file names nobody. Choose one with an address on each line, or CSV with a column “email”.")
    return Checked(named, bare_names, examples, comments)


def user_ids(file: BinaryIO) -> Iterator[str]:
    """Yield the shoppers whom a file names that `check` has found good, in the spelling of `shoppers`."""
    return (shoppers.normalise(line[1]) for line in _read(file) if line and not isinstance(line, BadLine))


def _read(file: BinaryIO) -> Iterator[tuple[int, str, bool] | BadLine | None]:
    """Yield each line's number, whom it names, as that is written, and whether we wrote it; None for a comment. Raises
    BadFile."""
    _refuse_utf_16(file)
    separators, layout = csv_lines.SEPARATORS, None
    for number, line in csv_lines.lines(file):
        if line is None:
            layout = layout or _Layout(separators[0])
            yield BadLine(number, _TOO_LONG)
            continue
        if not layout:
            if number == 1 and (said := csv_lines.SEPARATOR_LINE.fullmatch(line)):
                separators = said[1]
                continue
            if not line.strip(_BLANK):
                continue
            if layout := _header(line, separators):
                continue
        # With a header it is a cell like others, such as “#1” in a column of numbers.
        if line.startswith("#") and (not layout or layout.place is None):
            yield None
            continue
        layout = layout or _without_header(line, separators)
        try:
            text = _text(line, layout)
        except UnreadableLine as error:
            yield BadLine(number, str(error))
        else:
            if text is not None:
                yield number, text, layout.is_export


def _refuse_utf_16(file: BinaryIO) -> None:
    file.seek(0)
    beginning = file.read(100)
    if beginning.startswith((BOM_UTF16_LE, BOM_UTF16_BE)) or b"\0" in beginning:
        raise BadFile("This file is UTF-16, or no text. Save it as “CSV UTF-8”, and upload that.")


def _header(line: str, separators: str) -> _Layout | None:
    """Return the layout that the line gives the file if it is a header. Raises BadFile."""
    for separator in sorted(separators, key=line.count, reverse=True):
        try:
            names = [re.sub(r"[\W_]", "", cell).lower() for cell in csv_lines.cells(line, separator)]
        except UnreadableLine:
            continue
        column = next((column for column in COLUMNS if column in names), None)
        if column and names.count(column) > 1:
            raise BadFile(_TWO_COLUMNS.format(column))
        if column:
            return _Layout(separator, len(names), names.index(column), _OF_EXPORTS.issubset(names))
    return None


def _without_header(line: str, separators: str) -> _Layout:
    """Return the layout of a file that begins with this line. Raises BadFile."""
    layout = _Layout(max(separators, key=line.count))
    with suppress(UnreadableLine):
        if len(_filled(line, layout.separator)) > 1:
            raise BadFile(_NO_HEADER)
    return layout


def _text(line: str, layout: _Layout) -> str | None:
    """Return whom the line names, None when it is empty. Raises UnreadableLine."""
    if layout.place is None:
        filled = _filled(line, layout.separator)
        if len(filled) > 1:
            raise UnreadableLine(_SEVERAL_COLUMNS)
        return shoppers.bare(csv_lines.original(filled[0])) if filled else None
    cells = csv_lines.cells(line, layout.separator)
    if not any(cells):
        return None
    if layout.place and any(cells[layout.width :]):
        raise UnreadableLine(_SHIFTED)
    text = csv_lines.original(cells[layout.place]) if layout.place < len(cells) else ""
    return text if layout.is_export else shoppers.bare(text)


def _filled(line: str, separator: str) -> list[str]:
    """Return the cells with something in them of a line without a header. Raises UnreadableLine."""
    line = line.strip(_BLANK)
    if shoppers.NAME_AND_ADDRESS.fullmatch(line):
        return [line]
    return [cell for cell in csv_lines.cells(line, separator) if cell]


def _shopper(number: int, text: str, is_export: bool) -> tuple[str, bool] | BadLine:
    """Return the one spelling of whom the line names, and whether a code can be sent there, which is asked of all that
    has an @. Only those who have bought under such a name have it."""
    if not text.isascii() and any("\udc80" <= character <= "\udcff" for character in text):
        return BadLine(number, "It is not UTF-8: save the file as “CSV UTF-8”.")
    try:
        name = shoppers.normalise(text)
        local, at, domain = name.rpartition("@")
        if not at:
            return name, False
        is_plain = len(local) <= LONGEST_PLAIN and _PLAIN.fullmatch(local)
        if not (is_plain and _takes_mail(domain)):
            email_codes.read_address(name)
    except email_codes.NotAnAddress as error:
        return (name, False) if is_export else BadLine(number, str(error))
    except shoppers.InvalidShopper as error:
        return BadLine(number, str(error))
    return name, True


@lru_cache(10_000)
def _takes_mail(domain: str) -> bool:
    """Return whether plain names are addresses there. To read each address would take 5 s more for a million."""
    plain = f"ada@{domain}"
    try:
        return email_codes.read_address(plain) == plain
    except shoppers.InvalidShopper:
        return False
