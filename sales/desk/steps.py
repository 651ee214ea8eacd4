"""What an operator does to a running sale, in steps. Each changes SQL under the sale's lock, is noted in its history,
and `mirroring` has Redis take it at once: none can oversell, because Redis computes the stock from what is sold."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth.models import AbstractBaseUser
from django.db import transaction

from sales import archiving, formats, publishing, store
from sales.clock import beside_utc
from sales.models import Identity, Sale
from sales.states import now

_FLAGS = {
    "paused": ("selling", "paused"),
    "published": ("hidden from shoppers", "shown to shoppers"),
    "one_mailbox": ("each address is a person", "each mailbox is a person"),
}


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
    """One thing to do to a sale. `change` returns the fields' new values, and raises Refused. `page` is the one of the
    admin's pages of the sale that it belongs to."""

    name: str
    verb: str
    done: str
    consequence: str
    change: Callable[..., dict[str, Any]]
    page: str = "change"


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


def _archive(sale: Sale, at: datetime) -> dict[str, Any]:
    if sale.archived_at:
        raise Refused("This sale is archived already.")
    if sale.ends_at > at:
        raise Refused(f"This sale ends on {beside_utc(sale.ends_at)}. Archive it after that.")
    if not sale.first_published_at:
        raise Refused("This sale was never published: there is nothing to archive.")
    return {"archived_at": at}


def _renew_key(sale: Sale, at: datetime) -> dict[str, Any]:
    return {"key_number": sale.key_number + 1}


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
        Step(
            "archive",
            "Archive",
            "archived",
            "SQL alone keeps its purchases, and Redis has the memory back. Page, receipts and lookups keep working, "
            "and orders can be cancelled. To extend it again, manage.py restore_sale gives everything back.",
            _archive,
        ),
        Step(
            "new-key",
            "Make a new key",
            "given a new key",
            "Whatever the partner has signed with the key of now is refused within a second, also of shoppers who have "
            "come from its pages already. Who has bought keeps it. Copy the new key to the partner then.",
            _renew_key,
            "partner",
        ),
    )
}

# What also makes sense of an archived sale.
_OF_ARCHIVES = ("archive", "unpublish", "new-key")


def offered(sale: Sale, at: datetime) -> list[Step]:
    """Return the steps that make sense as the sale is at that moment, in the order of the buttons."""
    if sale.archived_at:
        return [STEPS["unpublish"]] if sale.published else []
    has_ended = sale.ends_at <= at
    if not sale.published:
        return [STEPS[name] for name in ("publish", *_archiving(sale, has_ended))]
    pausing = [] if has_ended and not sale.paused else ["resume" if sale.paused else "pause"]
    ending = ["end"] if sale.starts_at < at < sale.ends_at else []
    names = *pausing, "extend", "add-stock", *ending, "unpublish", *_archiving(sale, has_ended)
    return [STEPS[name] for name in names]


def _archiving(sale: Sale, has_ended: bool) -> list[str]:
    return ["archive"] if has_ended and sale.first_published_at else []


def plan(sale: Sale, step: Step, values: dict[str, Any]) -> list[Change]:
    """Return what the step would change, and give `sale` its new values, unsaved.

    Raises Refused, and django.core.exceptions.ValidationError for a value that no sale can have.
    """
    if sale.archived_at and step.name not in _OF_ARCHIVES:
        raise Refused(f"This sale is archived. Run manage.py restore_sale {sale.slug} first: it gives everything back.")
    new_values = step.change(sale, now(), **values)
    changes = []
    for name, new in new_values.items():
        changes.append(Change(_label(name), described(name, getattr(sale, name)), described(name, new)))
        setattr(sale, name, new)
    sale.clean_fields(exclude={field.name for field in Sale._meta.fields} - set(new_values))
    return changes


def take(sale: Sale, step: Step, values: dict[str, Any], user: AbstractBaseUser) -> list[Change]:
    """Take the step and return what it changed; `mirroring` then tells Redis.

    It is computed from the sale as it is under its lock: of two operators at the same time both take effect.
    Raises as `plan`, and nothing is changed then.
    """
    if step.name == "archive":
        return _take_archive(sale, step, user)
    with transaction.atomic():
        publishing.lock(sale)
        before = {field.name: getattr(sale, field.name) for field in Sale._meta.fields}
        changes = plan(sale, step, values)
        sale.mirror_due = True
        sale.save(update_fields=[name for name, value in before.items() if getattr(sale, name) != value])
        _log(sale, step, changes, user)
    return changes


def _take_archive(sale: Sale, step: Step, user: AbstractBaseUser) -> list[Change]:
    """Take the step that is more than new values: it proves that SQL has everything, and has Redis let go."""
    changes = plan(sale, step, {})
    try:
        archiving.archive(sale, note=lambda archived: _log(archived, step, changes, user))
    except archiving.Refused as reason:
        raise Refused(str(reason)) from None
    except store.RedisError as error:
        raise Refused(f"Redis failed: {error}. When that is mended, archive it again.") from None
    except (store.Unavailable, publishing.NotPublished):
        sale.refresh_from_db()
        if not sale.archived_at:
            raise Refused("Redis cannot be reached. When it is back, archive the sale again.") from None
    return changes


def _log(sale: Sale, step: Step, changes: list[Change], user: AbstractBaseUser) -> None:
    message = f"{step.verb}. {'; '.join(map(str, changes))}."
    LogEntry.objects.log_actions(user.pk, [sale], CHANGE, message, single_object=True)


def _label(name: str) -> str:
    label = str(Sale._meta.get_field(name).verbose_name)  # type: ignore[union-attr]
    return label[0].upper() + label[1:]


def described(name: str, value: Any) -> str:
    """Return a field's value as an operator reads it, with UTC beside each time."""
    if isinstance(value, datetime):
        return beside_utc(value)
    if name in _FLAGS:
        return _FLAGS[name][value]
    if name == "total_stock":
        return formats.number(value)
    if name == "identity":
        return str(Identity(value).label)
    # A picture that the form takes away is False.
    return "empty" if value is None or value is False or value == "" else str(value)
