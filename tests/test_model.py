"""The real scripts, writer, check and restoration, step by step against a model of the rules in plain Python."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any
from unittest.mock import patch

import pytest
from django.contrib.auth.models import User
from django.utils import timezone
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from pytest_django import Settings

from sales import audit, cancelling, continuity, orders, publishing, purchases, restoring, store
from sales.clock import to_ms
from sales.models import MissingOrder, Order, Quarantine, Sale
from sales.purchases import Attempt, Purchase
from tests.model import Answer, Model, Setup, position
from tests.servers import RedisServer

# Few find what breaks a rule outright; many, what only an unlucky order of steps does.
EXAMPLES = {"few": 6, "many": 60}
STEPS = 40

# When each window starts and ends, in hours from now.
WINDOWS = {"ahead": (1, 2), "open": (-1, 1), "over": (-2, -1)}
SHOPPERS = st.sampled_from(["ada", "bob", "eve", "kim", "lee", "mia"])
KEYS = st.sampled_from(["", "", "red", "green", "blue"])
ATTEMPTS = st.tuples(SHOPPERS, KEYS)
TOTALS = st.integers(1, 8)
# Half of them open the sale, so that most attempts find it open.
CHANGES = st.one_of(
    st.fixed_dictionaries({"total": TOTALS}),
    st.sampled_from([{"paused": True}, {"window": "ahead"}, {"window": "over"}, {"published": False}]),
    st.just({"paused": False, "window": "open", "published": True}),
    st.fixed_dictionaries({"total": TOTALS, "paused": st.just(False), "window": st.just("open")}),
)


NEVER_MS = 3_600_000
# Trim to the entry, where Redis otherwise stops at whole nodes of a hundred. Leave it to the system when to write to
# the disk: what a killed process has written stays, and this test is of the rules, not of the disk.
OPTIONS = {"stream-node-max-entries": 1, "appendfsync": "no"}


class Killed(BaseException):
    """Stands for SIGKILL: nothing in the code under test catches it."""


def when_whole(machine: "FlashSale") -> bool:
    return machine.model.is_whole()


class FlashSale(RuleBasedStateMachine):
    """One sale; each rule takes a real step and the model's step, and compares what both say."""

    redis_server: RedisServer

    @initialize(total=TOTALS, clock_was_ahead=st.booleans())
    def open_a_sale(self, total: int, clock_was_ahead: bool) -> None:
        for table in (Order, Quarantine, MissingOrder, Sale):
            table.objects.all().delete()
        store.client().flushall()
        self.operator, _ = User.objects.get_or_create(username="olga")
        self.sale = Sale.objects.create(name="Widget", total_stock=total, **_window("open"))
        self.stream = store.key(self.sale.id, "orders")
        self.model = Model(Setup(total), self.sale.epoch)
        assert publishing.publish(self.sale).remaining_stock == total
        if clock_was_ahead:
            self.model.redis.last_position = (int(time.time() * 1000) + NEVER_MS, 0)
            store.client().execute_command("XSETID", self.stream, f"{self.model.redis.last_position[0]}-0")
        self.acknowledged: dict[str, tuple[str, int, str]] = {}
        self.redis_is_backed_up()

    # Shoppers

    @rule(attempt=ATTEMPTS)
    def buy(self, attempt: tuple[str, str]) -> None:
        self._attempt([attempt], partial(_buy_together, self.sale.id))

    @precondition(when_whole)
    @rule(attempts=st.lists(ATTEMPTS, min_size=2, max_size=8))
    def buy_together(self, attempts: list[tuple[str, str]]) -> None:
        self._attempt(attempts, partial(_buy_together, self.sale.id))

    @precondition(when_whole)
    @rule(attempts=st.lists(ATTEMPTS, min_size=1, max_size=8))
    def buy_in_one_batch(self, attempts: list[tuple[str, str]]) -> None:
        self._attempt(attempts, partial(_buy_in_one_batch, self.sale.id))

    def _attempt(self, attempts: Sequence[tuple[str, str]], buy: Any) -> None:
        if refusal := self.model.refusal():
            with pytest.raises(store.Unavailable, match=refusal):
                asyncio.run(buy(attempts))
            return
        answers: list[Purchase] = asyncio.run(buy(attempts))
        told = [Answer(answer.outcome, answer.order_id, answer.remaining_stock or 0) for answer in answers]
        assert told == [
            self.model.buy(user, key, answer.order_id) for (user, key), answer in zip(attempts, told, strict=True)
        ]
        won = [
            (user, answer) for (user, _), answer in zip(attempts, told, strict=True) if answer.outcome == "purchased"
        ]
        self.acknowledged |= {answer.order_id: (user, answer.remaining_stock, "") for user, answer in won}

    @precondition(when_whole)
    @rule(user=SHOPPERS)
    def look_up_a_shopper(self, user: str) -> None:
        bought = self.model.redis.purchases.get(user)
        assert asyncio.run(purchases.find(self.sale.id, user)) == (bought.order_id if bought else None)

    # Operators

    # What a half-restored sale says to it is not part of the rules.
    @precondition(lambda self: not self.model.redis.is_half_restored)
    @rule()
    def publish(self) -> None:
        expected = self.model.publish()
        assert _publish(self.sale) == expected
        if expected == "below_sold":
            self.model.setup = replace(self.model.setup, total=self.model.in_force())
        self.sale.refresh_from_db()
        assert self.sale.total_stock == self.model.setup.total

    @precondition(when_whole)
    @rule(changes=CHANGES)
    def change_the_sale(self, changes: dict[str, Any]) -> None:
        self.model.setup = setup = replace(self.model.setup, **changes)
        Sale.objects.filter(pk=self.sale.pk).update(
            total_stock=setup.total, paused=setup.paused, published=setup.published, **_window(setup.window)
        )
        self.publish()

    # An entry that SQL has refused for another order of its shopper's waits for a person, who looks at both.
    @precondition(lambda self: self.model.orders and not self.model.conflicts())
    @rule(data=st.data(), may_buy_again=st.booleans(), dies_half_way=st.booleans())
    def cancel_an_order(self, data: st.DataObject, may_buy_again: bool, dies_half_way: bool) -> None:
        user = data.draw(st.sampled_from(sorted(self.model.orders)))
        order = self.sale.orders.get(order_id=self.model.orders[user].order_id)
        cancelling.cancel(order, self.operator, may_buy_again=may_buy_again)
        self.model.cancel(user, may_buy_again)
        if not dies_half_way:
            self.enforce_what_is_due()

    @rule()
    def enforce_what_is_due(self) -> None:
        cancelling.catch_up()
        self.model.enforce()

    # The order writer

    @precondition(lambda self: self.model.unread())  # it would wait for more
    @rule(takes_over=st.booleans())
    def write_orders(self, takes_over: bool) -> None:
        orders.run_once("writer", claim_after_ms=0 if takes_over else NEVER_MS)
        self.model.write(takes_over)
        orders.tidy()

    def _drain(self) -> None:
        orders.drain(self.sale)
        self.model.write(takes_over=True)

    @precondition(lambda self: self.model.unread())
    @rule(count=st.integers(1, 3))
    def a_writer_dies_with_what_it_was_given(self, count: int) -> None:
        store.client().xreadgroup(store.WRITERS, "dead writer", {self.stream: ">"}, count=count)
        self.model.take(count)

    @precondition(when_whole)
    @precondition(lambda self: not self.model.conflicts())
    @rule()
    def audit(self) -> None:
        self._drain()
        self.enforce_what_is_due()

        drift = set(audit.audit(self.sale).drift)

        redis = self.model.redis
        assert redis.setup
        expected = {"total_differs_from_sql"} if redis.setup.total != self.model.setup.total else set()
        if len(redis.purchases) > redis.setup.total:
            expected.add("stock_and_purchases_are_not_the_total")
        assert drift - {"entries_in_quarantine"} == expected

    # What happens to servers

    @precondition(lambda self: self.model.redis.purchases)
    @rule(kind=st.sampled_from(["restart", "loss", "older copy"]), first_written=st.booleans())
    def redis_fails(self, kind: str, first_written: bool) -> None:
        if first_written:
            self._drain()
        {"restart": self._restart, "loss": self._lose_everything, "older copy": self._return_to_backup}[kind]()

    def _restart(self) -> None:
        self.redis_server.kill()
        self.redis_server.start()
        _configure()
        self.model.restart()

    def _lose_everything(self) -> None:
        store.client().flushall()
        self.model.lose_everything()

    def _return_to_backup(self) -> None:
        store.client().flushall()
        for key, value in self.dump.items():
            store.client().restore(key, 0, value)
        self.model.return_to_backup()
        self._restart()

    @rule(remembers=st.booleans())
    def compare_redis_with_sql(self, remembers: bool) -> None:
        acknowledged = self.acknowledged if remembers else {}
        self.model.name_missing(acknowledged)
        self.model.enforce_all()
        is_open = continuity.confirm(self.sale.id, store.run_id_blocking(), acknowledged) == ""
        if not self.model.redis.is_half_restored:
            assert is_open == self.model.may_open()
        self.model.confirm(is_open)

    @precondition(when_whole)
    @rule()
    def redis_is_backed_up(self) -> None:
        client = store.client()
        self.dump: dict[bytes, bytes] = {key: client.dump(key) for key in client.keys(store.key(self.sale.id, "*"))}
        self.model.back_up()

    @rule()
    def restore(self) -> None:
        found, had_conflicts = len(self.model.redis.purchases), self.model.conflicts()
        written_before = len(self.model.orders)

        done = restoring.restore(self.sale)

        self.model.gather()
        self.model.reopen(self.sale.epoch)
        held, total = len(self.model.redis.purchases), self.model.setup.total
        assert (done.purchases_found, done.purchases_restored - done.purchases_cancelled) == (found, held - found)
        assert done.orders_in_sql == len(self.model.orders)
        assert (done.remaining_stock, done.oversold) == (max(0, total - held), max(0, held - total))
        # What was taken in comes from SQL: its stream entries are lost.
        from_stream = len(self.model.orders) - written_before - done.taken_in
        assert had_conflicts or done.stream_entries_written >= from_stream

    @precondition(lambda self: not self.model.is_whole())
    @rule(redis_dies_too=st.booleans())
    def a_restoration_is_killed_before_it_opens_the_sale(self, redis_dies_too: bool) -> None:
        with patch.object(restoring, "_reopen", side_effect=Killed), pytest.raises(Killed):
            restoring.restore(self.sale)
        self.model.gather()
        if redis_dies_too:
            self._restart()

    @invariant()
    def all_hold_what_they_should(self) -> None:
        self._check_redis()
        self._check_the_sum()
        self._check_sql()
        self._check_the_stream()

    def _check_redis(self) -> None:
        standing = publishing.standing(self.sale)
        held = store.client().hgetall(store.key(self.sale.id, "purchases"))
        keys = store.client().smembers(store.key(self.sale.id, "keys"))
        model = self.model.redis

        assert standing.sold == len(model.purchases)
        assert {user.decode(): tuple(text.decode().split(" ")) for user, text in held.items()} == {
            user: (bought.order_id, str(bought.remaining_stock), purchases.digest(bought.key))
            for user, bought in model.purchases.items()
        }
        assert {key.decode() for key in keys} == {purchases.digest(key) for key in model.keys}
        assert {user.decode() for user in store.client().smembers(store.key(self.sale.id, "barred"))} == model.barred
        if not model.is_half_restored:
            assert standing.remaining_stock == model.stock
        config = standing.config
        is_open = config.get("published") == "1" and config.get("run_id") == store.run_id_blocking()
        assert (is_open and "closed" not in config) == (not self.model.refusal())

    def _check_the_sum(self) -> None:
        standing = publishing.standing(self.sale)
        if not self.model.refusal():
            assert standing.remaining_stock is not None
            total = int(standing.config["total_stock"])
            assert standing.remaining_stock + standing.sold == max(total, standing.sold)

    def _check_sql(self) -> None:
        rows = {
            (row.user_id, row.order_id, row.remaining_stock, row.key_digest, to_ms(row.purchased_at))
            for row in self.sale.valid_orders()
        }
        cancelled = self.sale.cancelled_orders().values_list("order_id", "user_id", "may_buy_again")
        assert set(cancelled) == {(order_id, *order[:2]) for order_id, order in self.model.cancelled.items()}
        due = self.sale.orders.filter(cancellation_due=True).values_list("order_id", flat=True)
        assert set(due) == self.model.due
        assert rows == {
            (user, *order[:2], purchases.digest(order.key), position(order.order_id)[0])
            for user, order in self.model.orders.items()
        }

    def _check_the_stream(self) -> None:
        entries = store.client().xrange(self.stream)
        in_stream = {entry_id.decode(): fields[b"user_id"].decode() for entry_id, fields in entries}
        conflicts = self.model.conflicts()
        assert in_stream.items() >= self.model.redis.waiting.items() - conflicts.items()
        bought = {purchase.order_id for purchase in self.model.redis.purchases.values()} | self.model.cancelled.keys()
        assert bought >= in_stream.keys() - conflicts.keys()


