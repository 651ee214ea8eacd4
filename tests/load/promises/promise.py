"""What a promise about time is, and the list of all that modules of this package declare."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, TypeVar

Place = TypeVar("Place")
Round = Callable[[Place], float]
Open = Callable[[], AbstractContextManager[Place]]


class Missing(Exception):
    """This machine lacks what a promise needs to be measured; the message says what."""


class Promise(NamedTuple):
    """One promise: its sentence, the document that makes it, and how to measure it.

    `play` plays one round on the servers that `on` starts, leaves them whole, and returns seconds. Rounds go
    `together` where they mostly wait.
    """

    name: str
    sentence: str
    document: str
    within_seconds: float
    on: Open[Any]
    play: Round[Any]
    rounds: int
    together: bool


PROMISES: dict[str, Promise] = {}


def promised(
    sentence: str, document: str, *, within: float, on: Open[Place], rounds: int = 10, together: bool = False
) -> Callable[[Round[Place]], Round[Place]]:
    """Declare a promise under the name of the function that plays a round of it. `within` is in seconds."""

    def declare(play: Round[Place]) -> Round[Place]:
        name = play.__name__.replace("_", "-")
        PROMISES[name] = Promise(name, sentence, document, within, on, play, rounds, together)
        return play

    return declare
