"""The figures of docs/scaling.md, in words."""

from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

from tests.load.points import middle
from tests.load.scaling import redis_core, web_worker
from tests.load.scaling.plans import PROXIED
from tests.load.scaling.rush import CROWDED


def tables(results: dict[str, Any]) -> dict[str, str]:
    """Return, in Markdown, what stands between the marks of each name."""
    made: dict[str, tuple[str, Callable[[], str]]] = {
        "saturation": ("machine redis web streams edge sizes orders", lambda: _saturation(results)),
        "rush": ("rush", lambda: _rush(results["rush"])),
        "plans": ("plans", lambda: plan_table(results["plans"])),
    }
    return {name: table() for name, (needs, table) in made.items() if results.keys() >= set(needs.split())}


def _saturation(results: dict[str, Any]) -> str:
    machine, redis, web, edge = (results[name] for name in ("machine", "redis", "web", "edge"))
    largest = {"clients": redis_core.CLIENTS, "size": redis_core.SIZES[-1]}
    core = redis_core.costs(redis)
    proxied, crowded = (web_worker.costs(web, connections) for connections in (PROXIED, CROWDED))

    def redis_row(words: str, work: str, cost: str, rest: str = "") -> str:
        one = middle(redis, "decisions_per_second", work=work, sync="always", clients=1, size=1)
        full = middle(redis, "decisions_per_second", work=work, sync="always", **largest)
        return f"| {words} | {core[cost]:.1f} µs of Redis's core{rest} | {full:,.0f}/s, one by one {one:,.0f}/s |"

    def web_row(words: str, work: str, connections: int) -> str:
        found = {"work": work, "connections": connections}
        full, cost = middle(web, "requests_per_second", **found), middle(web, "server_us", **found)
        return f"| {words} | {cost:.0f} µs of a web worker's core | {full:,.0f}/s |"

    def edge_row(words: str, work: str) -> str:
        found, cost = middle(edge, "per_second", work=work), middle(edge, "nginx_us", work=work)
        is_full = found * cost > 0.9e6  # else its core waited for the load, or for the app
        full = f"{found:,.0f}/s" if is_full else f"{1e6 / cost:,.0f}/s, by its cost"
        return f"| {words} | {cost:.0f} µs of nginx's core | {full} |"

    seen = max(point["seen_per_second"] for point in edge if point["work"] == "status")
    sizes = ", ".join(f"{name} {size:,}" for name, size in results["sizes"].items())
    rows = (
        redis_row("an attempt that is refused", "sold_out", "refusal_us"),
        redis_row("a purchase, synced to disk", "winning", "purchase_us", ", and its part of a sync"),
        f"| a batch, whatever is in it | {core['call_us']:.0f} µs of Redis's core and "
        f"{proxied['exchange_us']:.0f} µs of a web worker's; a sync takes {core['sync_us']:.0f} µs more | |",
        f"| an attempt in it, {PROXIED} connections | {proxied['request_us']:.1f} µs of a web worker's core | |",
        f"| an attempt in it, {CROWDED:,} connections | {crowded['request_us']:.1f} µs of a web worker's core | |",
        web_row(f"an attempt that is refused, with its part of a batch, {CROWDED:,} connections", "sold_out", CROWDED),
        web_row(f"a purchase, with its part of a batch, {CROWDED:,} connections", "winning", CROWDED),
        web_row("the status", "status", 256),
        web_row("the sale page", "page", 256),
        edge_row("the status, from a copy over TLS", "status"),
        edge_row("the sale page, from a copy over TLS", "page"),
        edge_row("a purchase, passed on over TLS", "winning"),
        edge_row("a TLS handshake", "handshake"),
        _orders_row(results["orders"]),
    )
    return "\n".join(
        (
            f"Measured on {machine['date']} on {machine['cores']} cores ({machine['system']}) that also carry the "
            f"load; Python {machine['python']}; medians.",
            "",
            "| one of these | costs | one core is full at |",
            "|---|---|---|",
            *rows,
            "",
            f"While nginx answered the status from its copy, the app saw {seen:.0f} requests a second. "
            f"Bytes of an answer, with its head: {sizes}.",
            "",
            _streams(results["streams"]),
        )
    )


