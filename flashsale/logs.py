"""Log lines of every process: one for each record, as JSON or to be read, whatever is in it."""

import logging
import logging.config
import sys
import threading
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

import orjson
from django.conf import settings
from django.db.utils import Error as DatabaseError

from flashsale import tracing
from flashsale.redaction import escaped, masked, with_names

# A client can send much that ends in a message.
LONGEST_TEXT = 4000
# An error that led to an error that led to …: what comes before so many is left out.
MOST_ERRORS = 10
NO_ROUTE = "an address that is not served"

log = logging.getLogger(__name__)


class JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return orjson.dumps({**_fields(record), "message": _message(record), **_error(record)}).decode()


class TextFormatter(logging.Formatter):
    """The same, to be read. A traceback has lines of its own; they are indented, as no record is."""

    def format(self, record: logging.LogRecord) -> str:
        fields = _fields(record)
        request = f" [{fields['requestId']}]" if "requestId" in fields else ""
        line = f"{fields['time']} {record.levelname} {record.name}{request}: {_message(record)}"
        error = _error(record).get("error", "")
        return line + "".join(f"\n    {told}" for told in error.splitlines())


def formatter() -> logging.Formatter:
    """Return the formatter that LOG_FORMAT names."""
    return JsonFormatter() if settings.LOG_FORMAT == "json" else TextFormatter()


def configure(config: dict[str, Any]) -> None:
    """Configure logging as Django's settings say, also of what Python would print by itself."""
    logging.config.dictConfig(config)
    logging.captureWarnings(True)
    sys.excepthook = _log_uncaught
    threading.excepthook = lambda caught: _log_uncaught(caught.exc_type, caught.exc_value, caught.exc_traceback)


def _log_uncaught(kind: type[BaseException], error: BaseException | None, frames: TracebackType | None) -> None:
    if error is None or issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error or kind(), frames)
    else:
        log.critical("ended by an error that nothing caught", exc_info=(kind, error, frames))


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    """Return what a line says beside its message."""
    time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    fields = {"time": time, "level": record.levelname, "logger": record.name, "process": record.process}
    if request := tracing.handled.get():
        fields["requestId"] = tracing.request_id()
        if trace := tracing.trace_of(request):
            fields |= {"traceId": trace.trace_id, "spanId": trace.span_id}
    return fields


def _message(record: logging.LogRecord) -> str:
    text, args = str(record.msg), record.args
    if isinstance(args, tuple):
        args = tuple(_argument(record, value) for value in args)
    if args:
        try:
            text = text % args
        except Exception:  # a defect of who logs; Python would print the arguments as they are
            text += " (its arguments do not fit)"
    return _cleaned(text)


def _argument(record: logging.LogRecord, value: object) -> object:
    """Return an argument of a message: an error without the data it quotes, and the route in place of the path."""
    if isinstance(value, BaseException):
        return _text_of(value)
    request = getattr(record, "request", None)
    path = getattr(request, "path", None)
    if path and value in (path, path.encode("unicode_escape").decode("ascii")):  # Django escapes what it logs
        match = getattr(request, "resolver_match", None)
        return f"/{match.route}" if match else NO_ROUTE
    return value


def _error(record: logging.LogRecord) -> dict[str, str]:
    """Return the traceback of a record that has one, without the values of variables."""
    error = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
    if error is None:
        return {}
    return {"error": "\n".join(_traceback(error, MOST_ERRORS))}


def _traceback(error: BaseException, most: int) -> Iterator[str]:
    """Yield the lines of a traceback. What an error says is one line: it may quote what a client has sent."""
    earlier = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if earlier and most > 1:
        yield from _traceback(earlier, most - 1)
        yield "which led to:"
    for frame in traceback.extract_tb(error.__traceback__).format():
        yield from map(escaped, frame.rstrip().split("\n"))
    yield f"{type(error).__module__}.{type(error).__qualname__}: {_cleaned(_text_of(error))}"
    for part in error.exceptions if isinstance(error, BaseExceptionGroup) and most > 1 else ():
        yield from (f"  | {line}" for line in _traceback(part, most - 1))


def _text_of(error: BaseException) -> str:
    """Return what an error says. PostgreSQL's further lines quote rows."""
    try:
        text = str(error)
    except Exception:
        return "(it does not say)"
    is_of_sql = isinstance(error, DatabaseError) or type(error).__module__.startswith("psycopg")
    return text.partition("\n")[0] if is_of_sql else text


def _cleaned(text: str) -> str:
    return escaped(with_names(masked(text)))[:LONGEST_TEXT]
