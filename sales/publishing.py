"""Mirror sales into Redis. Everything here may be repeated: the stock is computed from what is sold, never reset."""

import logging
from datetime import datetime
from typing import NamedTuple

from django.db import transaction
from django.utils import timezone

from sales import archive_mirror, directory_mirror, invited_mirror, store
from sales.clock import from_redis
from sales.models import Sale

# Of what an archived sale has let go, the order writer frees so much at a time: orders are to be written meanwhile.
EMPTYING_CALLS = 50

log = logging.getLogger(__name__)


class Standing(NamedTuple):
    """What Redis holds of a sale: units sold, units free (None when unknown there), configuration (empty likewise); and
    when it was read, by Redis's clock."""

    sold: int
    remaining_stock: int | None
    config: dict[str, str]
    read_at: datetime

    def is_mirrored(self, sale: Sale) -> bool:
        """Return whether Redis holds the sale as SQL has it."""
        return is_mirrored(sale, self.config)


class NotPublished(Exception):
    """Redis did not take the configuration, for the reason and with the remedy that the message gives."""


class BelowSold(NotPublished):
    """The total is below the units sold; `in_force` is the total that Redis goes on with."""

    def __init__(self, sold: int, in_force: int):
        super().__init__(f"{sold} units are sold already: set the total stock to {sold} or more.")
        self.in_force = in_force


class Lost(NotPublished):
    """Redis does not hold what was published there."""

    def __init__(self, sale: Sale, sold: int):
        super().__init__(
            f"Redis has lost data of this sale, or holds another one's: it knows of {sold} purchases, SQL of "
            f"{sale.valid_orders().count()} orders. The sale is closed: run manage.py restore_sale {sale.slug}"
        )


class Behind(NotPublished):
    """Redis holds purchases of an archived sale that SQL does not have."""

    def __init__(self, sale: Sale):
        super().__init__(
            f"Redis knows of more purchases of {sale.slug} than SQL has orders. It keeps them until the order writer "
            "has written the rest. See that manage.py write_orders runs."
        )


def publish(sale: Sale) -> Standing:
    """Mirror `sale` as SQL has it now, or take it from the shoppers when it is not published. Safe to repeat.

    Who publishes at the same time waits, so that the latest configuration is in force in the end.
    Raises BelowSold, Lost, Behind, or store.Unavailable when Redis cannot be reached.
    """
    with transaction.atomic():
        lock(sale)
        try:
            if sale.published or sale.first_published_at:
                _mirror(sale)
                invited_mirror.follow(sale)
            directory_mirror.list_sale(sale)
            is_due = archive_mirror.is_emptying(sale)
        except store.RedisError as error:
            raise store.Unavailable(str(error)) from error
        if sale.mirror_due and not is_due:
            sale.mirror_due = False
            sale.save(update_fields=["mirror_due"])
    return standing(sale)


def publish_archive(sale: Sale) -> None:
    """Mirror an archived sale, and return when Redis has its memory back, which takes some seconds for a million
    purchases. Safe to repeat, and to kill: the order writer finishes it. Raises as `publish`."""
    publish(sale)
    while archive_mirror.empty(sale):
        publish(sale)


def catch_up() -> int:
    """Publish the sales whose last change Redis has not taken, and return how many; the order writer does it once a
    second, so that SQL and Redis agree in the end, whoever died or was away in between.

    Safe to repeat. A sale that Redis has lost waits for restore_sale. Raises store.Unavailable, once it has tried all:
    another server may hold the next.
    """
    done = 0
    failure: store.Unavailable | None = None
    for sale in Sale.objects.filter(mirror_due=True):
        try:
            publish(sale)
            done += 1
            archive_mirror.empty(sale, EMPTYING_CALLS)
        except BelowSold as reason:
            keep_total_in_force(sale, reason)
            log.warning("%s: %s Its total stock stays %s.", sale.slug, reason, reason.in_force)
        except (Lost, Behind):
            continue
        except store.Unavailable as reason:
            failure = reason
    if failure:
        raise failure
    return done


def keep_total_in_force(sale: Sale, reason: BelowSold) -> None:
    """Give SQL back the total that Redis goes on with, unless somebody has set another one since."""
    Sale.objects.filter(pk=sale.pk, total_stock=sale.total_stock).update(total_stock=reason.in_force, mirror_due=True)


