"""Prove before a sale that everything it needs is ready: each check says what it found, and what to do."""

import time
from collections.abc import Callable
from typing import Any, cast
from urllib.parse import urlsplit

import psutil
from django.conf import settings
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from django.template.defaultfilters import filesizeformat
from django.utils.functional import SimpleLazyObject

from sales import continuity, deployment, durability, health, publishing, store
from sales.clock import beside_utc, to_ms
from sales.findings import Finding, failure, ok, warning
from sales.models import Sale

# docs/performance.md: a purchase with its idempotency key takes 147 bytes, and 213 until its order is written.
BYTES_PER_PURCHASE = 215
# Who looks at the sale's page compares its own clock with Redis's, so that seconds do no harm; operators see both.
CLOCKS_AGREE_SECONDS = 1.0
CLOCKS_DIFFER_SECONDS = 30.0
# An order writer reads each stream about twice a second.
WRITER_IS_GONE_MS = 5_000


def run(find: Callable[[], Sale]) -> list[Finding]:
    """Return what every check finds of the sale that `find` reads from SQL, or of that SQL fails. Raises nothing."""
    sale = cast(Sale, SimpleLazyObject(find))
    return [_look(name, check, sale) for name, check in CHECKS.items()] + deployment.findings()


def _look(name: str, check: Callable[[Sale], Finding], sale: Sale) -> Finding:
    try:
        found = check(sale)
    except (store.Failure, store.RedisError) as error:
        found = failure(f"Not checked, because Redis failed: {error}", "Mend Redis, then check again.")
    except DatabaseError as error:
        found = failure(f"Not checked, because SQL failed: {str(error).strip()}", "Mend SQL, then check again.")
    return found._replace(name=name)


def _redis(sale: Sale) -> Finding:
    try:
        info = store.client().info("replication")
        started = time.monotonic()
        store.client().ping()
        took_ms = (time.monotonic() - started) * 1000
    except store.RedisError as error:
        return failure(f"Redis cannot be reached: {error}", "Start it, or correct REDIS_URL.")
    if info["role"] != "master":
        return failure("This Redis is a replica, which takes no purchases.", "Set REDIS_URL to its primary.")
    return ok(f"Redis answers in {took_ms:.1f} ms.")


def _durability(sale: Sale) -> Finding:
    found = durability.check()
    if found == durability.UNKNOWN:
        expected = ", ".join(f"{name} {value}" for name, value in durability.EXPECTED.items())
        return warning("This Redis does not tell its settings.", f"Make sure that they are: {expected}.")
    if found != "ok":
        return failure(f"Acknowledged purchases may be lost: {found}.", "Set this in Redis's configuration.")
    return ok("Every purchase is on disk before it is answered.")


def _clock(sale: Sale) -> Finding:
    before = time.time()
    seconds, microseconds = store.client().time()
    ahead = seconds + microseconds / 1e6 - (before + time.time()) / 2
    words = f"Redis's clock, which opens the sale, is {abs(ahead):.1f} s {'ahead of' if ahead > 0 else 'behind'}"
    remedy = "Synchronise both machines' clocks (NTP)."
    if abs(ahead) > CLOCKS_DIFFER_SECONDS:
        return failure(f"{words} this machine's.", remedy)
    if abs(ahead) > CLOCKS_AGREE_SECONDS:
        return warning(f"{words} this machine's.", remedy)
    return ok(f"Redis's clock and this machine's agree to {abs(ahead) * 1000:.0f} ms.")


def _script(sale: Sale) -> Finding:
    """Load the script where it is missing, as the first purchase would: what can go wrong with it does so now."""
    source = store.script("purchase")
    try:
        if store.client().script_exists(source.sha)[0]:
            return ok("Redis has the purchase script.")
        store.client().script_load(source.text)
    except store.ResponseError as error:
        return failure(f"Redis does not take the purchase script: {error}", "Allow EVALSHA and SCRIPT to this user.")
    return ok("Redis had no purchase script, and has it now.")


def _sql(sale: Sale) -> Finding:
    try:
        executor = MigrationExecutor(connection)
        plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    except DatabaseError as error:
        return failure(f"SQL cannot be used: {str(error).strip()}", "Start it, or correct DATABASE_URL.")
    if plan:
        names = ", ".join(f"{migration.app_label} {migration.name}" for migration, _ in plan[:3])
        more = f" and {len(plan) - 3} more" if len(plan) > 3 else ""
        return failure(f"Migrations have not run: {names}{more}.", "Run manage.py migrate.")
    return ok(f"{connection.display_name} answers, and every migration has run.")


def _mirror(sale: Sale) -> Finding:
    standing = publishing.standing(sale)
    if not standing.is_mirrored(sale) or not publishing.is_listed(sale):
        return failure("Redis does not hold the sale as SQL has it.", "Run manage.py publish_sales.")
    if not sale.published:
        return ok("The sale is not published, and Redis shows it to nobody.")
    if (standing.remaining_stock or 0) + standing.sold != sale.total_stock:
        reason = f"{standing.remaining_stock} remaining and {standing.sold} sold are not the total {sale.total_stock}."
        return failure(reason, f"Run manage.py audit_sale {sale.slug} --repair.")
    return ok("Redis holds the sale as SQL has it.")