async def _buy_together(sale_id: int, attempts: Sequence[tuple[str, str]]) -> list[Purchase]:
    return await asyncio.gather(*(purchases.buy(sale_id, user, key) for user, key in attempts))


async def _buy_in_one_batch(sale_id: int, attempts: Sequence[tuple[str, str]]) -> list[Purchase]:
    answers = await purchases._decide([Attempt(sale_id, user, purchases.digest(key)) for user, key in attempts])
    if isinstance(answers[0], store.Failure):
        raise answers[0]
    return [answer for answer in answers if isinstance(answer, Purchase)]


def _publish(sale: Sale) -> str:
    """Publish as the admin does: a total that Redis refuses goes back, in SQL, to the one in force."""
    try:
        publishing.publish(sale)
    except publishing.Lost:
        return "lost"
    except publishing.BelowSold as refusal:
        Sale.objects.filter(pk=sale.pk).update(total_stock=refusal.in_force)
        return "below_sold"
    return "published"


def _window(name: str) -> dict[str, Any]:
    starts_in, ends_in = WINDOWS[name]
    now = timezone.now()
    return {"starts_at": now + timedelta(hours=starts_in), "ends_at": now + timedelta(hours=ends_in)}


def _configure(options: dict[str, Any] = OPTIONS) -> None:
    for name, value in options.items():
        store.client().config_set(name, value)


@pytest.fixture
def configured_redis(redis_server: RedisServer) -> Iterator[RedisServer]:
    usual = {name: store.client().config_get(name)[name] for name in OPTIONS}
    _configure()
    yield redis_server
    _configure(usual)


@pytest.mark.parametrize("examples", ["few", pytest.param("many", marks=pytest.mark.long)])
def test_redis_and_sql_follow_the_rules_in_any_sequence(
    db: None, configured_redis: RedisServer, settings: Settings, monkeypatch: pytest.MonkeyPatch, examples: str
):
    settings.USER_RATE = None
    monkeypatch.setattr(purchases, "ANSWER_WITHIN_SECONDS", 60)

    class OnThisRedis(FlashSale):
        redis_server = configured_redis

    run_state_machine_as_test(
        OnThisRedis,
        settings=hypothesis_settings(
            max_examples=EXAMPLES[examples],
            stateful_step_count=STEPS,
            derandomize=True,
            database=None,
            deadline=None,
            print_blob=True,
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        ),
    )
