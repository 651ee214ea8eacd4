"""The rules of a sale in plain Python: what every shopper is to hear, and what Redis and SQL are to hold."""

from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass, field
from typing import NamedTuple

Position = tuple[int, int]


def position(order_id: str) -> Position:
    milliseconds, sequence = order_id.split("-")
    return int(milliseconds), int(sequence)


class Answer(NamedTuple):
    outcome: str
    order_id: str
    remaining_stock: int


class Bought(NamedTuple):
    order_id: str
    remaining_stock: int
    key: str


class Cancelled(NamedTuple):
    user: str
    may_buy_again: bool
    bought: Bought


@dataclass(frozen=True)
class Setup:
    """What an operator can change. `window` is ahead, open or over."""

    total: int
    window: str = "open"
    paused: bool = False
    published: bool = True


@dataclass
class InRedis:
    """What Redis is to hold. `setup` is None when it holds nothing of the sale."""

    setup: Setup | None = None
    epoch: str = ""
    stock: int | None = None
    purchases: dict[str, Bought] = field(default_factory=dict)
    keys: set[str] = field(default_factory=set)
    barred: set[str] = field(default_factory=set)
    # Entries that no order writer has acknowledged, and those of them that a writer has taken.
    waiting: dict[str, str] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)
    last_position: Position = (0, 0)
    is_checked: bool = False
    is_closed: bool = False
    is_closed_in_this_run: bool = False
    is_half_restored: bool = False


