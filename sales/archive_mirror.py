"""What Redis holds of an archived sale: its configuration alone, with the units sold, and without a stock to sell."""

from collections.abc import Sequence
from contextlib import suppress
from math import inf

from sales import store
from sales.models import Sale
from sales.paging import AT_ONCE

# What may have a member for each shopper. Redis lets go of it in one step, by giving it another name, and it is emptied
# some members at a time: freed as a whole, even beside Redis's main thread, it would hold that one up.
LARGE = ("purchases", "orders", "keys", "barred", "invited", "invited_next", "invited_before")
# Everything of a sale but its configuration. Rate limits go by themselves.
FREED = ("stock", "attempts", "shoppers", "shoppers:restored", "invited_list", "invited_by", *LARGE)
EMPTIED = tuple(f"freed:{name}" for name in LARGE)


def write(sale: Sale) -> bytes:
    """Have Redis let go of what SQL holds of an archived sale, and mirror the rest; `empty` then frees the memory, or
    the order writer does. Safe to repeat.

    The caller holds the sale's lock. Returns the script's word; but for `archived` nothing was done. Raises
    store.RedisError and django.db.DatabaseError.
    """
    config = sale.mirror() | {"total_stock": sale.total_stock}
    words = (word for pair in config.items() for word in pair)
    run_id = store.run_id_blocking(store.key(sale.id, "config"))
    args = [sale.epoch, run_id, len(LARGE), sale.valid_orders().count(), *words]
    outcome: bytes = store.run_script_blocking("archive", _keys(sale), args)
    if (outcome == b"behind" or is_emptying(sale)) and not sale.mirror_due:
        sale.mirror_due = True
        sale.save(update_fields=["mirror_due"])
    return outcome


def is_emptying(sale: Sale) -> bool:
    """Return whether Redis still holds something that it has let go. Raises store.RedisError."""
    return bool(store.client().exists(*(store.key(sale.id, name) for name in EMPTIED)))


def empty(sale: Sale, calls: float = inf) -> bool:
    """Free what Redis has let go, in that many calls at most; return whether there was something.

    Purchases go on in between. Safe to repeat, to kill anywhere and to run in several processes. Raises
    store.Unavailable.
    """
    was_there = False
    try:
        for name in EMPTIED:
            key, cursor = store.key(sale.id, name), b"0"
            while calls > 0 and (cursor != b"0" or store.client().exists(key)):
                cursor = store.run_script_blocking("empty", [key], [cursor, AT_ONCE])
                was_there, calls = True, calls - 1
    except store.RedisError as error:
        raise store.Unavailable(str(error)) from error
    return was_there


def units(config: dict[str, str]) -> tuple[int, int]:
    """Return the units sold and those left of an archived sale."""
    sold = int(config["sold"])
    return sold, max(0, int(config["total_stock"]) - sold)


def held_bytes(sale: Sale) -> int:
    """Return the memory that the sale takes in Redis. Raises store.RedisError."""
    pipeline = store.pipeline(store.key(sale.id, "config"), transaction=False)
    for key in _keys(sale):
        pipeline.memory_usage(key)
    return sum(found or 0 for found in pipeline.execute())


def left(sale: Sale) -> list[str]:
    """Return what is still in Redis of what an archived sale has there no more. Raises store.RedisError."""
    pipeline = store.pipeline(store.key(sale.id, "config"), transaction=False)
    for key in _keys(sale)[1:]:
        pipeline.exists(key)
    return [name for name, exists in zip((*FREED, *EMPTIED), pipeline.execute(), strict=True) if exists]


def note_lost() -> None:
    """Have the order writer mirror the archived sales that Redis does not hold as such, or of which it says nothing.

    Raises django.db.DatabaseError.
    """
    epochs = dict(Sale.objects.filter(archived_at__isnull=False).values_list("id", "epoch"))
    held: list[int] = []

    def look(sale_ids: Sequence[int]) -> int:
        pipeline = store.pipeline(store.key(sale_ids[0], "config"), transaction=False)
        for sale_id in sale_ids:
            pipeline.hget(store.key(sale_id, "config"), "archived")
        found = zip(sale_ids, pipeline.execute(), strict=True)
        held.extend(sale_id for sale_id, archived in found if archived == epochs[sale_id].encode())
        return len(sale_ids)

    with suppress(store.RedisError):
        store.for_each_server(epochs, look)
    Sale.objects.filter(pk__in=epochs.keys() - set(held)).update(mirror_due=True)


def _keys(sale: Sale) -> list[str]:
    return [store.key(sale.id, name) for name in ("config", *FREED, *EMPTIED)]
