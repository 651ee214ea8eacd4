"""`python -m tests.load.strangers [SECONDS]`: what honest shoppers notice while somebody means harm.

Shoppers buy on CONNECTIONS connections, first undisturbed, then beside each attack on as many connections, for SECONDS
(10) each. Prints their answer times and what the attacker was answered. Exit status 1 when an honest purchase is
refused, or its p90 is over MOST_TIMES the quiet one or over MOST_MS.
"""

import asyncio
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from urllib.parse import quote

import orjson

from tests.load.profiles import Stock
from tests.load.shop import Shop

CONNECTIONS = 8
# Of each connection: an attacker who sends as fast as it goes only measures how fast refusals are.
HONEST_PER_SECOND, HOSTILE_PER_SECOND = 10, 50
MOST_TIMES, MOST_MS = 4.0, 50.0
ANSWERED_WITHIN_SECONDS = 10.0

MARKS = "a" + 1_000 * "\u0301" + 1_000 * "\u0316"
LONG = "/api/openapi.json"

Make = Callable[[int], bytes]


def request(method: str, path: str, body: bytes = b"", *, kind: str = "application/json", length: int = -1) -> bytes:
    """Return the bytes of a request; with a `length` that its body has not, one that never ends."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost"]
    if method == "POST":
        lines += [f"Content-Type: {kind}", f"Content-Length: {len(body) if length < 0 else length}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


def attempt(name: str) -> bytes:
    return request("POST", "/api/sale/purchase", orjson.dumps({"userId": name}))


def form(path: str, text: str) -> bytes:
    return request("POST", path, text.encode(), kind="application/x-www-form-urlencoded")


# What each attack sends, by its number and the number of the request on its connection.
ATTACKS: dict[str, Make] = {
    "name of 4,000 marks": lambda _: attempt(MARKS + MARKS[1:]),
    "name of 200 marks": lambda _: attempt(MARKS[:100] + MARKS[1_901:2_001]),
    "name of marks in the path": lambda _: request(
        "GET", f"/api/sale/user/{quote(MARKS[:300] + MARKS[1_500:])[:3_900]}"
    ),
    "name of 2,700 U+FDFA": lambda _: attempt("\ufdfa" * 2_700),
    "name of 250 U+FDFA": lambda _: attempt("\ufdfa" * 250),
    "user name of 240 KB": lambda _: form("/admin/login/", "username=" + "a" * 240_000),
    "user name of 1,000 marks": lambda _: form("/admin/login/", "username=" + quote(MARKS)[:8_000]),
    "query of 55 KB": lambda _: request("GET", "/api/sale/status?x=" + "%41" * 18_000),
    "query of 950 fields": lambda _: request("GET", "/api/sale/status?" + "&".join(f"f{n}=1" for n in range(950))),
    "query of 4 KB": lambda _: request("GET", "/api/sale/status?x=" + "%41" * 1_300),
    "form without a name": lambda _: form("/sales/widget/", "userId="),
    "form with a bad name": lambda number: form("/sales/widget/", f"userId=%01{number}"),
    "answers that nobody reads": lambda _: request("GET", LONG),
    "bodies that never end": lambda _: request(
        "POST", "/admin/login/", bytes(9_500_000), kind="text/plain", length=9_600_000
    ),
}
NEVER_READ = {"answers that nobody reads", "bodies that never end"}


@dataclass
class Seen:
    """What the shoppers saw."""

    seconds: list[float] = field(default_factory=list)
    codes: Counter[str] = field(default_factory=Counter)

    def ms(self, share: float) -> float:
        ordered = sorted(self.seconds)
        return 1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("inf")

    @property
    def refused(self) -> int:
        return self.codes.total() - self.codes["purchased"]


async def shop_honestly(port: int, seconds: float, names: Iterator[int]) -> Seen:
    """Buy under a new name each time on every connection, and note how long each answer took."""
    seen, ends_at = Seen(), time.monotonic() + seconds

    async def shopper() -> None:
        while time.monotonic() < ends_at:
            began = time.monotonic()
            try:
                async with asyncio.timeout(ANSWERED_WITHIN_SECONDS):
                    code = await _buy(port, f"honest-{next(names)}@example.com")
            except (OSError, EOFError, ValueError) as error:
                code = type(error).__name__
            seen.codes[code] += 1
            seen.seconds.append(time.monotonic() - began)
            await asyncio.sleep(max(0.0, began + 1 / HONEST_PER_SECOND - time.monotonic()))

    await asyncio.gather(*(shopper() for _ in range(CONNECTIONS)))
    return seen


async def _buy(port: int, name: str) -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(attempt(name))
        _, body = await read_answer(reader)
        return str(orjson.loads(body)["code"])
    finally:
        writer.close()


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Return the status and body of the next answer. Raises EOFError when there is none."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
    return int(head.split()[1]), await reader.readexactly(length)


async def attack(name: str, port: int, seconds: float) -> Counter[int]:
    """Send it again and again on every connection; return the statuses that came back, 0 for none."""
    statuses: Counter[int] = Counter()
    ends_at = time.monotonic() + seconds

    async def attacker() -> None:
        for number in count():
            if time.monotonic() >= ends_at:
                return
            began = time.monotonic()
            status = 0
            with suppress(OSError, EOFError, ValueError, TimeoutError):
                async with asyncio.timeout_at(asyncio.get_running_loop().time() + ends_at - began):
                    status = await (_hold if name in NEVER_READ else _send)(port, ATTACKS[name](number))
            statuses[status] += 1
            await asyncio.sleep(max(0.0, began + 1 / HOSTILE_PER_SECOND - time.monotonic()))

    await asyncio.gather(*(attacker() for _ in range(CONNECTIONS)))
    return statuses


async def _send(port: int, sent: bytes) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(sent)
        return (await read_answer(reader))[0]
    finally:
        writer.close()


async def _hold(port: int, sent: bytes) -> int:
    """Send it and read nothing, until the server closes the connection."""
    loop = asyncio.get_running_loop()
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2_048)
        client.setblocking(False)
        await loop.sock_connect(client, ("127.0.0.1", port))
        await loop.sock_sendall(client, sent)
        while True:  # a closed one can no longer be written to
            await asyncio.sleep(0.2)
            await loop.sock_sendall(client, b"\r\n")


def main(seconds: float) -> int:
    """Return the exit status."""
    failed, names = 0, count()
    with Shop(WEB_CONCURRENCY="2") as shop:
        shop.open_sale(Stock(10_000_000), -60.0)
        quiet = asyncio.run(shop_honestly(shop.port, seconds, names))
        _say(f"{'undisturbed':28}{_times(quiet)}")
        for name in ATTACKS:
            command = [sys.executable, "-m", "tests.load.strangers", "attack", name, str(shop.port), str(seconds)]
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as attacker:
                seen = asyncio.run(shop_honestly(shop.port, seconds, names))
                told, _ = attacker.communicate(timeout=seconds + 60)
            is_slow = seen.ms(0.9) > min(MOST_TIMES * quiet.ms(0.9), MOST_MS)
            failed += bool(is_slow or seen.refused)
            verdict = "  REFUSED" if seen.refused else "  SLOW" if is_slow else ""
            _say(f"{name:28}{_times(seen)}  attacker: {told.strip()}{verdict}")
    return 1 if failed else 0


def _times(seen: Seen) -> str:
    p50, p90, p99 = (seen.ms(share) for share in (0.5, 0.9, 0.99))
    return f"p50 {p50:6.1f}  p90 {p90:6.1f}  p99 {p99:6.1f} ms  refused {seen.refused} of {seen.codes.total():,}"


def _say(words: str) -> None:
    sys.stdout.write(f"{words}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["attack", name, port, seconds]:
            _say(str(dict(asyncio.run(attack(name, int(port), float(seconds))))))
        case []:
            sys.exit(main(10.0))
        case [seconds]:
            sys.exit(main(float(seconds)))
        case _:
            sys.exit("usage: python -m tests.load.strangers [SECONDS]")
