"""`python -m tests.load.bench.inside`: what the Python of a request costs a web worker, in microseconds.

Protocol, lane and view, in this process and its own CPU time; no socket, and in place of Redis an answer that is there
at once. The best of many rounds tells two versions apart where a busy machine hides the difference from wrk.
"""

import asyncio
import gc
import itertools
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.load import project

CONNECTIONS = 256
ROUNDS = 300
# Before an attempt that has to say by a token who is asking.
VERIFIED = "verified "
WORKS = ("sold_out", "winning", f"{VERIFIED}sold_out", f"{VERIFIED}winning", "status", "page")
SALE_ID = 1


class Connection:
    """A transport that counts what is written to it."""

    def __init__(self) -> None:
        self.writes = 0

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"peername": ("127.0.0.1", 50_000), "sockname": ("127.0.0.1", 8000)}.get(name, default)

    def write(self, data: bytes) -> None:
        self.writes += 1

    def set_write_buffer_limits(self, high: int) -> None:
        pass

    def is_closing(self) -> bool:
        return False


def requests(work: str, number: int) -> list[bytes]:
    """Return one round's requests, those of an attempt by a new shopper each. Tokens are signed here, off the clock."""
    if work in ("status", "page"):
        path = {"status": "/api/sale/status", "page": "/"}[work]
        return [f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:8000\r\n\r\n".encode()] * CONNECTIONS
    names = [f"{number}-{place}@example.com" for place in range(CONNECTIONS)]
    head = "POST /api/sale/purchase HTTP/1.1\r\nHost: 127.0.0.1:8000\r\nContent-Type: application/json\r\n"
    if work.startswith(VERIFIED):
        from sales import tokens

        signed = [tokens.vouch(name, SALE_ID, 1, seconds=3_600) for name in names]
        return [f"{head}Authorization: Bearer {token}\r\nContent-Length: 2\r\n\r\n{{}}".encode() for token in signed]
    bodies = [f'{{"userId":"{name}"}}' for name in names]
    return [f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode() for body in bodies]


def replies(work: str) -> Any:
    """Return what stands in for `store.run_scripts`: the answers come in the loop's next turn."""
    is_winning, numbers = work.endswith("winning"), itertools.count()

    def words(count: int) -> Iterator[Any]:
        for number in itertools.islice(numbers, count):
            yield from (b"purchased", b"1771063530000-%d" % number) if is_winning else (b"sold_out", b"")
            yield from (0, 9, 1)

    async def run_scripts(name: str, calls: Iterable[tuple[Sequence[str], Sequence[Any]]]) -> list[list[Any]]:
        await asyncio.sleep(0)
        return [list(words((len(arguments) - 4) // 2)) for _, arguments in calls]

    return run_scripts


async def measure(work: str) -> list[float]:
    """Return each round's microseconds per request, the quickest first."""
    from uvicorn.config import Config
    from uvicorn.server import ServerState

    from flashsale.asgi import application
    from flashsale.protocol import LaneProtocol
    from sales import store

    store.run_scripts = replies(work)
    identity = "verified" if work.startswith(VERIFIED) else "open"
    show = _open_sale(0 if work.endswith("sold_out") else 100, identity)
    config, state = Config(application, ws="none", lifespan="off", proxy_headers=False, log_config=None), ServerState()
    state.default_headers = [(b"date", b"Sat, 14 Feb 2026 10:05:30 GMT")]
    opened: list[tuple[LaneProtocol, Connection]] = []
    for _ in range(CONNECTIONS):
        opened.append((LaneProtocol(config=config, server_state=state, app_state={}), Connection()))
        opened[-1][0].connection_made(opened[-1][1])  # type: ignore[arg-type]
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)  # as the web workers have it
    return sorted([await _round(opened, work, number, show) for number in range(1, ROUNDS + 1)])


async def _round(opened: list[tuple[Any, Connection]], work: str, number: int, show: Any) -> float:
    show()
    packets = requests(work, number)
    started_ns = time.process_time_ns()
    for (protocol, _), packet in zip(opened, packets, strict=True):
        protocol.data_received(packet)
    while any(connection.writes < number for _, connection in opened[:: CONNECTIONS - 1]):
        await asyncio.sleep(0)
    microseconds = (time.process_time_ns() - started_ns) / 1000 / CONNECTIONS
    assert all(connection.writes == number for _, connection in opened), "somebody was not answered"
    return microseconds


def _open_sale(remaining_stock: int, identity: str) -> Any:
    """Give this worker a sale, and return the function that keeps what it knows of it fresh: of the sale, and that SQL
    has all orders."""
    from sales import acknowledged, closures, snapshots, store
    from sales.directory import Listing

    reader, now_ms = snapshots._reader(), int(time.time() * 1000)
    starts_ms, ends_ms = now_ms - 60_000, now_ms + 3_600_000
    texts: dict[str, Any] = {**dict.fromkeys(snapshots.TEXTS, ""), "slug": "widget", "product_name": "Widget"}
    sale = snapshots.Snapshot(
        **texts,
        id=SALE_ID,
        starts_ms=starts_ms,
        ends_ms=ends_ms,
        total_stock=100,
        paused=False,
        remaining_stock=remaining_stock,
        identity=identity,
    )
    nothing = closures.Reply(store.Answer(None, ""), store.Answer(None, ""))
    directory = reader.directory
    directory.published, directory.current = {"widget": Listing(SALE_ID, starts_ms, ends_ms)}, "widget"
    directory._clock_ahead_seconds = time.time() - time.monotonic()

    def show() -> None:
        directory.read_at = time.monotonic()
        reader._seen["widget"] = snapshots._Seen(sale, directory.read_at, SALE_ID, nothing)
        orders = acknowledged.known(SALE_ID).orders
        acknowledged.forget(SALE_ID, [(order_id, user_id) for order_id, (user_id, _, _) in orders.items()])

    return show


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="flashsale-inside-", dir="/tmp") as directory:
        project.prepare(Path(directory))
        import uvloop
        from django.core.management import call_command

        from sales import languages

        call_command("collectstatic", verbosity=0, interactive=False)
        languages.load()
        for work in WORKS:
            found = uvloop.run(measure(work))
            print(f"{work:17} {found[0]:5.1f} us at best, {found[len(found) // 2]:5.1f} in the middle")


if __name__ == "__main__":
    main()
