"""Cases: what one connection carries, from a seed and a number alone."""

import random
from dataclasses import dataclass, field

from flashsale.framing import memory_bytes
from flashsale.protocol import MOST_QUEUED_BYTES
from tests.fuzz import messages
from tests.fuzz.malformed import MALFORMED, WEIGHTS
from tests.fuzz.messages import BUY, HIDDEN, JSON, LEAVER, Message, attempt, head, length

# Bytes one by one cost a system call each.
MOST_BYTES_ONE_BY_ONE = 700
_PUT_IN = (b"\r\n", b"\n", b"\r", b" ", b"\x00", b":", b"0", b"\t")


@dataclass(frozen=True)
class Case:
    """`pieces` are sent one after the other: first `messages`, all of which are right, then what `ending` says.

    "last": nothing more. "malformed": a message that must be refused, with a purchase hidden in it or behind it.
    "cut": a part of a message. "mutated": a message with some bytes changed, which may be right by chance. "left": the
    client leaves at once. All but the last say that no more will come; the server closes each.
    """

    name: str
    messages: list[Message]
    ending: str
    kind: str
    pieces: list[bytes] = field(repr=False)
    # Whether who leaves tells so by a reset.
    is_reset: bool = False

    @property
    def raw(self) -> bytes:
        return b"".join(self.pieces)


def case(seed: int, number: int) -> Case:
    """Return the case of that number: the same one each time."""
    rng = random.Random(f"{seed}:{number}")
    name = f"{seed}-{number}"
    ending = rng.choices(("last", "malformed", "cut", "mutated", "left"), (25, 50, 8, 12, 5))[0]
    before = _messages(rng, LEAVER if ending == "left" else "buyer", name, ending)
    kind, rest = _rest(rng, name, ending)
    raw = b"".join(message.raw for message in before) + rest
    return Case(name, before, ending, kind, _pieces(rng, raw), rng.random() < 0.5)


def _messages(rng: random.Random, who: str, name: str, ending: str) -> list[Message]:
    made: list[Message] = []
    for place in range(rng.choice((0, 0, 1, 1, 2, 3, 6))):
        if sum(_weight(earlier.raw) for earlier in made) > MOST_QUEUED_BYTES / 3:
            break
        message = rng.choice(messages.VALID)(rng, f"{who}-{name}-{place}")
        made.append(message)
        if message.user_id and rng.random() < 0.3:
            made.append(messages.again(rng, message))
    if ending in ("last", "left"):
        made.append(rng.choice(messages.LASTS)(rng, ""))
    return made


def _weight(raw: bytes) -> int:
    """Return about what a message counts while others are answered: what waits beyond a bound is refused."""
    return memory_bytes(raw, [(b"", b"")] * raw.count(b"\r\n"))


def _rest(rng: random.Random, name: str, ending: str) -> tuple[str, bytes]:
    """Return what is sent behind the messages that are right, and its kind."""
    body = attempt(f"{HIDDEN}-{name}")
    hidden = head(rng, b"POST " + BUY, JSON, length(body)) + body
    if ending == "malformed":
        kind = rng.choices(list(MALFORMED), WEIGHTS)[0]
        return kind, MALFORMED[kind](rng, hidden)
    if ending == "cut":
        whole = rng.choice(messages.PURCHASES)(rng, f"{HIDDEN}-{name}").raw
        return "cut", whole[: rng.randint(1, len(whole) - 1)]
    if ending == "mutated":
        whole = rng.choice(messages.PURCHASES)(rng, f"mutant-{name}").raw
        return "mutated", _mutated(rng, whole)
    # What comes behind the last is not read.
    return ending, rng.choice((b"", b"", hidden, b"\x00" * 20))


def _mutated(rng: random.Random, raw: bytes) -> bytes:
    for _ in range(rng.choice((1, 1, 2, 4, 10))):
        place = rng.randrange(len(raw))
        size = rng.choice((0, 1, 1, 2, 8))
        what = rng.choice((rng.randbytes(rng.randint(0, 4)), raw[:place], *_PUT_IN))
        raw = raw[:place] + what + raw[place + size :]
    return raw


def _pieces(rng: random.Random, raw: bytes) -> list[bytes]:
    """Return the bytes in one piece, in some, or one by one."""
    way = rng.random()
    if way < 0.4:
        return [raw]
    if way > 0.93 and len(raw) < MOST_BYTES_ONE_BY_ONE:
        return [raw[place : place + 1] for place in range(len(raw))]
    cuts = sorted(rng.randrange(len(raw) + 1) for _ in range(rng.randint(1, 6)))
    return [raw[start:end] for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