def lock(sale: Sale) -> None:
    """Read the sale anew, and keep others from publishing it until the transaction ends."""
    sale.refresh_from_db(from_queryset=Sale.objects.select_for_update())


def publish_all() -> list[tuple[Sale, Standing | NotPublished]]:
    """Mirror every sale, and return what came of each. Safe to repeat. Raises store.Unavailable."""
    results: list[tuple[Sale, Standing | NotPublished]] = []
    for sale in Sale.objects.all():
        try:
            results.append((sale, publish(sale)))
        except NotPublished as reason:
            results.append((sale, reason))
    try:
        directory_mirror.list_all(store.run_id_blocking())
    except store.RedisError as error:
        raise store.Unavailable(str(error)) from error
    return results


def is_mirrored(sale: Sale, config: dict[str, str]) -> bool:
    """Return whether a configuration is the sale's as SQL has it."""
    if not config and not sale.published:
        return True
    publication = {"archived" if sale.archived_at else "epoch": sale.epoch}
    expected = sale.mirror() | {"total_stock": sale.total_stock} | publication
    return all(config.get(name) == str(value) for name, value in expected.items())


def standing(sale: Sale) -> Standing:
    """Return what Redis holds of a sale. Raises store.Unavailable."""
    try:
        pipeline = store.pipeline(store.key(sale.id, "config"))
        pipeline.hlen(store.key(sale.id, "purchases"))
        pipeline.get(store.key(sale.id, "stock"))
        pipeline.hgetall(store.key(sale.id, "config"))
        pipeline.time()
        sold, stock, config, time = pipeline.execute()
    except store.RedisError as error:
        raise store.Unavailable(str(error)) from error
    texts = {name.decode(): value.decode() for name, value in config.items()}
    remaining_stock = None if stock is None else int(stock)
    if "archived" in texts:
        sold, remaining_stock = archive_mirror.units(texts)
    return Standing(sold, remaining_stock, texts, from_redis(time))


def stage(sale: Sale) -> None:
    """Mirror a new sale that SQL keeps unpublished, for those who know its address: a rehearsal.

    Raises store.RedisError.
    """
    _send(sale, sale.mirror() | {"published": 1, "is_rehearsal": 1})
    store.client().hset(store.REHEARSALS, sale.slug, directory_mirror.line_of(sale))


def unstage(sale: Sale) -> None:
    """Close a rehearsal: from now on nobody finds it, and nothing of it is sold. Safe to repeat. Raises as `stage`."""
    store.client().delete(store.key(sale.id, "config"))
    store.client().hdel(store.REHEARSALS, sale.slug)


def let_go(sale: Sale) -> None:
    """Have Redis let go of an archived sale. The caller holds its lock. Safe to repeat.

    Raises Lost, Behind, store.RedisError and django.db.DatabaseError.
    """
    outcome = archive_mirror.write(sale)
    if outcome == b"behind":
        raise Behind(sale)
    if outcome == b"lost":
        raise Lost(sale, standing(sale).sold)


def _mirror(sale: Sale) -> None:
    if sale.archived_at:
        let_go(sale)
        return
    outcome, sold = _send(sale, sale.mirror())
    if outcome == b"below_sold":
        raise BelowSold(sold, in_force=max(sold, int(standing(sale).config["total_stock"])))
    if outcome == b"lost":
        directory_mirror.list_sale(sale)  # so that shoppers hear `unavailable`, not that there is no such sale
        raise Lost(sale, sold)
    if sale.first_published_at is None:
        sale.first_published_at = timezone.now()
        sale.save(update_fields=["first_published_at"])


def _send(sale: Sale, config: dict[str, str | int]) -> tuple[bytes, int]:
    """Run the script, and return its outcome and the units sold."""
    outcome, sold = store.run_script_blocking(
        "publish",
        [store.key(sale.id, name) for name in ("config", "stock", "purchases", "orders")],
        [
            sale.total_stock,
            sale.epoch,
            int(sale.first_published_at is None),
            sale.valid_orders().count(),
            store.run_id_blocking(store.key(sale.id, "config")),
            store.WRITERS,
            *(word for pair in config.items() for word in pair),
        ],
    )
    return outcome, sold
