"""`python -m tests.fuzz.wire CASES SEED [FROM]`: what HTTP clients do not send, on raw sockets, at a server of its own.

Exit status 1 when a rule is broken; each failure is told with its bytes and the command that plays it alone.
"""

import asyncio
import random
import socket
import struct
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import repeat

import psutil

from tests.faults.stage import Plan, Stage
from tests.fuzz.answers import Answer, Wrong, check
from tests.fuzz.cases import Case, case
from tests.fuzz.messages import HIDDEN, LEAVER, PURCHASES

CONNECTIONS = 24
# Much longer than any limit of the server's: who hears nothing for so long hangs.
PATIENCE_SECONDS = 20
PROBE_EVERY = 50
MOST_TOLD = 20
SHARES = 5
# Of each worker, from the end of the first share to that of the last. An allocator's leftovers are not a leak.
MOST_GROWTH_MIB = 12


@dataclass
class Report:
    """What a run found. `sold` is each order that was answered, `statuses` counts the answers."""

    failures: list[str] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    sold: dict[str, str] = field(default_factory=dict)

    def note(self, played: Case, answers: list[Answer]) -> None:
        self.statuses.update(answer.status for answer in answers)
        for answer in answers:
            if answer.word("code") == "purchased":
                self.sold[answer.word("orderId")] = played.name


async def converse(port: int, played: Case) -> bytes:
    """Play a case on a connection of its own and return all that comes back until the server closes.

    Raises TimeoutError when it does not. Sockets rather than streams: when a server closes while we still send, what it
    has answered before is still there to read.
    """
    loop = asyncio.get_running_loop()
    with socket.socket() as client:
        client.setblocking(False)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await loop.sock_connect(client, ("127.0.0.1", port))
        receiving = asyncio.ensure_future(_receive(client))
        with suppress(ConnectionError):
            for piece in played.pieces:
                await loop.sock_sendall(client, piece)
                await asyncio.sleep(0 if len(played.pieces) > 10 else 0.001)
        if played.ending == "left":
            receiving.cancel()
            await asyncio.wait([receiving])
            if played.is_reset:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return b""
        with suppress(OSError):
            client.shutdown(socket.SHUT_WR)
        return await asyncio.wait_for(receiving, PATIENCE_SECONDS)


async def _receive(client: socket.socket) -> bytes:
    received = bytearray()
    with suppress(ConnectionError):
        while part := await asyncio.get_running_loop().sock_recv(client, 65536):
            received += part
    return bytes(received)


async def play(port: int, cases: Iterable[Case], report: Report) -> None:
    """Play the cases, some at a time, and note what came of them."""
    left = iter(cases)
    await asyncio.gather(*(_play_share(port, left, report) for _ in range(CONNECTIONS)))


async def _play_share(port: int, cases: Iterator[Case], report: Report) -> None:
    for played in cases:
        raw = b""
        try:
            raw = await converse(port, played)
            report.note(played, check(played, raw))
        except (Wrong, OSError, ValueError) as wrong:
            report.failures.append(_told(played, repr(wrong), raw))


def _told(played: Case, wrong: str, raw: bytes) -> str:
    seed, _, number = played.name.partition("-")
    kinds = ", ".join(message.kind for message in played.messages)
    return (
        f"{wrong}\n  {played.kind} after [{kinds}], in {len(played.pieces)} pieces"
        f"\n  sent     {_short(played.raw)}\n  received {_short(raw)}"
        f"\n  again: python -m tests.fuzz.wire 1 {seed} {number}"
    )


def _short(raw: bytes) -> str:
    return repr(raw) if len(raw) < 3_000 else f"{raw[:1_000]!r} … {raw[-2_000:]!r} ({len(raw)} bytes)"


def with_probes(cases: Iterable[Case]) -> Iterator[Case]:
    """Yield the cases, and now and then a purchase that must be answered on a new connection, whatever came before."""
    for number, each in enumerate(cases):
        yield each
        if number % PROBE_EVERY == 0:
            rng = random.Random(each.name)
            message = rng.choice(PURCHASES)(rng, f"prober-{each.name}")
            yield Case(each.name, [message], "cut", "probe", [message.raw])


def unfair_purchases(held: dict[str, str], report: Report) -> list[str]:
    """Return what is wrong with the sale's purchases: who has bought was told so, and nobody hidden has bought."""
    bought = {words.split(" ")[0]: user_id for user_id, words in held.items()}
    wrong = [f"{user_id} has bought" for user_id in held if user_id.startswith(HIDDEN)]
    untold = [user_id for order_id, user_id in bought.items() if order_id not in report.sold]
    wrong += [f"{user_id} has bought and was not told" for user_id in untold if not user_id.startswith(LEAVER)]
    lost = [f"case {name} was told of order {order}" for order, name in report.sold.items() if order not in bought]
    return wrong + [f"{words}, which is not there" for words in lost]


def memory(stage: Stage) -> dict[int, float]:
    """Return the MiB that each web worker has to itself."""
    return {pid: psutil.Process(pid).memory_full_info().uss / 2**20 for pid in sorted(stage.web_workers())}


def growth(held: list[dict[int, float]]) -> list[str]:
    """Return what is wrong with the workers' memory, as it was after each share of the run; the first is warm-up."""
    if any(each.keys() != held[0].keys() for each in held):
        return [f"a web worker has died: {held}"]
    series = {pid: [each[pid] for each in held] for pid in held[0]}
    told = {pid: " ".join(f"{size:.1f}" for size in sizes) for pid, sizes in series.items()}
    print("MiB of each web worker after each share of the run:", told)
    return [f"memory grows: {told[pid]}" for pid, sizes in series.items() if sizes[-1] - sizes[0] > MOST_GROWTH_MIB]


async def wait_for_workers(port: int) -> None:
    """Return when purchases are answered on each of many connections: both workers have found Redis."""
    deadline, well = time.monotonic() + PATIENCE_SECONDS, 0
    while well < 20 and time.monotonic() < deadline:
        message = random.choice(PURCHASES)(random.Random(), f"{LEAVER}-before-{time.monotonic_ns()}")
        raw = await converse(port, Case("before", [message], "cut", "before", [message.raw]))
        well = well + 1 if b'"code":"purchased"' in raw else 0


async def run(stage: Stage, count: int, seed: int, first: int = 0) -> Report:
    """Play `count` cases from number `first`, and return what was found."""
    await wait_for_workers(stage.port)
    report, began, held = Report(), time.monotonic(), []
    for share in range(SHARES):
        numbers = range(first + count * share // SHARES, first + count * (share + 1) // SHARES)
        await play(stage.port, with_probes(map(case, repeat(seed), numbers)), report)
        held.append(memory(stage))
    report.failures += unfair_purchases(stage.redis.hgetall(stage.key("purchases")), report) + growth(held)
    if written := stage.log("web.log").partition("\n")[2]:
        report.failures.append(f"the server's log is not empty: {written}")
    print(f"{count} cases of seed {seed} in {time.monotonic() - began:.0f} s, {len(report.sold)} purchases,", end=" ")
    print(f"answers {dict(sorted(report.statuses.items()))}, {len(report.failures)} failures")
    return report


def main(count: int, seed: int, first: int = 0) -> int:
    with Stage(Plan(), 10_000_000, random.Random(seed)) as stage:
        report = asyncio.run(run(stage, count, seed, first))
    for failure in report.failures[:MOST_TOLD]:
        print(f"FAILED: {failure}")
    return 1 if report.failures else 0


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit("usage: python -m tests.fuzz.wire CASES SEED [FROM]")
    sys.exit(main(*(int(word) for word in sys.argv[1:])))
