"""Log lines: one for each record, whatever a message, an argument or an error holds."""

import html
import logging
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import orjson
import pytest
from django.conf import settings as django_settings
from django.core.management import CommandError, call_command
from django.db import IntegrityError
from django.http import HttpRequest
from django.test import RequestFactory
from django.urls import resolve
from pytest_django import Settings

from flashsale import logs, redaction, tracing
from tests.servers import free_port

NASTY = "a\r\nb\x1b[31mc\x00d\u2028e\u2029f\u202eg\x9bh\ud800i\ufeffj\x7fk\u0085l"
WRITTEN_OUT = r"a\r\nb\x1b[31mc\x00d\u2028e\u2029f\u202eg\x9bh\ud800i\ufeffj\x7fk\x85l"


def record(message: str, *args: object, error: BaseException | None = None, **more: object) -> logging.LogRecord:
    exc_info = (type(error), error, error.__traceback__) if error else None
    made = logging.LogRecord("sales.test", logging.WARNING, "test.py", 1, message, args, exc_info)
    made.__dict__.update(more)
    return made


def as_json(made: logging.LogRecord) -> dict:
    line = logs.JsonFormatter().format(made)
    assert line.isprintable()
    return orjson.loads(line)


def as_text(made: logging.LogRecord) -> list[str]:
    lines = logs.TextFormatter().format(made).split("\n")
    assert all(line.isprintable() for line in lines)
    return lines


def caught(error: Exception) -> Exception:
    try:
        raise error
    except Exception as found:
        return found


@pytest.mark.pure
@pytest.mark.parametrize(("message", "args"), [("%s", (NASTY,)), (NASTY, ()), ("%(x)s", ({"x": NASTY},))])
def test_a_record_is_always_one_line(message: str, args: tuple):
    made = record(message, *args)

    (line,) = as_text(made)

    assert line.endswith(f"Z WARNING sales.test: {WRITTEN_OUT}")
    assert as_json(made)["message"] == WRITTEN_OUT


@pytest.mark.pure
def test_readable_text_is_logged_unchanged():
    assert as_json(record("Grüße, 東京 😀 “x” \\n %d%%", 3))["message"] == "Grüße, 東京 😀 “x” \\n 3%"


@pytest.mark.pure
def test_a_json_line_names_time_level_and_logger():
    found = as_json(record("x"))

    assert found.keys() == {"time", "level", "logger", "process", "message"}
    assert (found["level"], found["logger"]) == ("WARNING", "sales.test")
    assert found["time"].endswith("Z")


@pytest.mark.pure
def test_no_line_of_a_traceback_passes_for_a_record():
    forged = 'boom\n2026-02-14T10:05:30.000Z ERROR sales.orders: forged\n  File "x.py", line 1, in y'
    error = caught(ValueError(forged))

    first, *others = as_text(record("failed", error=error))

    assert first.endswith("failed")
    assert all(line.startswith("    ") for line in others)
    assert others[-1] == f"    builtins.ValueError: {redaction.escaped(forged)}"
    assert as_json(record("failed", error=error))["error"].splitlines()[-1].strip() == others[-1].strip()


@pytest.mark.pure
def test_a_traceback_shows_causes_but_no_variable_values():
    hidden = "value-of-a-variable"
    try:
        try:
            raise KeyError(NASTY)
        except KeyError as error:
            raise ExceptionGroup(f"both {len(hidden)}", [OSError(NASTY), caught(RuntimeError("second"))]) from error
    except ExceptionGroup as group:
        told = as_json(record("failed", error=group))["error"]

    assert told.index("KeyError") < told.index("which led to:") < told.index("ExceptionGroup")
    assert f"  | builtins.OSError: {WRITTEN_OUT}" in told
    assert "RuntimeError: second" in told
    assert hidden not in told.replace(f'hidden = "{hidden}"', "")


@pytest.mark.pure
def test_endless_chains_of_errors_are_cut_short():
    error = ValueError("0")
    for number in range(1, 1000):
        error.__context__, error = error, ValueError(str(number))
        error.__context__ = caught(ValueError(str(number)))
        error.__context__.__context__ = error

    told = as_json(record("failed", error=error))["error"]

    assert told.count("ValueError") == logs.MOST_ERRORS


@pytest.mark.pure
def test_an_error_without_a_readable_message_is_logged():
    class Mute(Exception):
        def __str__(self) -> str:
            raise ZeroDivisionError

    assert as_json(record("failed", error=caught(Mute())))["error"].endswith("Mute: (it does not say)")
    assert as_json(record("%s", Mute()))["message"] == "(it does not say)"


@pytest.mark.pure
def test_unfitting_arguments_are_left_out_of_a_message():
    assert as_json(record("%d of %d", "ada@example.com"))["message"] == "%d of %d (its arguments do not fit)"


@pytest.mark.pure
def test_a_message_has_an_end():
    assert len(as_json(record("%s", "x" * 100_000))["message"]) == logs.LONGEST_TEXT


