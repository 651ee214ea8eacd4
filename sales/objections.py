"""What an order writer objects to: orders of SQL that another run of the server lacks, and losses that closed no sale.

A comparison sees the newest orders and their number. Where a network was split it may come too early, or find more
newer orders than it looks at: then only the writer knows.
"""

from collections.abc import Sequence

from django.db import transaction

from sales import continuity, missing, publishing, store, written
from sales.models import MissingOrder, Sale
from sales.paging import AT_ONCE, pages


def raise_all() -> None:
    """Close each sale whose server is in another run than its newest orders were read from, and lacks one of them; and
    each with losses that restore_sale has not answered. The order writer does it once a second.

    Safe to repeat. Raises store.RedisError and django.db.DatabaseError; what was not compared is, the next time.
    """
    store.for_each_server({page.sale_id for page in written.pages}, _compare)
    found = MissingOrder.objects.filter(state=MissingOrder.State.FOUND).order_by()
    for sale in Sale.objects.filter(pk__in=found.values("sale")):
        _close_unless_closed(sale)


def _compare(sale_ids: Sequence[int]) -> int:
    """Compare the sales of one server, and return how many orders that were."""
    run_id, compared = store.run_id_blocking(store.key(sale_ids[0], "config")), 0
    for sale in Sale.objects.filter(pk__in=[page.sale_id for page in written.pages if page.run_id != run_id]):
        if sale.pk not in sale_ids:
            continue
        due = [page for page in written.pages if page.sale_id == sale.pk and page.run_id != run_id]
        if not _is_compared(sale, run_id, due):
            continue
        for page in due:
            page.run_id = run_id
        compared += sum(len(page.orders) for page in due)
    return compared


def _is_compared(sale: Sale, run_id: str, due: Sequence[written.Page]) -> bool:
    """Close the sale if Redis lacks one of the orders. False when that cannot be told yet: it is being restored."""
    if not sale.archived_at and publishing.standing(sale).config.get("epoch") != sale.epoch:
        return False
    if not (lacking := [order for page in due for order in _lacking(sale, page.orders)]):
        return True
    with transaction.atomic():
        publishing.lock(sale)
        if sale.archived_at:
            return True
        if publishing.standing(sale).config.get("epoch") != sale.epoch:
            return False
        lost = 0
        for some in pages(lacking, AT_ONCE):
            valid = sale.valid_orders().filter(order_id__in=[order_id for order_id, _ in some]).order_by()
            lost += len(_lacking(sale, list(valid.values_list("order_id", "user_id"))))
        if lost:
            reason = f"Orders of SQL that Redis does not have: {lost}. {missing.advice(sale)}"
            continuity.close(sale.id, run_id, reason)
    return True


def _lacking(sale: Sale, orders: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return those of the orders that Redis does not hold as their shoppers' purchases."""
    if not orders:
        return []
    held = store.client().hmget(store.key(sale.id, "purchases"), [user_id for _, user_id in orders])
    found = zip(orders, held, strict=True)
    return [order for order, purchase in found if (purchase or b"").decode().partition(" ")[0] != order[0]]


def _close_unless_closed(sale: Sale) -> None:
    """Close a sale with losses that whoever found them could not close any more, unless it is being restored."""
    run_id = store.run_id_blocking(store.key(sale.id, "config"))
    with transaction.atomic():
        publishing.lock(sale)
        config = publishing.standing(sale).config
        is_there = sale.epoch in (config.get("epoch"), config.get("archived"))
        if is_there and not continuity.is_closed_for(config, run_id) and (reasons := missing.closing_reasons([sale])):
            continuity.close(sale.id, run_id, reasons[sale.id])
