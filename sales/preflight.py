"""Prove before a sale that everything it needs is ready: each check says what it found, and what to do."""

from collections.abc import Callable
from typing import cast

from django.conf import settings
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from django.utils.functional import SimpleLazyObject

from flashsale.redaction import shown
from sales import continuity, deployment, directory_mirror, health, invited_mirror, publishing, redis_checks, store
from sales.clock import beside_utc, to_ms
from sales.findings import Finding, failure, ok, warning
from sales.models import Identity, Sale

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
    return found._replace(name=name, reason=shown(found.reason))


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
    if connection.vendor == "sqlite" and not deployment.is_local():
        reason = "Orders are in an SQLite file: other machines do not see it, and it is gone with a container."
        return warning(
            reason, "Set DATABASE_URL to a PostgreSQL server, unless one machine with a disk serves everything."
        )
    return ok(f"{connection.display_name} answers, and every migration has run.")


def _mirror(sale: Sale) -> Finding:
    standing = publishing.standing(sale)
    if not standing.is_mirrored(sale) or not directory_mirror.is_listed(sale):
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
        if sale.archived_at:
            return failure("Redis has lost what it shows of the archived sale.", "Run manage.py publish_sales.")
        if sale.first_published_at:
            return failure("The sale is closed: Redis has lost it.", f"Run manage.py restore_sale {sale.slug}.")
        return ok("The sale was never published: Redis has nothing to lose.")
    reason, run_id = continuity.closed_reason(config), store.run_id_blocking(store.key(sale.id, "config"))
    if not reason and config.get("run_id") != run_id:
        reason = continuity.confirm(sale.id, run_id)
    if reason:
        return failure(f"The sale is closed: {reason}", f"Run manage.py restore_sale {sale.slug}.")
    return ok("Redis has every order that SQL knows.")


def _window(sale: Sale) -> Finding:
    seconds, _ = redis_checks.server_of(sale).time()
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
    if sale.archived_at:
        doubts = [("It is archived: nobody can buy.", f"Run manage.py restore_sale {sale.slug}, then “Extend”.")]
    if doubts:
        return warning(" ".join(reason for reason, _ in doubts), " ".join(remedy for _, remedy in doubts))
    return ok(f"It starts on {beside_utc(sale.starts_at)}, and ends on {beside_utc(sale.ends_at)}.")


def _stock(sale: Sale) -> Finding:
    sold = publishing.standing(sale).sold
    left = sale.total_stock - sold
    if left <= 0:
        return warning(f"All {sale.total_stock:,} units are sold.", "Choose “Add stock” on its page if there are more.")
    return ok(f"{left:,} of {sale.total_stock:,} units are for sale.")


def _invitations(sale: Sale) -> Finding:
    if sale.identity != Identity.INVITED:
        return ok("The sale has no list of invited shoppers.")
    invited = sale.invited().count()
    if not invited:
        return failure("Nobody is invited: the list is empty.", "Upload the list: “Invitations” on its page.")
    if difference := invited_mirror.difference(sale):
        remedy = "Wait for the order writer, which mirrors it. If this stays, run manage.py audit_sale --repair."
        return failure(f"Redis does not hold the list as SQL has it: {difference}.", remedy)
    return ok(f"{invited:,} shoppers are invited, and Redis knows them.")


def _who_may_buy(sale: Sale) -> Finding:
    """Tell whether codes that confirm an address go out. Whether they arrive, only a mail shows."""
    if sale.identity == Identity.OPEN:
        return ok("Everybody may buy: a name is believed as it is typed.")
    needs = "Only who has confirmed an e-mail address may buy, by a code in a mail"
    remedy = "Set EMAIL_URL to your mail server; or see that every shopper comes from the sale's partner."
    kind = settings.EMAIL_BACKEND.split(".")[-2]
    if kind == "dummy":
        return warning(f"{needs}, and no mail goes out.", remedy)
    if kind == "console" and settings.HTTPS:
        return warning(f"{needs}, and mails are printed here instead of sent.", remedy)
    if kind == "smtp":
        return ok(f"{needs}, which goes out by {settings.EMAIL_HOST}.")
    return ok(f"{needs}, which is printed here.")


def _writer(sale: Sale) -> Finding:
    remedy = "Start manage.py write_orders; until then orders wait in Redis, and nothing is lost."
    entry = health.writer_blocking()
    if entry["status"] == "unavailable":
        raise store.Unavailable(entry["reason"])
    late = f"{entry['backlog']:,} purchases wait for the order writer, the oldest for {entry['lagMs'] / 1000:.0f} s."
    if entry["status"] != "ok":
        return failure(late, remedy)
    stream = store.key(sale.id, "orders")
    if sale.archived_at:
        return ok("The sale is archived: SQL has all its orders.")
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
    "Redis": redis_checks.check_connection,
    "durability": redis_checks.check_durability,
    "failover": redis_checks.check_failover,
    "clock": redis_checks.check_clock,
    "script": redis_checks.check_script,
    "writing": redis_checks.check_writable,
    "SQL": _sql,
    "mirror": _mirror,
    "continuity": _continuity,
    "window": _window,
    "stock": _stock,
    "invitations": _invitations,
    "who may buy": _who_may_buy,
    "memory": redis_checks.check_memory,
    "order writer": _writer,
}