def _continuity(sale: Sale) -> Finding:
    """Compare Redis with SQL where it has started again since, as the next request would."""
    config = publishing.standing(sale).config
    if not config:
        if sale.first_published_at:
            return failure("The sale is closed: Redis has lost it.", f"Run manage.py restore_sale {sale.slug}.")
        return ok("The sale was never published: Redis has nothing to lose.")
    reason, run_id = continuity.closed_reason(config), store.run_id_blocking()
    if not reason and config.get("run_id") != run_id:
        reason = continuity.confirm(sale.id, run_id)
    if reason:
        return failure(f"The sale is closed: {reason}", f"Run manage.py restore_sale {sale.slug}.")
    return ok("Redis has every order that SQL knows.")


def _window(sale: Sale) -> Finding:
    seconds, _ = store.client().time()
    now_ms, starts_ms, ends_ms = seconds * 1000, to_ms(sale.starts_at), to_ms(sale.ends_at)
    doubts = []
    if not sale.published:
        doubts.append(("It is not published: nobody sees it.", "Choose “Publish” on its page."))
    if sale.paused:
        doubts.append(("It is paused: nobody can buy.", "Choose “Resume” on its page."))
    if ends_ms <= now_ms:
        doubts.append((f"It ended on {beside_utc(sale.ends_at)}.", "Choose “Extend” on its page."))
    elif starts_ms <= now_ms:
        doubts.append((f"It started on {beside_utc(sale.starts_at)}.", "Nothing to do, if it is to sell already."))
    if doubts:
        return warning(" ".join(reason for reason, _ in doubts), " ".join(remedy for _, remedy in doubts))
    return ok(f"It starts on {beside_utc(sale.starts_at)}, and ends on {beside_utc(sale.ends_at)}.")


def _stock(sale: Sale) -> Finding:
    sold = publishing.standing(sale).sold
    left = sale.total_stock - sold
    if left <= 0:
        return warning(f"All {sale.total_stock:,} units are sold.", "Choose “Add stock” on its page if there are more.")
    return ok(f"{left:,} of {sale.total_stock:,} units are for sale.")


def _memory(sale: Sale) -> Finding:
    left = max(0, sale.total_stock - publishing.standing(sale).sold)
    needed, (free, whose) = left * BYTES_PER_PURCHASE, _free_bytes()
    words = f"{left:,} purchases take {filesizeformat(needed)}, and {filesizeformat(free)} are free ({whose})."
    remedy = "Give Redis more memory, or raise its maxmemory: when it is full, nothing is sold."
    if needed > free:
        return failure(words, remedy)
    if needed > free / 2:  # while Redis rewrites its append-only file it may need what it holds once more
        return warning(words, remedy)
    return ok(words)


def _free_bytes() -> tuple[int, str]:
    info: dict[str, Any] = store.client().info("memory")
    if info["maxmemory"]:
        return max(0, info["maxmemory"] - info["used_memory"]), "Redis's maxmemory"
    if (urlsplit(settings.REDIS_URL).hostname or "localhost") in deployment.LOCAL_HOSTS:
        return psutil.virtual_memory().available, "this machine"
    return max(0, info["total_system_memory"] - info["used_memory_rss"]), "Redis's machine, if it is alone there"


def _writer(sale: Sale) -> Finding:
    remedy = "Start manage.py write_orders; until then orders wait in Redis, and nothing is lost."
    entry = health.writer_blocking()
    if entry["status"] == "unavailable":
        raise store.Unavailable(entry["reason"])
    late = f"{entry['backlog']:,} purchases wait for the order writer, the oldest for {entry['lagMs'] / 1000:.0f} s."
    if entry["status"] != "ok":
        return failure(late, remedy)
    stream = store.key(sale.id, "orders")
    if not store.client().exists(stream):
        return ok("There is no stream yet: the sale was never published.")
    writers = store.client().xinfo_consumers(stream, store.WRITERS)
    if writers and "inactive" not in writers[0]:
        return warning("A Redis before 7.2 does not tell whether the order writer lives.", "See it write: --rehearse.")
    if not any(writer["idle"] < WRITER_IS_GONE_MS for writer in writers):
        return failure(f"No order writer has looked at this sale for {WRITER_IS_GONE_MS // 1000} s.", remedy)
    if entry["backlog"]:
        return warning(late, "Check again in a moment: it should have written them.")
    return ok("The order writer is at work, and nothing waits for it.")


CHECKS: dict[str, Callable[[Sale], Finding]] = {
    "Redis": _redis,
    "durability": _durability,
    "clock": _clock,
    "script": _script,
    "SQL": _sql,
    "mirror": _mirror,
    "continuity": _continuity,
    "window": _window,
    "stock": _stock,
    "memory": _memory,
    "order writer": _writer,
}
