"""What the purchase script costs Redis's one core: attempts are given to it directly, as fast as it takes them."""

import selectors
import socket
import time
from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any

import hiredis
import psutil

from sales import store
from tests.load import decisions
from tests.load.bench.contenders import PLENTY, FlashSale
from tests.load.bench.measure import cpu_seconds
from tests.load.points import middle

# Web workers that have a batch on its way.
CLIENTS = 4
SIZES = (1, 10, 100, 500)
ROUNDS = 3
MOST_DECISIONS, MOST_BATCHES = 100_000, 5_000
LIMIT, PERIOD_US = 10, 10_000_000
_numbers = count()


def measure_saturation() -> list[dict[str, Any]]:
    """Return, for refusals and purchases and by the size of batches, how many decisions a second one core makes."""
    points = []
    with FlashSale() as flashsale:
        for _ in range(ROUNDS):
            for work, sync in (("sold_out", "always"), ("winning", "no"), ("winning", "always")):
                flashsale.redis.config_set("appendfsync", sync)
                flashsale.redis.set(store.key(decisions.SALE_ID, "stock"), 0 if work == "sold_out" else PLENTY)
                for size in SIZES:
                    for clients in (1, CLIENTS):
                        found = _measure(flashsale, size, clients)
                        points.append({"work": work, "sync": sync, "size": size, "clients": clients, **found})
                        _tell(points[-1])
    return points


def costs(points: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Return microseconds: `call_us` of a call, and `refusal_us` and `purchase_us` of each attempt in it, of the core;
    `sync_us` that it waits for the disk."""

    def of(value: str, size: int, **wanted: Any) -> float:
        return middle(points, value, **{"size": size, "clients": 1, **wanted})

    def per_attempt(work: str, sync: str) -> float:
        few, many = SIZES[0], SIZES[-1]
        batches = (of("core_us", size, work=work, sync=sync, clients=CLIENTS) * size for size in (few, many))
        return -(next(batches) - next(batches)) / (many - few)

    refusal_us = per_attempt("sold_out", "always")
    waits = (of("batch_us", 100, work="winning", sync=sync) for sync in ("always", "no"))
    return {
        "call_us": of("core_us", 1, work="sold_out", clients=CLIENTS) - refusal_us,
        "refusal_us": refusal_us,
        "purchase_us": per_attempt("winning", "no"),
        "sync_us": next(waits) - next(waits),
    }


def _measure(flashsale: FlashSale, size: int, clients: int) -> dict[str, float]:
    """Let Redis decide batches of that size, each client's after the one before; core time and time are per attempt."""
    batches = max(clients, min(MOST_BATCHES, MOST_DECISIONS // size))
    queues = [list(_batches(flashsale, size, batches // clients)) for _ in range(clients)]
    redis_process = [psutil.Process(flashsale.redis_process.pid)]
    cpu, started = cpu_seconds(redis_process), time.perf_counter()
    _exchange(str(flashsale.redis_socket), queues)
    seconds, core_seconds = time.perf_counter() - started, cpu_seconds(redis_process) - cpu
    decided = size * (batches // clients) * clients
    return {
        "decisions_per_second": decided / seconds,
        "core_us": core_seconds * 1e6 / decided,
        "batch_us": seconds * 1e6 * size / decided,
    }


def _batches(flashsale: FlashSale, size: int, batches: int) -> Iterator[bytes]:
    """Make calls as they go over the wire, of shoppers who have not been there."""
    sha = flashsale.redis.script_load(store.script("purchase").text)
    run_id = flashsale.redis.info("server")["run_id"]
    for _ in range(batches):
        shoppers = [f"{next(_numbers)}@example.com" for _ in range(size)]
        yield hiredis.pack_command(decisions.command(sha, run_id, shoppers, LIMIT, PERIOD_US))


def _exchange(path: str, queues: list[list[bytes]]) -> None:
    """Send each queue over a connection of its own: a call when the one before is answered."""
    with selectors.DefaultSelector() as selector:
        for queue in queues:
            client = socket.socket(socket.AF_UNIX)
            client.connect(path)
            client.sendall(queue.pop())
            selector.register(client, selectors.EVENT_READ, (client, queue, hiredis.Reader()))
        while selector.get_map():
            for key, _ in selector.select():
                client, queue, reader = key.data
                reader.feed(client.recv(1 << 20))
                if (reply := reader.gets()) is False:
                    continue
                assert not isinstance(reply, hiredis.ReplyError), reply
                if queue:
                    client.sendall(queue.pop())
                else:
                    selector.unregister(client)
                    client.close()


def _tell(point: dict[str, Any]) -> None:
    print(
        f"  {point['work']:8} {point['sync']:6} {point['clients']} x {point['size']:3}: "
        f"{point['decisions_per_second']:9,.0f} decisions/s, {point['core_us']:6.2f} us of the core",
        flush=True,
    )
