"""What this worker has acknowledged and SQL is not known to have: after a loss, nobody else may know of it."""

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from sales.per_loop import per_loop

# Of all sales together. They take about 30 MB.
MOST_ORDERS = 100_000
# Stands for answers of more than one run since the last comparison. It is no run: nothing is known to be held by it.
SEVERAL = "several"

# A shopper, with what remained after the purchase and the digest of its Idempotency-Key, as far as the answer told.
Answered = tuple[str, int, str]


@dataclass
class Known:
    """What this worker knows of a sale in Redis: the publication (`epoch`) and the run of the server that were last
    seen to hold all that it has answered, both empty before the first look; how often it has answered with an order
    that it had from each run; and, by order_id, the orders that SQL is not known to have."""

    epoch: str = ""
    run_id: str = ""
    answers: Counter[str] = field(default_factory=Counter)
    orders: dict[str, Answered] = field(default_factory=dict)

    def is_held_by(self, epoch: str, run_id: str) -> bool:
        """Return whether that publication, in that run, is known to hold all that was answered."""
        return not self.answers or (self.epoch, self.run_id) == (epoch, run_id)

    def answers_of_others(self, run_id: str) -> int:
        """Return how often it has answered with an order of another run than that."""
        return self.answers.total() - self.answers[run_id]


class _Memory:
    def __init__(self) -> None:
        self.sales: dict[int, Known] = {}
        self.count = 0


def known(sale_id: int) -> Known:
    return _memory().sales.setdefault(sale_id, Known())


def sales() -> dict[int, Known]:
    """Return the sales of which something is remembered."""
    return {sale_id: of_sale for sale_id, of_sale in _memory().sales.items() if of_sale.orders}


def answered_in() -> list[int]:
    """Return the sales in which this worker has answered with an order."""
    return [sale_id for sale_id, of_sale in _memory().sales.items() if of_sale.answers]


def is_full() -> bool:
    """Return whether no further order is remembered, because SQL has not had so many for long."""
    return _memory().count >= MOST_ORDERS


def remember(sale_id: int, run_id: str, answered: Mapping[str, Answered]) -> None:
    """Remember orders, by order_id, that this worker is about to acknowledge and that it has from that run of a server.

    One of another run than the known one makes this worker compare, be it late, or of a new run that another worker
    has opened: what this worker has answered before may be lost there.
    """
    of_sale, memory = known(sale_id), _memory()
    if not of_sale.answers:
        of_sale.run_id = run_id
    elif of_sale.run_id != run_id:
        of_sale.run_id = SEVERAL
    of_sale.answers[run_id] += 1
    orders = of_sale.orders
    if memory.count + len(answered) <= MOST_ORDERS and orders.keys().isdisjoint(answered):  # as nearly always
        orders.update(answered)
        memory.count += len(answered)
        return
    for order_id, order in answered.items():
        held = orders.get(order_id)
        if held is None:
            if memory.count >= MOST_ORDERS:
                continue
            memory.count += 1
        elif held[0] == order[0] and not order[2]:  # the one that is held may know the key
            continue
        orders[order_id] = order


def forget(sale_id: int, in_sql: Iterable[tuple[str, str]]) -> None:
    """Forget orders, each an order_id and its shopper: SQL has them."""
    orders, memory = known(sale_id).orders, _memory()
    for order_id, user_id in in_sql:
        # Two masters may have given one order_id to two shoppers.
        if order_id in orders and orders[order_id][0] == user_id:
            del orders[order_id]
            memory.count -= 1


def turn_over(sale_id: int, order_ids: Iterable[str]) -> None:
    """Put orders behind the others, whose turn it is next to be looked for in SQL."""
    orders = known(sale_id).orders
    for order_id in order_ids:
        if order_id in orders:
            orders[order_id] = orders.pop(order_id)


def remember_from_thread(sale_id: int, run_id: str, order_id: str, user_id: str) -> None:
    """Have the worker remember an order that one of Django's threads is about to acknowledge."""
    _from_threads.append((sale_id, run_id, order_id, user_id))


def take_over() -> None:
    """Remember what the threads were told to."""
    while _from_threads:
        sale_id, run_id, order_id, user_id = _from_threads.popleft()
        remember(sale_id, run_id, {order_id: (user_id, 0, "")})


_from_threads: deque[tuple[int, str, str, str]] = deque(maxlen=MOST_ORDERS)


@per_loop
def _memory() -> _Memory:
    return _Memory()
