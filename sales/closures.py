"""Why Redis may not sell a sale, as a worker sees it; or the comparison with SQL that opens it."""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from functools import partial
from math import inf
from typing import NamedTuple

from django.db import DatabaseError, connection

from sales import acknowledged, continuity, store
from sales.directory import OLDEST_SECONDS, pairs
from sales.per_loop import per_loop

# More than it takes when SQL is quick.
COMPARED_WITHIN_SECONDS = 0.4
# Longer than it takes to look at all sales once a server has started again.
SHARED_SECONDS = 10.0
# What says who may buy: a sale whose configuration lacks it, because an earlier version wrote it, lets nobody.
WHO_MAY_BUY = frozenset(("identity", "one_mailbox", "key_number"))

log = logging.getLogger(__name__)


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
    # Another worker's comparison is not enough: it does not know what this one has answered.
    known = acknowledged.known(sale_id)
    if config["run_id"] == run_id and known.is_held_by(publication, run_id):
        known.epoch, known.run_id = publication, run_id
        return ""
    return await _comparison(sale_id, publication, run_id)


async def name_lost(sale_id: int, reply: Reply) -> None:
    """Have what this worker has acknowledged compared, too, in a sale that was closed before this worker could object.

    `reason` compares no such sale. One that is being restored is left alone.
    """
    if isinstance(reply.config.reply, store.Failure):
        return
    config, run_id = reply.fields(), reply.config.run_id
    if continuity.is_closed_for(config, run_id) and (config.keys() & {"epoch", "archived"}):
        remembered = {sale_id: dict(acknowledged.known(sale_id).orders)}
        await _tried(partial(continuity.compare, remembered, run_id), [sale_id])


async def _comparison(sale_id: int, publication: str, run_id: str) -> str:
    """Return what the comparison of a sale with SQL says, or after COMPARED_WITHIN_SECONDS that it goes on: the other
    sales are not kept waiting for it."""
    found = _comparisons().ask(sale_id, publication, run_id)
    await asyncio.wait([found], timeout=COMPARED_WITHIN_SECONDS)
    return found.result() if found.done() else "It is being compared with SQL. Try again in a moment."


class _Comparisons:
    """One loop's comparisons of sales with SQL, each in a run of its server.

    What is asked for while others of the same run are compared is compared together next. The grace, in which other
    workers may object, begins when the first of a run were compared, and is that of all others within SHARED_SECONDS:
    the last of a thousand sales need not wait longer than the first.
    """

    def __init__(self) -> None:
        self._asked: dict[tuple[int, str], asyncio.Future[str]] = {}
        # By run, the sales and the publication of each.
        self._waiting: dict[str, dict[int, str]] = {}
        # Of each run that was met: when its latest grace ends, by `time.monotonic`.
        self._open_at: dict[str, float] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def ask(self, sale_id: int, publication: str, run_id: str) -> asyncio.Future[str]:
        """Return the future of what the comparison says."""
        if found := self._asked.get((sale_id, run_id)):
            return found
        found = self._asked[sale_id, run_id] = asyncio.get_running_loop().create_future()
        if run_id not in self._waiting:
            self._waiting[run_id] = {}
            self._start(self._compare_waiting(run_id))
        self._waiting[run_id][sale_id] = publication
        if run_id not in self._open_at:
            self._open_at[run_id] = -inf
            self._start(_object(sale_id))
        return found

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _compare_waiting(self, run_id: str) -> None:
        while publications := self._waiting[run_id]:
            self._waiting[run_id] = {}
            known = {sale_id: acknowledged.known(sale_id) for sale_id in publications}
            answers = {sale_id: of_sale.answers_of_others(run_id) for sale_id, of_sale in known.items()}
            remembered = {sale_id: dict(of_sale.orders) for sale_id, of_sale in known.items()}
            reasons = await _tried(partial(continuity.compare, remembered, run_id), list(publications))
            self._start(self._open(run_id, reasons, publications, answers))
        del self._waiting[run_id]

    async def _open(
        self, run_id: str, reasons: dict[int, str], publications: dict[int, str], answers: dict[int, int]
    ) -> None:
        """Let those that miss nothing go on, unless somebody objects; then tell who asked."""
        if whole := [sale_id for sale_id, reason in reasons.items() if not reason]:
            await self._grace(run_id)
            reasons |= await _tried(partial(continuity.let_go_on, whole, run_id), whole)
        for sale_id, reason in reasons.items():
            known = acknowledged.known(sale_id)
            # What was answered meanwhile, of another run, is still to be compared.
            if not reason and known.answers_of_others(run_id) == answers[sale_id]:
                known.epoch, known.run_id = publications[sale_id], run_id
            self._asked.pop((sale_id, run_id)).set_result(reason)

    async def _grace(self, run_id: str) -> None:
        now = time.monotonic()
        if now > self._open_at[run_id] + SHARED_SECONDS:
            # For so long other workers may object: none shows a sale that is older.
            self._open_at[run_id] = now + OLDEST_SECONDS
        await asyncio.sleep(self._open_at[run_id] - now)


async def _object(sale_id: int) -> None:
    """Compare every sale on the server of that one in which this worker has answered somebody, asked for or not: once
    another worker has opened it, it is late to object."""
    place = store.place(sale_id)
    sale_ids = [other for other in acknowledged.answered_in() if store.place(other) == place]
    with suppress(store.Failure):  # whoever asks for one of them finds it again
        replies = await ask(sale_ids)
        await asyncio.gather(*(reason(*pair) for pair in zip(sale_ids, replies, strict=True)))


async def _tried(work: Callable[[], dict[int, str]], sale_ids: Sequence[int]) -> dict[int, str]:
    """Return what the work says of the sales, which is done in a thread."""
    try:
        return await asyncio.to_thread(_and_close, work)
    except (DatabaseError, store.RedisError, store.Failure) as error:
        return dict.fromkeys(sale_ids, f"Redis has started again, and could not be compared with SQL: {error}")
    except Exception:  # a defect: whoever waits hears of it, and the next are compared
        log.exception("sales could not be compared with SQL")
        return dict.fromkeys(sale_ids, "It could not be compared with SQL. The log says why.")


def _and_close(work: Callable[[], dict[int, str]]) -> dict[int, str]:
    try:
        return work()
    finally:
        connection.close()


@per_loop
def _comparisons() -> _Comparisons:
    return _Comparisons()
