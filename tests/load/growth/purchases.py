"""What a purchase costs when a sale has many, what it leaves in memory and on disk, and how long a restart takes."""

import os
import time
from pathlib import Path
from typing import Any

import httpx
import redis

from sales.store import script
from tests.faults import programs
from tests.load import decisions
from tests.load.bench.contenders import FlashSale, FlashSaleWithWriter
from tests.load.bench.measure import measure

STEPS = (1_000, 10_000, 100_000, 1_000_000, 2_000_000, 5_000_000)
CONNECTIONS, SECONDS, ROUNDS = 256, 2, 3
BATCH = 500
BATCHES_AT_ONCE = 20
WRITER_ENTRIES = 100_000


def measure_growth() -> dict[str, Any]:
    """Return the cost of a purchase in a sale with so many purchases, and of the whole sale at the end."""
    with FlashSale() as flashsale:
        measure(flashsale, "winning", CONNECTIONS, 1)  # warm
        points, aof = [], []
        for target in STEPS:
            fill(flashsale, target)
            for _ in range(ROUNDS):
                before = _aof_bytes(flashsale), _sold(flashsale)
                found = measure(flashsale, "winning", CONNECTIONS, SECONDS)
                after = _aof_bytes(flashsale), _sold(flashsale)
                if after[0] > before[0]:  # it was not rewritten meanwhile
                    aof.append((after[0] - before[0]) / (after[1] - before[1]))
                points.append({"purchases": target, **found.as_json()})
            _tell(target, points[-ROUNDS:])
        sold = _sold(flashsale)
        restart = _restart(flashsale)
        memory = _memory_bytes(flashsale, sold)
        return {
            "points": points,
            "purchases": sold,
            **memory,
            "aof_bytes_per_purchase": sum(aof) / len(aof),
            **restart,
        }


def measure_writer() -> dict[str, float]:
    """Return how many orders a second the order writer moves into SQLite."""
    with FlashSale() as flashsale:
        fill(flashsale, WRITER_ENTRIES)
        alone = WRITER_ENTRIES / write_orders(flashsale)
    with FlashSaleWithWriter() as flashsale:
        before = _acknowledged(flashsale)
        found = measure(flashsale, "winning", CONNECTIONS, 10)
        beside = (_acknowledged(flashsale) - before) / 10
    print(f"  {alone:,.0f} rows/s alone, {beside:,.0f} beside {found.requests_per_second:,.0f}/s")
    return {
        "rows_per_second": alone,
        "rows_per_second_beside_load": beside,
        "purchases_per_second_meanwhile": found.requests_per_second,
    }


def write_orders(flashsale: FlashSale) -> float:
    """Have the order writer move all that is in the stream into SQL, and return the seconds that it took."""
    started = time.monotonic()
    flashsale.manage("write_orders", "--once")
    seconds = time.monotonic() - started
    pending = flashsale.redis.xinfo_groups(_key("orders"))[0]
    assert (pending["pending"], pending["lag"]) == (0, 0)
    return seconds


def fill(flashsale: FlashSale, target: int) -> None:
    """Make purchases by the real script, in full batches and without waiting for the disk, until there are so many."""
    client, sold = flashsale.redis, _sold(flashsale)
    client.config_set("appendfsync", "no")
    sha, run_id = client.script_load(script("purchase").text), client.info("server")["run_id"]
    while sold < target:
        pipeline = client.pipeline(transaction=False)
        for _ in range(BATCHES_AT_ONCE):
            count = min(BATCH, target - sold)
            shoppers = [f"filled-{number}@example.com" for number in range(sold, sold + count)]
            pipeline.execute_command(*decisions.command(sha, run_id, shoppers))
            sold += count
            if sold == target:
                break
        pipeline.execute()
    assert _sold(flashsale) >= target
    client.config_set("appendfsync", "always")
    os.sync()  # what was left to the system is on disk before anything is measured
    time.sleep(0.5)
    while client.info("persistence")["aof_rewrite_in_progress"]:
        time.sleep(0.2)


def _memory_bytes(flashsale: FlashSale, sold: int) -> dict[str, float]:
    """Return what a purchase takes in Redis: its claim, its idempotency key, and its entry until it is in SQL."""

    def used(name: str) -> float:
        return (flashsale.redis.memory_usage(_key(name), samples=2_000) or 0) / sold

    claim, key, entry = used("purchases"), used("keys"), used("orders")
    print(f"  memory per purchase: claim {claim:.0f}, idempotency key {key:.0f}, stream entry {entry:.0f} bytes")
    return {"claim_bytes": claim, "key_bytes": key, "entry_bytes": entry}


def _restart(flashsale: FlashSale) -> dict[str, float]:
    """Kill Redis, start it again, and return how long it was loading, and how long until a purchase was decided."""
    size = _aof_bytes(flashsale)
    programs.kill(flashsale.redis_process)
    flashsale.start_redis()
    started = time.monotonic()
    loaded = 0.0
    while True:
        if not loaded and _is_loaded(flashsale):
            loaded = time.monotonic() - started
        answer = httpx.post(
            flashsale.address + flashsale.purchase_path, json={"userId": "after@example.com"}, timeout=5
        )
        if answer.status_code == 200:
            break
        assert answer.status_code == 503, answer.text
        time.sleep(0.05)
    decided = time.monotonic() - started
    print(f"  restart: loaded after {loaded:.1f} s, first purchase after {decided:.1f} s, file {size / 1e6:,.0f} MB")
    return {"restart_loaded_seconds": loaded, "restart_decided_seconds": decided, "aof_megabytes": size / 1e6}


def _is_loaded(flashsale: FlashSale) -> bool:
    try:
        return flashsale.redis.ping()
    except redis.RedisError:
        return False


def _tell(target: int, points: list[dict[str, Any]]) -> None:
    costs = ", ".join(f"{point['server_us']:.0f} + {point['redis_us']:.1f}" for point in points)
    print(f"  {target:9,} purchases: server + Redis {costs} us", flush=True)


def _key(name: str) -> str:
    return f"{{sale:1}}:{name}"


def _sold(flashsale: FlashSale) -> int:
    return flashsale.redis.hlen(_key("purchases"))


def _acknowledged(flashsale: FlashSale) -> int:
    (group,) = flashsale.redis.xinfo_groups(_key("orders"))
    return (group["entries-read"] or 0) - group["pending"]


def _aof_bytes(flashsale: FlashSale) -> int:
    files = Path(flashsale.var_dir / "redis" / "appendonlydir").iterdir()
    return sum(file.stat().st_size for file in files)
