"""Each worker's vigil over what it has acknowledged: it forgets what SQL has, and asks for the rest after each change
of run, also when nobody asks it anything."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from itertools import islice

from django.db import DatabaseError, connection

from sales import acknowledged, closures, missing, store
from sales.models import Sale
from sales.paging import AT_ONCE, pages
from sales.per_loop import per_loop

COMPARE_EVERY_SECONDS = 1.0
FORGET_EVERY_SECONDS = 2.0
# Of so many sales at once SQL is asked.
SALES_AT_ONCE = 50
# For so long Redis knows that a worker remembers no more.
FULL_FOR_SECONDS = 5

log = logging.getLogger(__name__)


@asynccontextmanager
async def kept() -> AsyncIterator[None]:
    """Keep the vigil as long as this worker serves."""
    tasks = [
        asyncio.create_task(_repeat(compare, COMPARE_EVERY_SECONDS)),
        asyncio.create_task(_repeat(forget, FORGET_EVERY_SECONDS)),
    ]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def compare() -> None:
    """Compare the sales of which something is remembered, where they are in another run or publication than the one
    that is known to hold it. Raises store.Failure."""
    acknowledged.take_over()
    if acknowledged.is_full():
        await store.call(("SET", store.FORGETFUL, 1, "EX", FULL_FOR_SECONDS))
    sales = acknowledged.sales()
    if not sales:
        return
    answers = await store.ask(*(("HMGET", store.key(sale_id, "config"), "epoch", "archived") for sale_id in sales))
    due = []
    for (sale_id, known), (reply, run_id) in zip(sales.items(), answers, strict=True):
        if not isinstance(reply, store.Failure):
            publication = next((name.decode() for name in reply if name), "")
            if not known.is_held_by(publication, run_id):
                due.append(sale_id)
    replies = await closures.ask(due)
    await asyncio.gather(*map(closures.reason, due, replies))
    for pair in zip(due, replies, strict=True):
        await closures.name_lost(*pair)


async def forget() -> None:
    """Forget what SQL has, which is asked for the oldest first, and for more while it has some of them."""
    for group in pages(acknowledged.sales(), SALES_AT_ONCE):
        left = {sale_id: len(acknowledged.known(sale_id).orders) for sale_id in group}
        while left:
            left = await _forget_some(left)


async def _forget_some(left: Mapping[int, int]) -> dict[int, int]:
    """Ask SQL for a page of orders, forget those that it has, and return how many more of each sale are to be asked
    for; of a sale of which it has none, none are."""
    share = AT_ONCE // len(left)
    asked = {
        sale_id: {order_id: order[0] for order_id, order in islice(acknowledged.known(sale_id).orders.items(), share)}
        for sale_id in left
    }
    found = await asyncio.get_running_loop().run_in_executor(_thread(), _in_sql, asked)
    for sale_id, orders in asked.items():
        acknowledged.forget(sale_id, found[sale_id].items())
        acknowledged.turn_over(sale_id, orders.keys() - found[sale_id].keys())
    return {sale_id: left[sale_id] - share for sale_id in left if found[sale_id] and left[sale_id] > share}


def _in_sql(asked: Mapping[int, Mapping[str, str]]) -> dict[int, dict[str, str]]:
    """Return those of the orders, by sale and order_id each a shopper, that SQL has; and all those of a sale that it
    does not know, which was a rehearsal."""
    try:
        held = missing.in_sql(asked)
        sale_ids = set(Sale.objects.filter(pk__in=asked).values_list("id", flat=True))
    except DatabaseError:
        return {sale_id: {} for sale_id in asked}  # the order writer says so in the log
    finally:
        connection.close()
    return {
        sale_id: {
            order_id: user_id
            for order_id, user_id in orders.items()
            if (sale_id, order_id, user_id) in held or sale_id not in sale_ids
        }
        for sale_id, orders in asked.items()
    }


async def _repeat(step: Callable[[], Awaitable[None]], every_seconds: float) -> None:
    while True:
        await asyncio.sleep(every_seconds)
        try:
            await step()
        except store.Failure:
            pass  # whoever asks Redis for something says so in the log
        except Exception:  # a defect here must not end the vigil
            log.exception("the vigil over what was acknowledged missed a round")


@per_loop
def _thread() -> ThreadPoolExecutor:
    """Return the one thread that asks: a SQL that hangs holds up nothing else, and not thread after thread."""
    return ThreadPoolExecutor(1, "vigil")