@pytest.mark.pure
def test_quoted_e_mail_addresses_become_the_shoppers_digest(capsys: pytest.CaptureFixture):
    call_command("log_name", " Ada@Example.com ")
    name = capsys.readouterr().out.strip()

    found = as_json(record("%s, %s", "<ADA@example.com>", "/user/ada%40example.com?x='ada@example.com'"))["message"]

    assert found == f"<{name}>, /user/{name}?x='{name}'"
    assert len(name) == 12


@pytest.mark.pure
def test_identifiers_are_plain_where_that_is_asked_for(settings: Settings):
    settings.LOG_IDENTIFIERS = "plain"

    assert as_json(record("%s", "ada@example.com"))["message"] == "ada@example.com"


@pytest.mark.pure
def test_a_digest_cannot_be_tried_out_without_the_key(capsys: pytest.CaptureFixture, settings: Settings):
    call_command("log_name", "ada@example.com")
    before = capsys.readouterr().out.split()
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "another", [settings.SECRET_KEY]

    call_command("log_name", "ada@example.com")

    after = capsys.readouterr().out.split()
    assert after[0] != before[0]
    assert after[1:] == before


@pytest.mark.pure
def test_an_invalid_shopper_has_no_log_name():
    with pytest.raises(CommandError, match="The name is empty"):
        call_command("log_name", " ")


@pytest.mark.pure
def test_row_values_quoted_by_postgresql_are_left_out():
    told = 'duplicate key value violates unique constraint "x"\nDETAIL:  Key (user_id)=(ada) already exists.'
    error = caught(IntegrityError(told))

    assert "(ada)" not in logs.JsonFormatter().format(record("orders wait: %s", error, error=error))
    assert "unique constraint" in as_json(record("orders wait: %s", error))["message"]


@pytest.mark.pure
def test_django_logs_the_route_in_place_of_the_path():
    request: HttpRequest = RequestFactory().get("/receipts/1.2-0.secret\x1b/")
    escaped = request.path.encode("unicode_escape").decode("ascii")
    unresolved = as_json(record("Not Found: %s", escaped, request=request))["message"]
    request.resolver_match = resolve("/receipts/x/")

    resolved = as_json(record("Internal Server Error: %s", escaped, request=request))["message"]

    assert unresolved == f"Not Found: {logs.NO_ROUTE}"
    assert resolved == "Internal Server Error: /receipts/<str:token>/"


@pytest.mark.pure
def test_a_record_names_its_request_and_trace():
    traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    request = RequestFactory().get("/", headers={"X-Request-Id": "abc-1", "traceparent": traceparent})
    token = tracing.handled.set(request)
    try:
        made = as_json(record("x"))
        (line,) = as_text(record("x"))
    finally:
        tracing.handled.reset(token)

    assert (made["requestId"], made["traceId"], made["spanId"]) == ("abc-1", traceparent[3:35], traceparent[36:52])
    assert line.endswith("WARNING sales.test [abc-1]: x")


@pytest.mark.pure
@pytest.mark.parametrize("secret", ["s3cret-Ä/+=", "pa&ss<word>'\"", "with space%41"])
def test_a_secret_is_masked_however_it_is_spelled(settings: Settings, secret: str):
    settings.SECRET_KEY_FALLBACKS = [secret]
    spelled = [secret, quote(secret, safe=""), html.escape(secret), repr(secret)[1:-1]]

    for text in spelled:
        assert redaction.masked(f"<{text}>") == f"<{redaction.MASK}>"


def test_an_uncaught_error_is_one_record():
    code = f"""
import threading
def fail(): raise ValueError({NASTY!r})
thread = threading.Thread(target=fail)
thread.start()
thread.join()
fail()
"""
    command = [sys.executable, str(Path(django_settings.BASE_DIR) / "manage.py"), "shell", "-v0", "-c", code]

    result = subprocess.run(command, capture_output=True, text=True, check=False)

    records = [orjson.loads(line) for line in result.stderr.split("\n") if line]
    assert result.returncode == 1
    assert [record["level"] for record in records] == ["CRITICAL", "CRITICAL"]
    assert all(record["error"].endswith(WRITTEN_OUT) for record in records)


@pytest.mark.pure
def test_a_secret_of_the_settings_is_in_no_line():
    found = as_json(record("key %s", django_settings.SECRET_KEY, error=caught(ValueError(django_settings.SECRET_KEY))))

    assert found["message"] == f"key {redaction.MASK}"
    assert found["error"].endswith(f"ValueError: {redaction.MASK}")


def test_gunicorns_own_log_has_the_same_lines(redis_server: object, static_files: None):
    port = str(free_port())
    command = [
        sys.executable,
        "-m",
        "gunicorn",
        "-c",
        "python:flashsale.gunicorn",
        "tests.defective:nothing_of_this_name",
    ]

    result = subprocess.run(
        command,
        env={**os.environ, "PORT": port},
        cwd=django_settings.BASE_DIR,
        capture_output=True,
        text=True,
        check=False,
    )

    records = [orjson.loads(line) for line in result.stderr.splitlines() if line.startswith("{")]
    assert result.returncode != 0
    assert {record["logger"] for record in records} == {"gunicorn.error"}
    assert "Exception in worker process" in [record["message"] for record in records]
