"""Why Redis may not sell a sale, as a worker sees it; or the comparison with SQL that opens it."""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from django.db import DatabaseError, connection

from sales import continuity, purchases, store
from sales.directory import OLDEST_SECONDS, pairs
from sales.per_loop import per_loop

# More than it takes when SQL is quick.
COMPARED_WITHIN_SECONDS = 0.4
# What says who may buy: a sale whose configuration lacks it, because an earlier version wrote it, lets nobody.
WHO_MAY_BUY = frozenset(("identity", "one_mailbox", "key_number"))


class Reply(NamedTuple):
    """What Redis says of a sale's configuration, and of its stock."""

    config: store.Answer
    stock: store.Answer

    def fields(self) -> dict[str, str]:
        return pairs(self.config.reply)


async def ask(sale_ids: Sequence[int]) -> list[Reply]:
    """Return what Redis says of each sale, in one exchange. Raises store.Failure; in a cluster, where one server fails
    for its own sales, that stands in the place of their replies."""
    kinds = ("HGETALL", "config"), ("GET", "stock")
    commands = [(command, store.key(sale_id, name)) for sale_id in sale_ids for command, name in kinds]
    if not commands:
        return []
    try:
        answers = await store.ask(*commands)
    except store.Failure as failure:
        if not store.is_cluster():
            raise
        answers = [store.Answer(failure, "")] * len(commands)
    return list(map(Reply, answers[::2], answers[1::2]))


async def reason(sale_id: int, reply: Reply) -> str:
    """Return why Redis may not sell, or "". A server that has started again, or has come to hold the sale, is compared
    with SQL here."""
    for answer in reply:
        if isinstance(answer.reply, store.Failure):
            return str(answer.reply)
    config, run_id = reply.fields(), reply.config.run_id
    has_stock = reply.stock.reply is not None or "archived" in config
    if config.get("published") != "1" or not has_stock or reply.stock.run_id != run_id:
        return "Redis has lost the details of the sale"
    if not config.keys() >= WHO_MAY_BUY:
        return "An earlier version has mirrored it. Run manage.py publish_sales"
    if continuity.is_closed_for(config, run_id):
        return continuity.closed_reason(config)
    publication = config.get("epoch") or config.get("archived")
    if publication is None:
        return f"Its restoration was interrupted. Run manage.py restore_sale {config['slug']}"
    known = purchases.known(sale_id)
    if known.epoch != publication:  # published for the first time, or restored: what was answered before is settled
        known.epoch, known.newest_order = publication, ""
    # Another worker's comparison is not enough: it does not know what this one has answered.
    is_compared = config["run_id"] == run_id and (not known.newest_order or known.run_id == run_id)
    if is_compared:
        known.run_id = run_id
        return ""
    return await _comparison(sale_id, run_id)


async def _comparison(sale_id: int, run_id: str) -> str:
    """Return what the comparison of a sale with SQL says, or after COMPARED_WITHIN_SECONDS that it goes on: the other
    sales are not kept waiting for it."""
    under_way, name = _comparisons(), (sale_id, run_id)
    if not (task := under_way.get(name)):
        task = under_way[name] = asyncio.create_task(_compare(sale_id, run_id))
        task.add_done_callback(lambda _: under_way.pop(name))
    await asyncio.wait([task], timeout=COMPARED_WITHIN_SECONDS)
    return task.result() if task.done() else "It is being compared with SQL. Try again in a moment."


async def _compare(sale_id: int, run_id: str) -> str:
    known = purchases.known(sale_id)
    found = await asyncio.to_thread(_confirm, sale_id, run_id, known.newest_order)
    if not found:
        known.run_id = run_id
    return found


def _confirm(sale_id: int, run_id: str, newest_seen: str) -> str:
    try:
        # For so long other workers may object: none shows a sale that is older.
        return continuity.confirm(sale_id, run_id, newest_seen, grace_seconds=OLDEST_SECONDS)
    except (DatabaseError, store.RedisError) as error:
        return f"Redis has started again, and could not be compared with SQL: {error}"
    finally:
        connection.close()


@per_loop
def _comparisons() -> dict[tuple[int, str], asyncio.Task[str]]:
    return {}
