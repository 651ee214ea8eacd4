"""Rehearse a sale: a crowd buys in a sale of its own, which nobody else finds, and nothing of it stays.

SQL holds the rehearsal unpublished, and Redis outside the directory of sales, so that it is in no list, on no page, and
never the current sale. The web workers find it by its slug alone, which nobody can guess; all else is as in any sale.
"""

import secrets
import signal
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from types import FrameType

from django.conf import settings
from django.db import DatabaseError, transaction

from sales import crowd, deployment, directory, publishing, store
from sales.audit import audit
from sales.crowd import Attempt
from sales.deployment import LOCAL_HOSTS
from sales.findings import Finding, failure, ok, warning
from sales.models import Sale, ShopperCount

SHOPPERS, UNITS = 200, 20
# Then it has ended by itself, and the next rehearsal removes what is left of it.
LASTS = timedelta(minutes=2)
SLUG = r"^rehearsal-[0-9a-f]{32}$"
# For the order writer to write what was bought, and then to stop looking at the stream.
WRITER_WRITES_SECONDS = 3.0
WRITER_LETS_GO_SECONDS = 1.2
STOPPING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

ANSWERS = {"purchased", "already_purchased", "sold_out"}
DEFECT = "Do not open the sale: this is a defect. docs/reliability.md tells how to look for it."
START_WRITER = "Start manage.py write_orders, or another if it is behind; then rehearse again."


def rehearse(address: str = "") -> list[Finding]:
    """Return what a rehearsal with the web server at `address` finds, by default the one of this machine.

    Nothing of it stays in Redis and SQL, also when it fails, or when a signal stops it. For the main thread, because of
    the signals. Safe to repeat.
    """
    sale = Sale(name="Rehearsal", slug=f"rehearsal-{secrets.token_hex(16)}", total_stock=UNITS, published=False)
    findings: list[Finding] = []
    with _stops_become_interrupts():
        try:
            for leftover in _leftovers():
                _remove(leftover)
            findings = _play(sale, [address] if address else deployment.own_addresses(), "" if address else _own_host())
        except crowd.Refused as refused:
            findings = [failure(refused.reason, refused.remedy)._replace(name="rehearsal")]
        except (store.Failure, store.RedisError, DatabaseError) as error:
            reason = f"The rehearsal broke off: {str(error).strip()}"
            findings = [failure(reason, "Mend that, then rehearse again.")._replace(name="rehearsal")]
        except KeyboardInterrupt:
            stopped = failure("The rehearsal was stopped: nothing is proven.", "Rehearse again.")
            findings = [stopped._replace(name="rehearsal")]
        finally:
            _ignore_stops()
            removal = _removal(sale)._replace(name="no trace")
    return [*findings, removal]


def _play(sale: Sale, addresses: list[str], host: str) -> list[Finding]:
    seconds, _ = store.client().time()
    sale.starts_at = datetime.fromtimestamp(seconds - 1, UTC)
    sale.ends_at = sale.starts_at + LASTS
    sale.save()
    publishing.stage(sale)
    time.sleep(directory.OLDEST_SECONDS)  # each web worker reads the sales anew by then
    address = crowd.find(addresses, host, sale.slug)
    began = time.monotonic()
    attempts = crowd.send(address, host, sale.slug, SHOPPERS)
    return _judge(attempts, time.monotonic() - began, sale)


def _judge(attempts: Sequence[Attempt], took_seconds: float, sale: Sale) -> list[Finding]:
    standing = publishing.standing(sale)
    found = {
        "answers": _answers(attempts, took_seconds),
        "never oversold": _never_oversold(attempts, standing),
        "one per shopper": _one_per_shopper(attempts),
        "every unit sold": _every_unit_sold(attempts, standing),
        "no drift": _no_drift(attempts, sale),
    }
    return [finding._replace(name=name) for name, finding in found.items()]


def _answers(attempts: Sequence[Attempt], took_seconds: float) -> Finding:
    codes = Counter(attempt.code for attempt in attempts)
    odd = ", ".join(f"{code} {count} times" for code, count in codes.items() if code not in ANSWERS)
    if set(codes) - ANSWERS == {"rate_limited"}:
        return warning(
            f"Not every shopper was heard within {crowd.WITHIN_SECONDS:.0f} s: {odd}.",
            "The crowd has but one address: rehearse with a higher ADDRESS_RATE to prove more.",
        )
    if odd:
        return failure(
            f"Of {len(attempts)} attempts, some were not decided: {odd}.", "See /health and the server's log."
        )
    return ok(f"{SHOPPERS} shoppers made {len(attempts)} attempts in {took_seconds:.1f} s, limits included.")


def _never_oversold(attempts: Sequence[Attempt], standing: publishing.Standing) -> Finding:
    orders = {attempt.order_id for attempt in attempts if attempt.order_id}
    words = f"{len(orders)} orders of {UNITS} units were told, and Redis holds {standing.sold}."
    if max(len(orders), standing.sold) > UNITS or len(orders) > standing.sold:
        return failure(words, DEFECT)
    return ok(words)


def _one_per_shopper(attempts: Sequence[Attempt]) -> Finding:
    orders, wins = defaultdict(set), Counter[str]()
    for attempt in attempts:
        if attempt.order_id:
            orders[attempt.user_id].add(attempt.order_id)
        wins[attempt.user_id] += attempt.code == "purchased"
    twice = [user for user in wins if wins[user] > 1 or len(orders[user]) > 1]
    held = [order_id for orders_held in orders.values() for order_id in orders_held]
    if twice or len(set(held)) < len(held):
        words = f"{len(twice)} shoppers got two units, and {len(held) - len(set(held))} orders have two shoppers."
        return failure(words, DEFECT)
    return ok("Everybody pressed twice, and nobody got two units.")


