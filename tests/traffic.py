"""What goes to Redis while a test does something: the writes of the blocking clients, and each command's words."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from redis.connection import AbstractConnection

from sales import store

# As MONITOR quotes them.
_WORD = re.compile(rb'"((?:[^"\\]|\\.)*)"')


@contextmanager
def writes() -> Iterator[list[None]]:
    """Give a list that gets one item for each write: a command of its own, or a whole pipeline."""
    found: list[None] = []
    original = AbstractConnection.send_packed_command

    def count(connection: Any, *args: Any, **kwargs: Any) -> None:
        found.append(None)
        original(connection, *args, **kwargs)

    with patch.object(AbstractConnection, "send_packed_command", count):
        yield found


@contextmanager
def commands() -> Iterator[list[list[str]]]:
    """Give a list that has, in the end, the words of each command that the server ran, those of scripts among them."""
    found: list[list[str]] = []
    with store.client().monitor() as monitor:
        yield found
        store.client().echo("that is all")
        while (words := _WORD.findall(monitor.connection.read_response())) != [b"ECHO", b"that is all"]:
            found.append([word.decode() for word in words])
