"""Cancel orders: in SQL first, with a note that Redis is to take it, then in Redis: the unit is for sale again."""

from contextlib import suppress

from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth.models import AbstractBaseUser
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from sales import publishing, store
from sales.models import Order, Sale
from sales.paging import PAGE, pages

# Of one call of the script, which runs four commands for each: all of them keep Redis from everybody else.
ORDERS_AT_ONCE = 100


class AlreadyCancelled(Exception):
    """Somebody has cancelled the order before."""


def cancel(order: Order, user: AbstractBaseUser, *, may_buy_again: bool) -> None:
    """Cancel the order in SQL, and note it in its history; `enforce` then has Redis take it.

    Raises AlreadyCancelled, and nothing is changed then: of two operators at the same time one is told so.
    """
    with transaction.atomic():
        publishing.lock(order.sale)
        order.refresh_from_db(from_queryset=Order.objects.select_for_update())
        if order.cancelled_at:
            raise AlreadyCancelled
        order.cancelled_at = timezone.now()
        order.may_buy_again, order.cancellation_due = may_buy_again, True
        order.save(update_fields=["cancelled_at", "may_buy_again", "cancellation_due"])
        message = f"Cancel. Order: valid → cancelled; May buy again: {'yes' if may_buy_again else 'no'}."
        LogEntry.objects.log_actions(user.pk, [order], CHANGE, message, single_object=True)


def is_purchase(order: Order) -> bool:
    """Return whether Redis holds the order as its shopper's purchase. Raises store.RedisError."""
    purchase = store.client().hget(store.key(order.sale_id, "purchases"), order.user_id)
    return purchase is not None and purchase.decode().partition(" ")[0] == order.order_id


def enforce(sale: Sale) -> None:
    """Have Redis take the cancellations that are due, and note that it has. Safe to repeat, and to kill anywhere.

    Raises publishing.Lost when Redis has lost the sale, publishing.Behind when it cannot let go of an archived one yet,
    or store.Unavailable; they are then still due.
    """
    with transaction.atomic():
        publishing.lock(sale)
        due = sale.cancelled_orders().filter(cancellation_due=True)
        try:
            if sale.archived_at:
                with suppress(publishing.Lost):  # mostly Redis has let go: it has only the number of units sold
                    _take_out(sale, due, sale.epoch)
                publishing.let_go(sale)
                due.update(cancellation_due=False)
            else:
                _take_out(sale, due, sale.epoch)
        except store.RedisError as error:
            raise store.Unavailable(str(error)) from error


def enforce_all(sale: Sale, epoch: str) -> int:
    """Have Redis take all of the sale's cancellations, those among them that it took before it became an older copy;
    return how many purchases were still there. Safe to repeat. The caller holds the sale's lock.

    `epoch` is "" while the sale is being restored. Raises publishing.Lost, store.RedisError and DatabaseError.
    """
    return _take_out(sale, sale.cancelled_orders(), epoch)


def catch_up() -> None:
    """Enforce what is still due; the order writer does it once a second, whoever died or was away in between.

    Safe to repeat. What Redis has lost waits for restore_sale. Raises store.Unavailable, once it has tried all: another
    server may hold the next.
    """
    failure: store.Unavailable | None = None
    due = Order.objects.filter(cancelled_at__isnull=False, cancellation_due=True)
    for sale in Sale.objects.filter(pk__in=due.values("sale")):
        try:
            enforce(sale)
        except (publishing.Lost, publishing.Behind):
            continue
        except store.Unavailable as reason:
            failure = reason
    if failure:
        raise failure


def _take_out(sale: Sale, orders: QuerySet[Order], epoch: str) -> int:
    """Run the script for all the orders. It goes on under the sale's lock: whoever publishes, compares or restores the
    sale meanwhile would count a purchase that SQL does not count any more, or the other way round."""
    keys, freed = [store.key(sale.id, name) for name in ("config", "stock", "purchases", "keys", "barred")], 0
    due: list[int] = []
    for page in pages(orders.iterator(PAGE), ORDERS_AT_ONCE):
        words = (word for order in page for word in (order.user_id, order.order_id, int(order.may_buy_again)))
        outcome, count = store.run_script_blocking("cancel", keys, [epoch, *words])
        if outcome == b"lost":
            raise publishing.Lost(sale, count)
        freed += count
        due += [order.pk for order in page if order.cancellation_due]
    for page_of_due in pages(due):
        Order.objects.filter(pk__in=page_of_due).update(cancellation_due=False)
    return freed
