"""What Redis, SQL and the order writer say of themselves at the moment in which somebody reads the metrics."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily as Gauge

from sales import durability, health, snapshots, store, workers

READ_WITHIN_SECONDS = 1.0
# A sale that has ended is told of for so long, that the last figures are not missed; then it costs nothing any more.
ENDED_FOR_MS = 15 * 60_000


async def read() -> list[Metric]:
    """Return what can be known within a second. What is not reachable is left out, and shows as not up."""
    found = await asyncio.gather(
        _dependencies(), *map(_if_reachable, (_sales, _audits, _memory, _durability, _workers))
    )
    return [gauge for gauges in found for gauge in gauges]


def told_sales() -> dict[str, int]:
    """Return the sales that are told of, and their IDs: the published ones that have not ended, or only lately."""
    since_ms = snapshots.now_ms() - ENDED_FOR_MS
    return {slug: line.id for slug, line in snapshots.last_known_directory().items() if line.ends_ms > since_ms}


async def _if_reachable(look: Callable[[], Awaitable[list[Gauge]]]) -> list[Gauge]:
    try:
        async with asyncio.timeout(READ_WITHIN_SECONDS):
            return await look()
    except (store.Failure, TimeoutError):
        return []


async def _dependencies() -> list[Gauge]:
    report = await health.report()
    entries = {name: entry for name, entry in report.items() if isinstance(entry, dict)}
    up = {name: entry["status"] != "unavailable" for name, entry in entries.items()}
    latencies = {name: entry["latencyMs"] / 1000 for name, entry in entries.items()}
    gauges = [
        _by("dependency", "flashsale_up", "Whether it can be used: redis, where purchases can be decided.", up),
        _by("dependency", "flashsale_latency_seconds", "How long it took to look at it.", latencies),
    ]
    if up["writer"]:
        gauges += [
            Gauge(
                "flashsale_writer_backlog_orders", "Purchases that are not in SQL yet.", entries["writer"]["backlog"]
            ),
            Gauge("flashsale_writer_lag_seconds", "Age of the oldest of them.", entries["writer"]["lagMs"] / 1000),
        ]
    return gauges


async def _sales() -> list[Gauge]:
    directory, now_ms = await snapshots.directory(), snapshots.now_ms()
    sales = told_sales()
    keys = ("config", "stock", "purchases")
    calls = [([store.key(sale_id, name) for name in keys], ()) for sale_id in sales.values()]
    replies = await store.ask_scripts("figures", calls) if calls else []
    figures = {slug: reply for slug, reply in zip(sales, replies, strict=True) if not isinstance(reply, store.Failure)}
    held = {slug: reply for slug, reply in figures.items() if reply}

    def by_sale(name: str, about: str, values: Mapping[str, float]) -> Gauge:
        return _by("sale", name, about, values)

    def is_active(slug: str) -> bool:
        line = directory.get(slug)
        return bool(line and line.starts_ms <= now_ms < line.ends_ms and not any(held[slug][3:]))

    return [
        by_sale("flashsale_remaining_stock", "Units free.", {slug: found[0] for slug, found in held.items()}),
        by_sale("flashsale_units_sold", "Units sold.", {slug: found[1] for slug, found in held.items()}),
        by_sale("flashsale_total_stock", "Units in all.", {slug: found[2] for slug, found in held.items()}),
        by_sale(
            "flashsale_drift_units",
            "Units that stock and purchases have too many, or too few.",
            {slug: found[0] + found[1] - found[2] for slug, found in held.items()},
        ),
        by_sale("flashsale_sale_active", "Whether it sells now.", {slug: is_active(slug) for slug in held}),
        by_sale(
            "flashsale_sale_closed",
            "Whether nothing is sold because data is missing.",
            {slug: not found or bool(found[4]) for slug, found in figures.items()},
        ),
    ]


async def _audits() -> list[Gauge]:
    await snapshots.directory()
    (reply,) = await store.call(("HGETALL", store.AUDITS))
    told = {int(sale_id): line.split() for sale_id, line in zip(reply[::2], reply[1::2], strict=True)}
    held = {slug: told[sale_id] for slug, sale_id in told_sales().items() if sale_id in told}
    drift = {slug: int(kinds) for slug, (_, kinds) in held.items()}
    times = {slug: int(audited_ms) / 1000 for slug, (audited_ms, _) in held.items()}
    return [
        _by("sale", "flashsale_audit_drift_kinds", "Kinds of drift that audit_sale found when it last ran.", drift),
        _by("sale", "flashsale_audit_timestamp_seconds", "When it last ran, since 1970.", times),
    ]


async def _memory() -> list[Gauge]:
    used, most = {}, {}
    for name, said in (await store.ask_everywhere(("INFO", "memory"))).items():
        if isinstance(said, store.Failure) or isinstance(said[0], store.Failure):
            continue
        found = dict(line.split(":", 1) for line in said[0].decode().splitlines() if ":" in line)
        used[name] = int(found["used_memory"])
        most[name] = int(found.get("maxmemory", 0)) or int(found["total_system_memory"])
    return [
        _by("server", "flashsale_redis_memory_used_bytes", "Memory that Redis uses.", used),
        _by("server", "flashsale_redis_memory_max_bytes", "Its bound: maxmemory, else the machine's memory.", most),
    ]


async def _durability() -> list[Gauge]:
    are_kept = await durability.kept_on_lane()
    return [_by("setting", "flashsale_redis_durable", "Whether Redis has the setting of the guarantee.", are_kept)]


async def _workers() -> list[Gauge]:
    now, heard = await store.call(("TIME",), ("HGETALL", store.WORKERS))
    pairs = dict(zip(heard[::2], heard[1::2], strict=True))
    found = workers.count(pairs, int(now[0]) * 1000 + int(now[1]) // 1000)
    return [
        Gauge("flashsale_workers_alive", "Web workers of all machines that Redis hears of.", found.alive),
        Gauge("flashsale_workers_expected", "How many there should be.", found.expected),
    ]


def _by(label: str, name: str, about: str, values: Mapping[str, float]) -> Gauge:
    gauge = Gauge(name, about, labels=[label])
    for of, value in values.items():
        gauge.add_metric([of], float(value))
    return gauge
