"""How a sale is right now, or an order, as an operator reads it."""

from datetime import datetime
from typing import NamedTuple

from django.utils import timezone
from django.utils.timesince import timesince, timeuntil

from sales import continuity, publishing, store
from sales.clock import beside_utc, from_redis
from sales.models import Identity, Order, Sale

NO_REDIS = "Redis cannot be reached"


class State(NamedTuple):
    """A word for the eye, and the line that an operator reads."""

    word: str
    line: str


def now() -> datetime:
    """Return Redis's time, by which sales start and end; this machine's while Redis is away."""
    try:
        return from_redis(store.client().time())
    except store.RedisError:
        return timezone.now()


def standing_of(sale: Sale) -> publishing.Standing | None:
    """Return what Redis holds of the sale, read once for a row of a list; None when Redis cannot be reached."""
    if not hasattr(sale, "_standing"):
        try:
            sale._standing = publishing.standing(sale)  # type: ignore[attr-defined]
        except store.Unavailable:
            sale._standing = None  # type: ignore[attr-defined]
    return sale._standing  # type: ignore[attr-defined]


def seen_at(sale: Sale) -> datetime:
    """Return the moment of which `standing_of` tells."""
    standing = standing_of(sale)
    return standing.read_at if standing else timezone.now()


def state(sale: Sale) -> State:
    """Return how the sale is for shoppers."""
    standing, at = standing_of(sale), seen_at(sale)
    if not sale.published:
        return State("hidden", "Hidden from shoppers")
    if standing is None:
        return State("closed", f"{NO_REDIS}: nothing is sold until it is back")
    if closed := closed_reason(sale, standing):
        return State("closed", f"Closed. {closed}")
    if sale.archived_at:
        return State("archived", f"Archived; it ended {timesince(sale.ends_at, at)} ago")
    pause = ", and paused" if sale.paused else ""
    if at < sale.starts_at:
        return State("paused" if pause else "upcoming", f"Starts in {timeuntil(sale.starts_at, at)}{pause}")
    if at >= sale.ends_at:
        return State("ended", f"Ended {timesince(sale.ends_at, at)} ago")
    left = f"ends in {timeuntil(sale.ends_at, at)}"
    if sale.paused:
        return State("paused", f"Paused, {left}")
    return (
        State("sold_out", f"Sold out, {left}")
        if standing.remaining_stock == 0
        else State("active", f"On sale now, {left}")
    )


def closed_reason(sale: Sale, standing: publishing.Standing) -> str:
    """Return why Redis does not sell this sale, and what to do, or ""."""
    if sale.archived_at and not standing.config:
        return "Redis has lost what it shows of this archived sale. Run manage.py publish_sales"
    if sale.first_published_at and not standing.config:
        return f"Redis has lost this sale. Run manage.py restore_sale {sale.slug}"
    return continuity.closed_reason(standing.config)


def mirror_words(sale: Sale) -> str:
    """Return whether Redis holds the sale as SQL has it, and what to do when it does not."""
    standing = standing_of(sale)
    if standing is None:
        return NO_REDIS
    if closed := closed_reason(sale, standing):
        return f"CLOSED: {closed}"
    if not standing.is_mirrored(sale) and sale.mirror_due:
        return "differs from Redis, which gets it as soon as it takes it"
    if not standing.is_mirrored(sale):
        return "differs from Redis: choose “Mirror again” in the list of sales"
    if sale.archived_at:
        return "archived: Redis has what the sale's page shows, SQL everything else"
    if sale.identity == Identity.INVITED and sale.list_due:
        return "in Redis, which gets the list of invited shoppers as soon as it takes it"
    return "in Redis" if standing.config else "not in Redis yet"


def order_state(order: Order) -> State:
    if not order.cancelled_at:
        return State("valid", "Valid")
    again = "the shopper may buy again" if order.may_buy_again else "the shopper may not buy again"
    due = ". Redis has not taken it yet, and gets it as soon as it can" if order.cancellation_due else ""
    return State("cancelled", f"Cancelled on {beside_utc(order.cancelled_at)}; {again}{due}")
