"""Have Redis take what an operator has changed, and tell what came of it."""

from typing import NamedTuple

from sales import cancelling, publishing, store
from sales.models import Sale

NOT_IN_FORCE = (
    "It is saved, but not in force: Redis cannot be reached. Nothing is sold until it is back; should only this server "
    "have lost it, shoppers have the sale as it was. You need not repeat this: it takes effect when Redis is back. "
    "See then that “Mirror” says “in Redis”."
)


class Told(NamedTuple):
    """What came of mirroring a sale: whether it is in force, and the sentence for the operator."""

    is_in_force: bool
    sentence: str


def mirror(sale: Sale) -> Told:
    """Mirror the sale as SQL has it, and return what to tell the operator. Safe to repeat.

    What Redis does not take now, the order writer gives it as soon as it can.
    """
    try:
        standing = publishing.publish(sale)
    except store.Unavailable:
        return Told(False, NOT_IN_FORCE)
    except publishing.NotPublished as reason:
        if isinstance(reason, publishing.BelowSold):  # sold since it was checked: SQL keeps what is in force
            publishing.keep_total_in_force(sale, reason)
        return Told(False, f"Shoppers see the sale as it was: {reason}")
    if not sale.published:
        return Told(True, "It is hidden from shoppers.")
    return Told(True, f"It is in force: {standing.sold} sold, {standing.remaining_stock} remaining.")


def enforce(sale: Sale) -> Told:
    """Have Redis take the sale's cancellations, and return what to tell the operator. Safe to repeat, as `mirror`."""
    try:
        cancelling.enforce(sale)
        standing = publishing.standing(sale)
    except (store.Unavailable, publishing.NotPublished) as reason:
        why = "Redis cannot be reached." if isinstance(reason, store.Unavailable) else str(reason)
        return Told(
            False,
            f"It is saved, but not in force: {why} You need not repeat this: it takes effect when that is mended.",
        )
    return Told(True, f"It is in force: {standing.sold} sold, {standing.remaining_stock} remaining.")
