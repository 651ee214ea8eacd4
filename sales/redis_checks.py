"""What Redis itself must have and be before a sale: the checks of the preflight that are about it."""

import time
from typing import Any
from urllib.parse import urlsplit

import psutil
from django.conf import settings
from django.template.defaultfilters import filesizeformat

from sales import deployment, durability, publishing, store
from sales.findings import Finding, failure, ok, warning
from sales.models import Sale

# docs/performance.md: a purchase with its idempotency key takes 147 bytes, and 213 until its order is written.
BYTES_PER_PURCHASE = 215
# Who looks at the sale's page compares its own clock with Redis's, so that seconds do no harm; operators see both.
CLOCKS_AGREE_SECONDS = 1.0
CLOCKS_DIFFER_SECONDS = 30.0


def check_connection(sale: Sale) -> Finding:
    try:
        took_ms, roles = 0.0, set()
        for client in store.servers().values():
            roles.add(client.info("replication")["role"])
            started = time.monotonic()
            client.ping()
            took_ms = max(took_ms, (time.monotonic() - started) * 1000)
    except store.RedisError as error:
        return failure(f"Redis cannot be reached: {error}", "Start it, or correct REDIS_URL.")
    if roles != {"master"}:
        return failure("This Redis is a replica, which takes no purchases.", "Set REDIS_URL to its primary.")
    if not settings.REDIS_ADDRESS.is_verified:
        reason = "Redis's certificate is not verified: whoever is in between can read and change everything."
        return warning(
            reason, "Name who vouches for it in REDIS_URL, with ssl_ca_certs, in place of ssl_cert_reqs=none."
        )
    return ok(f"Redis answers in {took_ms:.1f} ms.")


def check_durability(sale: Sale) -> Finding:
    found = durability.check()
    if found == durability.UNKNOWN:
        expected = ", ".join(f"{name} {value}" for name, value in durability.EXPECTED.items())
        return warning("This Redis does not tell its settings.", f"Make sure that they are: {expected}.")
    if found != "ok":
        return failure(f"Acknowledged purchases may be lost: {found}.", "Set this in Redis's configuration.")
    return ok("Every purchase is on disk before it is answered.")


def check_failover(sale: Sale) -> Finding:
    """Tell what a replica that takes over may miss of what its master has answered (docs/redis.md)."""
    if settings.REDIS_ADDRESS.kind == "single":
        return ok("One server decides. If its host puts another in its place: docs/redis.md tells what that may lose.")
    alone, unbounded = [], []
    for name, client in store.servers().items():
        if not client.info("replication")["connected_slaves"]:
            alone.append(name)
        elif not _needs_replica(client):
            unbounded.append(name)
    if alone:
        reason = f"No replica follows {', '.join(alone)}: what dies with it stands still until it is back."
        return warning(reason, "Start a replica on another machine.")
    if unbounded:
        reason = (
            f"min-replicas-to-write is not set on {', '.join(unbounded)}: one that is cut off sells what will be lost."
        )
        return warning(reason, "Set it to 1, and min-replicas-max-lag to 2, or accept that: docs/redis.md tells both.")
    return ok("Every master has a replica in reach, or takes no purchase.")


def _needs_replica(client: Any) -> bool:
    try:
        return client.config_get("min-replicas-to-write").get("min-replicas-to-write", "0") != "0"
    except store.ResponseError:  # CONFIG is forbidden: `check_durability` says so
        return True


def check_clock(sale: Sale) -> Finding:
    before = time.time()
    seconds, microseconds = server_of(sale).time()
    ahead = seconds + microseconds / 1e6 - (before + time.time()) / 2
    words = f"Redis's clock, which opens the sale, is {abs(ahead):.1f} s {'ahead of' if ahead > 0 else 'behind'}"
    remedy = "Synchronise both machines' clocks (NTP)."
    if abs(ahead) > CLOCKS_DIFFER_SECONDS:
        return failure(f"{words} this machine's.", remedy)
    if abs(ahead) > CLOCKS_AGREE_SECONDS:
        return warning(f"{words} this machine's.", remedy)
    return ok(f"Redis's clock and this machine's agree to {abs(ahead) * 1000:.0f} ms.")


def check_script(sale: Sale) -> Finding:
    """Load the script where it is missing, as the first purchase would: what can go wrong with it does so now."""
    source = store.script("purchase")
    try:
        if server_of(sale).script_exists(source.sha)[0]:
            return ok("Redis has the purchase script.")
        server_of(sale).script_load(source.text)
    except store.ResponseError as error:
        return failure(f"Redis does not take the purchase script: {error}", "Allow EVALSHA and SCRIPT to this user.")
    return ok("Redis had no purchase script, and has it now.")


def check_writable(sale: Sale) -> Finding:
    writable = store.script("writable").text
    try:
        server_of(sale).eval(writable, 1, store.key(sale.id, "config"))
    except store.RedisError as error:
        told = str(error).partition(" script: ")[0]
        return failure(f"Redis takes no purchase: {told}", "Give it what it misses: memory, its disk, or its replicas.")
    return ok("Redis takes purchases.")


def check_memory(sale: Sale) -> Finding:
    left = max(0, sale.total_stock - publishing.standing(sale).sold)
    needed, (free, whose) = left * BYTES_PER_PURCHASE, _free_bytes(sale)
    words = f"{left:,} purchases take {_size(needed)}, and {_size(free)} are free ({whose})."
    remedy = "Give Redis more memory, or raise its maxmemory: when it is full, nothing is sold."
    if needed > free:
        return failure(words, remedy)
    if needed > free / 2:  # while Redis rewrites its append-only file it may need what it holds once more
        return warning(words, remedy)
    return ok(words)


def _size(size_bytes: int) -> str:
    """Return a size as text. A no-break space, as Django has it, would be written out as no printable character."""
    return filesizeformat(size_bytes).replace("\xa0", " ")


def server_of(sale: Sale) -> Any:
    """Return a client of the server that holds, or is to hold, the sale."""
    return store.server_of(store.key(sale.id, "config"))


def _free_bytes(sale: Sale) -> tuple[int, str]:
    info: dict[str, Any] = server_of(sale).info("memory")
    if info["maxmemory"]:
        return max(0, info["maxmemory"] - info["used_memory"]), "Redis's maxmemory"
    if settings.REDIS_ADDRESS.kind == "single" and (urlsplit(settings.REDIS_URL).hostname or "localhost") in (
        deployment.LOCAL_HOSTS
    ):
        return psutil.virtual_memory().available, "this machine"
    return max(0, info["total_system_memory"] - info["used_memory_rss"]), "Redis's machine, if it is alone there"
