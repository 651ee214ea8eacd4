"""What an operator does to a running sale, in steps. Each changes SQL under the sale's lock, is noted in its history,
and is mirrored at once: none can oversell, because Redis computes the stock from what is sold."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth.models import AbstractBaseUser
from django.db import transaction

from sales import cancelling, publishing, store
from sales.clock import beside_utc
from sales.models import Sale
from sales.states import now

NOT_IN_FORCE = (
    "It is saved, but not in force: Redis cannot be reached. Nothing is sold until it is back; should only this server "
    "have lost it, shoppers have the sale as it was. You need not repeat this: it takes effect when Redis is back. "
    "See then that “Mirror” says “in Redis”."
)
_FLAGS = {"paused": ("selling", "paused"), "published": ("hidden from shoppers", "shown to shoppers")}


class Refused(Exception):
    """The step makes no sense as the sale is now, for the reason and with the remedy that the message gives."""


class Change(NamedTuple):
    """One value of a sale before and after, as an operator reads them."""

    label: str
    old: str
    new: str

    def __str__(self) -> str:
        return f"{self.label}: {self.old} → {self.new}"


class Step(NamedTuple):
    """One thing to do to a sale. `change` returns the fields' new values, and raises Refused."""

    name: str
    verb: str
    done: str
    consequence: str
    change: Callable[..., dict[str, Any]]


def _publish(sale: Sale, at: datetime) -> dict[str, Any]:
    if sale.published:
        raise Refused("Shoppers see this sale already.")
    if sale.ends_at <= at:
        raise Refused("Its end is over already. Give it a new start and end first, then publish it.")
    return {"published": True}


def _unpublish(sale: Sale, at: datetime) -> dict[str, Any]:
    if not sale.published:
        raise Refused("This sale is hidden from shoppers already.")
    return {"published": False}


def _pause(sale: Sale, at: datetime) -> dict[str, Any]:
    if sale.paused:
        raise Refused("This sale is paused already.")
    if sale.ends_at <= at:
        raise Refused("This sale has ended: there is nothing to pause.")
    return {"paused": True}


def _resume(sale: Sale, at: datetime) -> dict[str, Any]:
    if not sale.paused:
        raise Refused("This sale is not paused.")
    return {"paused": False}


def _end(sale: Sale, at: datetime) -> dict[str, Any]:
    if sale.ends_at <= at:
        raise Refused(f"This sale has ended already, at {beside_utc(sale.ends_at)}.")
    if sale.starts_at >= at:
        raise Refused("This sale has not started. Unpublish it, or give it another start.")
    return {"ends_at": at}


def _extend(sale: Sale, at: datetime, *, minutes: int | None = None, until: datetime | None = None) -> dict[str, Any]:
    from_when = max(sale.ends_at, at)
    ends_at = until or from_when + timedelta(minutes=minutes or 0)
    if ends_at <= from_when:
        raise Refused(f"Choose a time after {beside_utc(from_when)}. To end the sale earlier, choose “End now”.")
    return {"ends_at": ends_at}


def _add_stock(sale: Sale, at: datetime, *, units: int) -> dict[str, Any]:
    return {"total_stock": sale.total_stock + units}


STEPS = {
    step.name: step
    for step in (
        Step("publish", "Publish", "published", "Shoppers see the sale, and it sells from its start.", _publish),
        Step(
            "pause",
            "Pause",
            "paused",
            "Purchases are refused until you resume. Who has bought keeps it, and the end does not move.",
            _pause,
        ),
        Step("resume", "Resume", "resumed", "Shoppers can buy again.", _resume),
        Step(
            "extend",
            "Extend",
            "extended",
            "The sale ends later, and every open page counts down to the new end. One that has ended opens again.",
            _extend,
        ),
        Step(
            "add-stock",
            "Add stock",
            "given more stock",
            "More units are for sale. A sale that is sold out sells again at once.",
            _add_stock,
        ),
        Step("end", "End now", "ended", "Nobody can buy any more. “Extend” opens the sale again.", _end),
        Step(
            "unpublish",
            "Unpublish",
            "hidden from shoppers",
            "Its page and its API answer as if there were no such sale. Who has bought keeps it.",
            _unpublish,
        ),
    )
}


def offered(sale: Sale, at: datetime) -> list[Step]:
    """Return the steps that make sense as the sale is at that moment, in the order of the buttons."""
    if not sale.published:
        return [STEPS["publish"]]
    has_ended = sale.ends_at <= at
    pausing = [] if has_ended and not sale.paused else ["resume" if sale.paused else "pause"]
    ending = ["end"] if sale.starts_at < at < sale.ends_at else []
    return [STEPS[name] for name in (*pausing, "extend", "add-stock", *ending, "unpublish")]


def plan(sale: Sale, step: Step, values: dict[str, Any]) -> list[Change]:
    """Return what the step would change, and give `sale` its new values, unsaved.

    Raises Refused, and django.core.exceptions.ValidationError for a value that no sale can have.
    """
    new_values = step.change(sale, now(), **values)
    changes = []
    for name, new in new_values.items():
        changes.append(Change(_label(name), described(name, getattr(sale, name)), described(name, new)))
        setattr(sale, name, new)
    sale.clean_fields(exclude={field.name for field in Sale._meta.fields} - set(new_values))
    return changes


def take(sale: Sale, step: Step, values: dict[str, Any], user: AbstractBaseUser) -> list[Change]:
    """Take the step and return what it changed; `mirror` then tells Redis.

    It is computed from the sale as it is under its lock: of two operators at the same time both take effect.
    Raises as `plan`, and nothing is changed then.
    """
    with transaction.atomic():
        publishing.lock(sale)
        before = {field.name: getattr(sale, field.name) for field in Sale._meta.fields}
        changes = plan(sale, step, values)
        sale.mirror_due = True
        sale.save(update_fields=[name for name, value in before.items() if getattr(sale, name) != value])
        message = f"{step.verb}. {'; '.join(map(str, changes))}."
        LogEntry.objects.log_actions(user.pk, [sale], CHANGE, message, single_object=True)
    return changes


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
    except (store.Unavailable, publishing.Lost) as reason:
        why = "Redis cannot be reached." if isinstance(reason, store.Unavailable) else str(reason)
        return Told(
            False,
            f"It is saved, but not in force: {why} You need not repeat this: it takes effect when that is mended.",
        )
    return Told(True, f"It is in force: {standing.sold} sold, {standing.remaining_stock} remaining.")


def _label(name: str) -> str:
    label = str(Sale._meta.get_field(name).verbose_name)  # type: ignore[union-attr]
    return label[0].upper() + label[1:]


def described(name: str, value: Any) -> str:
    """Return a field's value as an operator reads it, with UTC beside each time."""
    if isinstance(value, datetime):
        return beside_utc(value)
    if name in _FLAGS:
        return _FLAGS[name][value]
    # A picture that the form takes away is False.
    return "empty" if value is None or value is False or value == "" else str(value)