class Model:
    """One sale, from its first publication on."""

    def __init__(self, setup: Setup, epoch: str):
        self.setup, self.epoch = setup, epoch
        # The valid orders by their shopper, the cancelled ones by their number, and those that Redis has not taken.
        self.orders: dict[str, Bought] = {}
        self.cancelled: dict[str, Cancelled] = {}
        self.due: set[str] = set()
        # What was acknowledged and lost, those of it that there was no unit for, and those whose shopper had another.
        self.missing: dict[str, tuple[str, Bought]] = {}
        self.left_over: set[str] = set()
        self.settled: set[str] = set()
        self.redis = InRedis(setup, epoch, setup.total, is_checked=True)
        self.back_up()

    def refusal(self) -> str:
        """Return why no attempt is decided at all, or ""."""
        if not (self.redis.setup and self.redis.setup.published):
            return "NOTMIRRORED"
        if self.redis.is_closed:
            return "CLOSED"
        return "" if self.redis.is_checked else "UNCHECKED"

    def is_whole(self) -> bool:
        """Return whether Redis holds the sale, checked and open."""
        return self.redis.epoch == self.epoch and self.redis.is_checked and not self.redis.is_closed

    def buy(self, user: str, key: str, new_order_id: str) -> Answer:
        """Decide one attempt; if it wins, under `new_order_id`, which is to follow all earlier ones."""
        redis = self.redis
        assert redis.setup
        assert redis.stock is not None
        bought = redis.purchases.get(user)
        if bought and key and key == bought.key:
            return Answer("replayed", bought.order_id, bought.remaining_stock)
        if key in redis.keys:
            return Answer("idempotency_key_reused", "", redis.stock)
        if bought:
            return Answer("already_purchased", bought.order_id, redis.stock)
        if user in redis.barred:
            return Answer("order_cancelled", "", redis.stock)
        if redis.setup.window != "open":
            return Answer({"ahead": "not_started", "over": "ended"}[redis.setup.window], "", redis.stock)
        if redis.setup.paused:
            return Answer("paused", "", redis.stock)
        if redis.stock == 0:
            return Answer("sold_out", "", 0)
        if not new_order_id:  # it was refused, against the rules: the caller compares
            return Answer("purchased", "", redis.stock - 1)
        assert position(new_order_id) > redis.last_position, "order ids are to increase"
        redis.stock -= 1
        redis.purchases[user] = Bought(new_order_id, redis.stock, key)
        redis.waiting[new_order_id] = user
        redis.last_position = position(new_order_id)
        if key:
            redis.keys.add(key)
        return Answer("purchased", new_order_id, redis.stock)

    def cancel(self, user: str, may_buy_again: bool) -> None:
        """Cancel a shopper's order in SQL."""
        bought = self.orders.pop(user)
        self.cancelled[bought.order_id] = Cancelled(user, may_buy_again, bought)
        self.due.add(bought.order_id)

    def enforce(self) -> None:
        """Have Redis take the cancellations that are due, if it holds the sale."""
        if self.redis.epoch == self.epoch and not self.redis.is_half_restored:
            self._take_out(self.due)

    def enforce_all(self) -> None:
        """Have it take those again that it has taken before."""
        if self.redis.epoch == self.epoch and not self.redis.is_half_restored:
            self._take_out(self.cancelled)

    def _take_out(self, order_ids: Iterable[str]) -> None:
        redis, held_before = self.redis, len(self.redis.purchases)
        for user, may_buy_again, bought in map(self.cancelled.__getitem__, order_ids):
            if user in redis.purchases and redis.purchases[user].order_id == bought.order_id:
                redis.keys.discard(redis.purchases.pop(user).key)
            if not may_buy_again:
                redis.barred.add(user)
        if redis.setup and len(redis.purchases) < held_before:
            redis.stock = max(0, redis.setup.total - len(redis.purchases))
        self.due.clear()

    def publish(self) -> str:
        """Put SQL's setup in force; return published, lost or below_sold."""
        redis, sold = self.redis, len(self.redis.purchases)
        if redis.epoch != self.epoch or sold < len(self.orders):
            return "lost"
        if self.setup.total < sold:
            return "below_sold"
        redis.setup, redis.stock = self.setup, self.setup.total - sold
        return "published"

    def in_force(self) -> int:
        """Return the total that Redis goes on with when it has refused a lower one."""
        assert self.redis.stock is not None
        return len(self.redis.purchases) + self.redis.stock

    def unread(self) -> int:
        """Return how many entries no writer has been given yet."""
        return len(self.redis.waiting.keys() - self.redis.taken)

    def take(self, count: int) -> None:
        """Give a writer that dies the next entries."""
        unread = sorted(self.redis.waiting.keys() - self.redis.taken, key=position)
        self.redis.taken.update(unread[:count])

    def write(self, takes_over: bool) -> None:
        """Move entries to SQL: all of them, or only those that no writer has taken."""
        for order_id, user in list(self.redis.waiting.items()):
            if takes_over or order_id not in self.redis.taken:
                self._write(order_id, user)

    def _write(self, order_id: str, user: str) -> None:
        if order_id in self.cancelled:  # its row is there
            del self.redis.waiting[order_id]
            self.redis.taken.discard(order_id)
            return
        bought = self.redis.purchases[user]
        if self.orders.setdefault(user, bought).order_id == order_id:
            del self.redis.waiting[order_id]
            self.redis.taken.discard(order_id)
        else:  # SQL keeps the order that was first; the entry stays for a person to look at
            self.redis.taken.add(order_id)

    def conflicts(self) -> dict[str, str]:
        """Return the waiting entries that can never become orders, because SQL holds others of their shoppers."""
        return {
            order_id: user
            for order_id, user in self.redis.waiting.items()
            if order_id not in self.cancelled and user in self.orders and self.orders[user].order_id != order_id
        }

    def restart(self) -> None:
        self.redis.is_checked = self.redis.is_closed_in_this_run = False

    def lose_everything(self) -> None:
        self.redis = InRedis()

    def back_up(self) -> None:
        self.backup = deepcopy(self.redis)

    def return_to_backup(self) -> None:
        self.redis = deepcopy(self.backup)

    def name_missing(self, acknowledged: dict[str, tuple[str, int, str]]) -> None:
        """Name what a worker has acknowledged and neither Redis nor SQL has, but for whom something else is there."""
        for order_id, (user, remaining_stock, _) in acknowledged.items():
            held = self.redis.purchases.get(user)
            if (held and held.order_id == order_id) or order_id in self._order_ids() or order_id in self.missing:
                continue
            bars = any(one.user == user and not one.may_buy_again for one in self.cancelled.values())
            if held or user in self.orders or bars:
                self.settled.add(order_id)
            elif order_id not in self.settled:
                self.missing[order_id] = (user, Bought(order_id, remaining_stock, ""))

    def take_in(self) -> None:
        """Make orders of what is missing, the oldest first, while there are units; the rest is left over."""
        for order_id in sorted(self.missing, key=position):
            user, bought = self.missing[order_id]
            bars = any(one.user == user and not one.may_buy_again for one in self.cancelled.values())
            if user in self.redis.purchases or user in self.orders or bars:
                self.settled.add(order_id)
            elif len(self.redis.purchases) < self.setup.total:
                self.orders[user] = self.redis.purchases[user] = bought
            else:
                self.left_over.add(order_id)
                continue
            self.left_over.discard(order_id)
            del self.missing[order_id]

    def is_missing_something(self) -> bool:
        """Return whether Redis lacks what SQL knows, or a worker knew."""
        redis = self.redis
        return (
            bool(self.missing.keys() - self.left_over)
            or redis.epoch != self.epoch
            or any(
                user not in redis.purchases or redis.purchases[user].order_id != order.order_id
                for user, order in self.orders.items()
            )
            or any(position(order_id) > redis.last_position for order_id in self._order_ids())
        )

    def _order_ids(self) -> list[str]:
        return [*(order.order_id for order in self.orders.values()), *self.cancelled]

    def may_open(self) -> bool:
        """Return whether the sale goes on after a comparison: what was closed in one run stays closed in it."""
        return not self.is_missing_something() and not self.redis.is_closed_in_this_run

    def confirm(self, is_open: bool) -> None:
        self.redis.is_closed = self.redis.is_closed_in_this_run = not is_open
        if is_open:
            self.redis.is_checked, self.redis.is_half_restored = True, False

    def gather(self) -> None:
        """Do the first half of a restoration: every purchase is in Redis and nothing is open."""
        self._take_out(self.cancelled)
        self.write(takes_over=True)
        redis = self.redis
        redis.is_closed = redis.is_closed_in_this_run = redis.is_half_restored = True
        redis.purchases |= self.orders
        redis.keys |= {order.key for order in self.orders.values() if order.key}
        self.take_in()
        redis.last_position = max(
            [redis.last_position, *map(position, self._order_ids())],
        )

    def reopen(self, epoch: str) -> None:
        """Do the second half: the stock is counted anew, and the sale is open in a new epoch."""
        redis = self.redis
        self.epoch = redis.epoch = epoch
        redis.setup, redis.stock = self.setup, max(0, self.setup.total - len(redis.purchases))
        redis.is_checked = True
        redis.is_closed = redis.is_closed_in_this_run = redis.is_half_restored = False
