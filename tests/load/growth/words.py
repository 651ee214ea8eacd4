"""The figures of growth, in words for docs/performance.md."""

from typing import Any

from tests.load.points import middle

PLOTS = """\
![CPU per purchase over connections](growth-connections.svg)
![CPU per purchase over purchases in the sale](growth-purchases.svg)
![CPU per purchase over sales open at once](growth-sales.svg)
![Memory of a web process over requests](growth-memory.svg)

"""


def report(results: dict[str, Any]) -> str:
    """Return, in Markdown, the plots and a table of what does not fit them."""
    purchases, writer, requests = results["purchases"], results["writer"], results["requests"]
    claim, key, entry = (purchases[f"{name}_bytes"] for name in ("claim", "key", "entry"))
    lines = [
        "| | aim | measured |",
        "|---|---:|---:|",
        f"| memory in Redis per purchase: claim {claim:.0f}, idempotency key {key:.0f} | ≤ 200 bytes "
        f"| {claim + key:.0f} bytes |",
        f"| the same, while it waits in the stream for the order writer | | {claim + key + entry:.0f} bytes |",
        f"| append-only file per purchase | | {purchases['aof_bytes_per_purchase']:.0f} bytes |",
        f"| restart with {purchases['purchases']:,} purchases, file of {purchases['aof_megabytes']:,.0f} MB: loaded | "
        f"| {purchases['restart_loaded_seconds']:.1f} s |",
        f"| the same: first purchase decided | | {purchases['restart_decided_seconds']:.1f} s |",
        f"| largest web process after {requests[-1]['requests']:,} requests | ≤ 90 MB "
        f"| {requests[-1]['worker_mb']:.0f} MB (after the first {requests[0]['requests']:,}: "
        f"{requests[0]['worker_mb']:.0f}) |",
        f"| order writer alone, SQLite | | {writer['rows_per_second']:,.0f} rows/s |",
        f"| order writer beside {writer['purchases_per_second_meanwhile']:,.0f} purchases/s "
        f"| | {writer['rows_per_second_beside_load']:,.0f} rows/s |",
    ]
    tables = ("\n".join(lines), _by_purchases(purchases["points"]), _by_sales(results["sales"]))
    return PLOTS + "\n\n".join((*tables, _by_pages(results["listeners"])))


def _by_purchases(points: list[dict[str, Any]]) -> str:
    lines = ["| purchases in the sale | server µs | Redis µs |", "|---:|---:|---:|"]
    for count in sorted({point["purchases"] for point in points}):
        found = [point for point in points if point["purchases"] == count]
        lines.append(f"| {count:,} | {middle(found, 'server_us'):.0f} | {middle(found, 'redis_us'):.1f} |")
    return "\n".join(lines)


def _by_sales(points: list[dict[str, Any]]) -> str:
    lines = [
        "| sales open | all load on one: server, Redis µs | spread over all: server, Redis µs |",
        "|---:|---:|---:|",
    ]
    for count in sorted({point["sales"] for point in points}):
        cells = []
        for is_spread in (False, True):
            found = [point for point in points if point["sales"] == count and point["spread"] == is_spread]
            cells.append(f"{middle(found, 'server_us'):.0f}, {middle(found, 'redis_us'):.1f}")
        lines.append(f"| {count:,} | {cells[0]} | {cells[1]} |")
    return "\n".join(lines)


def _by_pages(points: list[dict[str, Any]]) -> str:
    lines = [
        "| pages open | purchases/s | server µs | p99 ms | longest time without news | memory of a page |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for kind, count in sorted({(point["kind"], point["pages"]) for point in points}):
        found = [point for point in points if (point["kind"], point["pages"]) == (kind, count)]
        words = f"{count:,} that {kind}" if count else "none"
        news = f"{max(point['longest_gap_seconds'] for point in found):.2f} s" if count else ""
        memory = f"{max(point['page_bytes'] for point in found) / 1000:.1f} kB" if count else ""
        lines.append(
            f"| {words} | {middle(found, 'requests_per_second'):,.0f} | {middle(found, 'server_us'):.0f} "
            f"| {middle(found, 'p99_ms'):.0f} | {news} | {memory} |"
        )
    return "\n".join(lines)
