"""What came back on a connection, read strictly, and held against what was sent on it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus

import orjson

from tests.fuzz.cases import Case

_STATUS_LINE = re.compile(rb"HTTP/1\.1 ([1-5]\d\d) [ -~]*\Z")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+): ?([\t -~\x80-\xff]*)\Z")


class Wrong(Exception):
    """What came back is not what must come back."""


@dataclass(frozen=True)
class Answer:
    status: int
    fields: dict[str, str]
    body: bytes

    @property
    def closes(self) -> bool:
        return self.fields.get("connection") == "close"

    def word(self, name: str) -> str:
        """Return one of the words of a JSON body, or ""."""
        try:
            return str(orjson.loads(self.body)[name])
        except (orjson.JSONDecodeError, KeyError, TypeError):
            return ""


def read(raw: bytes, heads: Iterator[bool]) -> list[Answer]:
    """Return the answers in `raw`; `heads` tells which of them are to HEAD. Raises Wrong when it is anything else."""
    found: list[Answer] = []
    while raw:
        top, end, raw = raw.partition(b"\r\n\r\n")
        if not end:
            raise Wrong(f"an answer without an end of its head: {top[:200]!r}")
        line, *lines = top.split(b"\r\n")
        match = _STATUS_LINE.match(line)
        if not match:
            raise Wrong(f"no status line: {line[:200]!r}")
        status = int(match[1])
        if status == HTTPStatus.CONTINUE and not lines:
            continue
        fields = _fields(lines)
        body, raw = (b"", raw) if next(heads, False) or status == HTTPStatus.NOT_MODIFIED else _body(fields, raw)
        found.append(Answer(status, fields, body))
    return found


def _fields(lines: list[bytes]) -> dict[str, str]:
    fields: dict[str, str] = {}
    for line in lines:
        match = _FIELD.match(line)
        if not match:
            raise Wrong(f"no header field: {line[:200]!r}")
        name = match[1].decode().lower()
        if name in fields and name in ("content-length", "transfer-encoding", "date", "connection"):
            raise Wrong(f"{name} twice")
        fields[name] = match[2].decode("latin-1")
    if "date" not in fields or ("content-length" in fields) == ("transfer-encoding" in fields):
        raise Wrong(f"date, or one length, is missing: {fields}")
    return fields


def _body(fields: dict[str, str], raw: bytes) -> tuple[bytes, bytes]:
    """Return an answer's body, and what follows it."""
    if "content-length" in fields:
        size = int(fields["content-length"])
        if len(raw) < size:
            raise Wrong("a body is cut")
        return raw[:size], raw[size:]
    body = b""
    while True:
        line, _, raw = raw.partition(b"\r\n")
        size = int(line, 16)
        body, end, raw = body + raw[:size], raw[size : size + 2], raw[size + 2 :]
        if end != b"\r\n":
            raise Wrong("a chunk without an end")
        if not size:
            return body, raw


def check(case: Case, raw: bytes) -> list[Answer]:
    """Return the answers that came back in this case. Raises Wrong when a rule is broken.

    Each message that is right has its one answer, in order. What is behind it is refused once or not at all, and
    nothing is answered after that. A message that was changed at random may be right by chance: its answers are only
    read, and counted.
    """
    found = read(raw, iter([message.is_head for message in case.messages]))
    if any(answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR for answer in found):
        raise Wrong("an error of the server's")
    for message, answer in zip(case.messages, found, strict=False):
        if answer.status != message.status or (message.code and answer.word("code") != message.code):
            raise Wrong(f"{message.kind}: {answer.status} {answer.word('code')}, not {message.status} {message.code}")
        if answer.closes != message.closes:
            raise Wrong(f"{message.kind}: connection {answer.fields.get('connection', 'open')!r}")
    if case.ending == "left":
        return found
    if len(found) < len(case.messages):
        raise Wrong(f"{len(case.messages)} messages, {len(found)} answers")
    _check_rest(case, found[len(case.messages) :])
    return found


def _check_rest(case: Case, rest: list[Answer]) -> None:
    if case.ending == "mutated":
        most = case.raw.count(b"HTTP/") + case.raw.count(b"\n\r\n") + 1 - len(case.messages)
        if len(rest) > most:
            raise Wrong(f"{len(rest)} answers to {most} messages at most")
        return
    if len(rest) > (case.ending in ("malformed", "cut")):
        raise Wrong(f"something hidden was answered: {[answer.status for answer in rest]}")
    for answer in rest:
        if not HTTPStatus.BAD_REQUEST <= answer.status < HTTPStatus.INTERNAL_SERVER_ERROR or not answer.closes:
            raise Wrong(f"{case.kind}: {answer.status}, connection {answer.fields.get('connection', 'open')!r}")