def _every_unit_sold(attempts: Sequence[Attempt], standing: publishing.Standing) -> Finding:
    left = standing.remaining_stock
    if left == 0 and standing.sold == UNITS:
        return ok(f"All {UNITS} units are sold.")
    if all(attempt.code in ANSWERS for attempt in attempts):
        return failure(f"{left} units are left, though there were shoppers for all.", DEFECT)
    return warning(f"{left} units are left, because not every shopper was heard.", "Mend what is told above.")


def _no_drift(attempts: Sequence[Attempt], sale: Sale) -> Finding:
    result = audit(sale)
    if result.drift:
        drift = "; ".join(f"{kind.replace('_', ' ')}, like {found[0]}" for kind, found in result.drift.items())
        is_late = list(result.drift) == ["purchases_without_order"]
        return failure(f"Redis, stream and SQL differ: {drift}.", START_WRITER if is_late else DEFECT)
    told = {attempt.order_id for attempt in attempts if attempt.order_id}
    if lost := told - set(sale.orders.values_list("order_id", flat=True)):
        return failure(f"{len(lost)} orders that shoppers were told of are not in SQL, like {min(lost)}.", DEFECT)
    return ok(f"The order writer wrote {result.orders} orders, and Redis, stream and SQL agree.")


def _removal(sale: Sale) -> Finding:
    try:
        _remove(sale)
        left = [key.decode() for key in _keys(sale)]
    except (store.RedisError, DatabaseError) as error:
        return failure(
            f"Something of the rehearsal stays: {str(error).strip()}",
            "Mend that, then rehearse again: it is removed first. Shoppers see nothing of it.",
        )
    if left:
        return failure(f"Redis still holds {', '.join(left)}.", "Rehearse again: it is removed first.")
    return ok("Nothing of the rehearsal is left in Redis and SQL.")


def _leftovers() -> list[Sale]:
    """Return rehearsals that have ended and are still there: their process was killed, or Redis or SQL was away."""
    seconds, _ = store.client().time()
    found = {sale.slug: sale for sale in Sale.objects.filter(slug__regex=SLUG, published=False)}
    for slug, line in store.client().hgetall(store.REHEARSALS).items():
        sale_id, _, ends_ms = map(int, line.split())
        if Sale.objects.filter(pk=sale_id).exclude(slug=slug.decode()).exists():
            store.client().hdel(store.REHEARSALS, slug)  # SQL is another one than then: the ID is a real sale's now
        else:
            sale = Sale(id=sale_id, slug=slug.decode(), ends_at=datetime.fromtimestamp(ends_ms / 1000, UTC))
            found.setdefault(sale.slug, sale)
    return [sale for sale in found.values() if sale.ends_at.timestamp() < seconds]


def _remove(sale: Sale) -> None:
    """Remove a rehearsal: first what lets it sell, last what the order writer may still look at. Safe to repeat.

    Raises store.RedisError and django.db.DatabaseError; the next rehearsal then removes the rest.
    """
    if not sale.id:  # interrupted while it was saved
        sale.id = Sale.objects.filter(slug=sale.slug).values_list("id", flat=True).first() or 0
    if not sale.id:
        return
    try:
        publishing.unstage(sale)
        _wait_for_writer(sale)
    finally:
        with transaction.atomic():
            list(Sale.objects.select_for_update().filter(pk=sale.pk))  # who counts its attempts waits, or is waited for
            for rows in (sale.orders, sale.quarantined, sale.missing_orders, sale.attempt_counts):
                rows.all().delete()
            ShopperCount.objects.filter(sale_id=sale.pk).delete()
            Sale.objects.filter(pk=sale.pk, slug__regex=SLUG).delete()
    time.sleep(WRITER_LETS_GO_SECONDS)
    for key in _keys(sale):
        store.client().unlink(key)


def _wait_for_writer(sale: Sale) -> None:
    """Wait, but not for long, until no order writer has an entry of the stream in its hands."""
    stream, deadline = store.key(sale.id, "orders"), time.monotonic() + WRITER_WRITES_SECONDS
    while store.client().exists(stream) and time.monotonic() < deadline:
        (group,) = store.client().xinfo_groups(stream)
        if not group["pending"] and not group["lag"]:
            return
        time.sleep(0.1)


def _keys(sale: Sale) -> Iterator[bytes]:
    """Yield all of the sale's keys, whoever made them."""
    return store.server_of(store.key(sale.id, "config")).scan_iter(match=store.key(sale.id, "*"), count=1_000)


def _own_host() -> str:
    """Return the name by which the server of this machine is to be asked, if it does not serve its address."""
    names = settings.ALLOWED_HOSTS
    return "" if not names or {"*", *LOCAL_HOSTS} & set(names) else names[0].lstrip(".")


@contextmanager
def _stops_become_interrupts() -> Iterator[None]:
    """Let every signal that would stop the process do what Ctrl-C does, which asyncio knows to handle."""
    before = {number: signal.signal(number, _interrupt) for number in STOPPING_SIGNALS}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(number: int, frame: FrameType | None) -> None:
    signal.raise_signal(signal.SIGINT)


def _ignore_stops() -> None:
    for number in STOPPING_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