def _orders_row(orders: dict[str, Any]) -> str:
    full, machine = middle(orders["points"], "rows_per_second"), orders["machine"]
    where = f"one order writer, beside it SQL and Redis on {machine['cores']} cores, {machine['date']}"
    return f"| an order, committed to {orders['sql']} | {where} | {full:,.0f}/s |"


def _streams(points: Sequence[dict[str, Any]]) -> str:
    lines = ["| event streams of one worker | share of its core | longest time without news |", "|---:|---:|---:|"]
    for streams in sorted({point["streams"] for point in points}):
        share = middle(points, "core_share", streams=streams)
        gap = f"{middle(points, 'longest_gap_seconds', streams=streams):.1f} s" if streams else ""
        lines.append(f"| {streams:,} | {share:.0%} | {gap} |")
    return "\n".join(lines)


def _rush(points: Sequence[dict[str, Any]]) -> str:
    lines = [
        "| half of 10,000 press within | | p50 ms | p95 ms | p99 ms | last ms | batches |",
        "|---:|---|---:|---:|---:|---:|---:|",
    ]
    for half_within in sorted({point["half_within_seconds"] for point in points}, reverse=True):
        found = [point for point in points if point["half_within_seconds"] == half_within]
        for kind in ("real", "simulated"):
            waits = (median(point[f"{kind}_ms"][place] for point in found) for place in range(4))
            batches = median(point[kind]["batches"] for point in found)
            cells = " | ".join(f"{wait:,.1f}" for wait in waits)
            lines.append(f"| {half_within} s | {kind} | {cells} | {batches:,.0f} |")
    return "\n".join(lines)


# What a plan says, and how each figure of it is written.
PLAN_ROWS = (
    ("units", "{stock:,}"),
    ("attempts a second, at the busiest moment", "{attempts_per_second:,.0f}"),
    ("web cores", "{web_cores:,}"),
    ("Redis: sales with a master of their own", "{sales:,}"),
    ("nginx cores for what is passed on", "{proxy_cores:,}"),
    ("more, if each shopper connects to press", "{handshake_cores:,}"),
    ("filled in the busiest moment: a web core, a Redis core", "{fullest_web:.0%}, {fullest_redis:.0%}"),
    ("answered within, half of all", "{p50_ms:,.1f} ms"),
    ("answered within, 99 of 100", "{p99_ms:,.1f} ms"),
    ("sold out after", "{sold_out}"),
    ("the same web cores, one sale", "{alone}"),
    ("status from copies", "{copies_per_second:,.0f}/s"),
    ("network of the web servers", "{origin_gigabits:,.2f} Gbit/s"),
    ("network of the copies, in all", "{edge_gigabytes:,.0f} GB"),
    ("orders are in SQL after", "{orders_seconds:,.1f} s"),
    ("purchases in Redis", "{redis_megabytes:,.1f} MB"),
    ("machines of two cores", "{rented}"),
    ("machines, three hours", "${machine_dollars:,.2f}"),
    ("a CDN's copies", "${edge_dollars:,.2f}"),
)


def plan_table(plans: Sequence[dict[str, Any]]) -> str:
    """Return a column for each plan."""
    told = [{**plan, "sold_out": _sold_out(plan), "alone": _one_sale(plan), "rented": _rented(plan)} for plan in plans]
    rows = [("", "{shoppers:,} shoppers"), *PLAN_ROWS]
    head, *lines = (f"| {words} | {' | '.join(form.format(**plan) for plan in told)} |" for words, form in rows)
    return "\n".join((head, "|---|" + "---:|" * len(plans), *lines))


def _rented(plan: dict[str, Any]) -> str:
    machines = plan["machines"]
    if "all" in machines:
        return f"{machines['all']} for all of it"
    kinds = ", ".join(f"{name} {number:,}" for name, number in machines.items())
    return f"{sum(machines.values()):,}: {kinds}"


def _sold_out(plan: dict[str, Any]) -> str:
    return "-" if plan["sold_out_seconds"] is None else f"{plan['sold_out_seconds']:.1f} s"


def _one_sale(plan: dict[str, Any]) -> str:
    alone = plan["one_sale"]
    if alone is None:
        return "as above" if plan["sales"] == 1 else "not simulated"
    return f"99 of 100 within {alone['p99_ms'] / 1000:,.2f} s, {alone['asked_again']:.0%} told to ask again"
