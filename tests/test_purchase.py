"""The rules of a purchase, decided by the real script in a real Redis."""

import asyncio
import re
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from django.conf import settings
from redis.exceptions import NoScriptError

from sales import purchases, store
from sales.models import Sale
from sales.purchases import Attempt, Purchase
from sales.store.server import Command, Replies, Server
from tests.conftest import MakeSale


@pytest.fixture
def sale(request: pytest.FixtureRequest, make_sale: MakeSale) -> Sale:
    """A sale with the fields that the test's parameter gives."""
    return make_sale(**request.param)


def sale_with(**fields: object) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("sale", [fields], indirect=True)


def stock(sale: Sale) -> int:
    return int(store.client().get(store.key(sale.id, "stock")) or -1)


async def decide(sale: Sale, *attempts: tuple[str, str]) -> list[Purchase]:
    """Decide attempts, each a user_id and the digest of a key, in one batch."""
    answers = await purchases._decide([Attempt(sale.id, *attempt) for attempt in attempts])
    return [answer for answer in answers if isinstance(answer, Purchase)]


@pytest.fixture
def two_sales(make_sale: MakeSale) -> tuple[Sale, Sale]:
    return make_sale(name="one"), make_sale(name="two", stock=1)


def entries(sale: Sale) -> list:
    return store.client().xrange(store.key(sale.id, "orders"))


async def test_a_shopper_gets_a_unit(open_sale: Sale):
    purchase = await purchases.buy(open_sale.id, "ada@example.com")

    assert purchase.outcome == "purchased"
    assert purchase.remaining_stock == 9
    assert stock(open_sale) == 9


async def test_claim_stock_and_stream_entry_are_made_together(open_sale: Sale):
    purchase = await purchases.buy(open_sale.id, "ada@example.com", "key")

    ((entry_id, fields),) = entries(open_sale)
    claim = store.client().hget(store.key(open_sale.id, "purchases"), "ada@example.com")
    assert entry_id.decode() == purchase.order_id
    assert fields[b"user_id"] == b"ada@example.com"
    assert fields[b"remaining_stock"] == b"9"
    assert claim.decode().split() == [purchase.order_id, "9", fields[b"key_digest"].decode()]


async def test_a_second_attempt_returns_the_first_order(open_sale: Sale):
    first = await purchases.buy(open_sale.id, "ada@example.com")
    second = await purchases.buy(open_sale.id, "ada@example.com")

    assert second.outcome == "already_purchased"
    assert second.order_id == first.order_id
    assert stock(open_sale) == 9


@sale_with(stock=1)
async def test_the_last_unit_is_sold_and_no_more(sale: Sale):
    first = await purchases.buy(sale.id, "ada@example.com")
    second = await purchases.buy(sale.id, "bob@example.com")

    assert (first.outcome, first.remaining_stock) == ("purchased", 0)
    assert (second.outcome, second.remaining_stock, second.order_id) == ("sold_out", 0, "")


@sale_with(stock=2)
async def test_the_moment_when_the_last_unit_went_is_kept(sale: Sale):
    await purchases.buy(sale.id, "ada@example.com")
    before = store.client().hget(store.key(sale.id, "config"), "sold_out_ms")
    last = await purchases.buy(sale.id, "bob@example.com")
    await purchases.buy(sale.id, "cyd@example.com")

    after = store.client().hget(store.key(sale.id, "config"), "sold_out_ms")
    assert (before, int(after)) == (None, purchases.purchased_ms(last.order_id))


@pytest.mark.parametrize(
    ("sale", "outcome"),
    [
        ({"starts_in": 60}, "not_started"),
        ({"starts_in": -120, "lasts": 60}, "ended"),
        ({"paused": True}, "paused"),
        ({"starts_in": 60, "paused": True}, "not_started"),
        ({"starts_in": -120, "lasts": 60, "paused": True}, "ended"),
    ],
    indirect=["sale"],
)
async def test_outside_its_window_a_sale_refuses(sale: Sale, outcome: str):
    purchase = await purchases.buy(sale.id, "ada@example.com")

    assert purchase.outcome == outcome
    assert stock(sale) == 10
    assert not entries(sale)


@pytest.mark.parametrize("hours", [-2, 2])
async def test_the_clock_of_redis_decides(open_sale: Sale, monkeypatch: pytest.MonkeyPatch, hours: int):
    now_ns = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: now_ns() + hours * 3600 * 10**9)
    monkeypatch.setattr(time, "time", lambda: time.time_ns() / 10**9)

    purchase = await purchases.buy(open_sale.id, "ada@example.com")

    assert purchase.outcome == "purchased"


@sale_with(stock=1)
async def test_a_buyer_hears_already_purchased_even_after_the_end(sale: Sale):
    first = await purchases.buy(sale.id, "ada@example.com")
    store.client().hset(store.key(sale.id, "config"), "ends_ms", 1)

    second = await purchases.buy(sale.id, "ada@example.com")

    assert (second.outcome, second.order_id) == ("already_purchased", first.order_id)


async def test_the_same_key_replays_the_first_answer(open_sale: Sale):
    first = await purchases.buy(open_sale.id, "ada@example.com", "key")
    await purchases.buy(open_sale.id, "bob@example.com")
    again = await purchases.buy(open_sale.id, "ada@example.com", "key")

    assert again._replace(quota=None) == first._replace(outcome="replayed", quota=None)
    assert stock(open_sale) == 8


async def test_a_key_that_bought_for_somebody_else_is_refused(open_sale: Sale):
    await purchases.buy(open_sale.id, "ada@example.com", "key")
    await purchases.buy(open_sale.id, "bob@example.com", "another")

    stranger = await purchases.buy(open_sale.id, "eve@example.com", "key")
    owner = await purchases.buy(open_sale.id, "bob@example.com", "key")

    assert stranger.outcome == "idempotency_key_reused"
    assert owner.outcome == "idempotency_key_reused"
    assert stock(open_sale) == 8


async def test_another_key_of_the_buyer_gets_the_same_order(open_sale: Sale):
    first = await purchases.buy(open_sale.id, "ada@example.com", "key")
    second = await purchases.buy(open_sale.id, "ada@example.com", "new key")

    assert (second.outcome, second.order_id) == ("already_purchased", first.order_id)


@sale_with(stock=2)
async def test_one_call_decides_a_batch_in_order(sale: Sale):
    attempts = [
        ("ada", "key"),
        ("ada", ""),
        ("ada", "key"),
        ("bob", "key"),
        ("bob", ""),
        ("eve", ""),
    ]

    answers = await decide(sale, *attempts)

    assert [answer.outcome for answer in answers] == [
        "purchased",
        "already_purchased",
        "replayed",
        "idempotency_key_reused",
        "purchased",
        "sold_out",
    ]
    assert len({answers[0].order_id, answers[1].order_id, answers[2].order_id}) == 1
    assert len(entries(sale)) == 2


@sale_with(stock=purchases.LARGEST_BATCH - 1)
async def test_the_largest_batch_fits_one_call(sale: Sale):
    attempts = [(f"shopper-{number}", f"key-{number}") for number in range(purchases.LARGEST_BATCH)]

    answers = await decide(sale, *attempts)

    assert [answer.outcome for answer in answers] == ["purchased"] * (len(attempts) - 1) + ["sold_out"]


async def test_nothing_that_holds_a_purchase_expires(open_sale: Sale):
    await purchases.buy(open_sale.id, "ada", "key")

    for name in ("config", "stock", "purchases", "keys", "orders"):
        assert store.client().ttl(store.key(open_sale.id, name)) == -1, name


async def test_a_sale_that_is_not_mirrored_takes_no_purchase(open_sale: Sale):
    store.client().delete(store.key(open_sale.id, "config"))

    with pytest.raises(store.Unavailable, match="NOTMIRRORED"):
        await purchases.buy(open_sale.id, "ada")

    assert not entries(open_sale)


async def test_attempts_at_several_sales_are_decided_together_and_apart(
    two_sales: tuple[Sale, Sale], monkeypatch: pytest.MonkeyPatch
):
    one, two = two_sales
    await purchases.buy(one.id, "first")
    exchanges: list[int] = []
    exchange = Server.exchange

    async def counted(server: Server, commands: list[Command]) -> Replies:
        exchanges.append(len(commands))
        return await exchange(server, commands)

    monkeypatch.setattr(Server, "exchange", counted)
    first, other, second, refused = await asyncio.gather(
        *(purchases.buy(sale.id, user_id) for user_id in ("ada", "bob") for sale in (one, two))
    )

    assert [answer.outcome for answer in (first, other, second, refused)] == [*["purchased"] * 3, "sold_out"]
    assert exchanges == [2]
    assert (stock(one), stock(two)) == (7, 0)
    assert [await purchases.find(sale.id, "ada") for sale in (one, two)] == [first.order_id, other.order_id]


async def test_a_closed_sale_refuses_its_attempts_and_no_other_sales(two_sales: tuple[Sale, Sale]):
    one, two = two_sales
    store.client().hset(store.key(one.id, "config"), "closed", "run it has lost data")

    refused, bought = await asyncio.gather(
        *(purchases.buy(sale.id, "ada") for sale in (one, two)), return_exceptions=True
    )

    assert isinstance(refused, store.Unavailable)
    assert isinstance(bought, Purchase)
    assert bought.outcome == "purchased"


async def test_decisions_before_redis_forgets_the_script_still_hold(
    two_sales: tuple[Sale, Sale], monkeypatch: pytest.MonkeyPatch
):
    one, two = two_sales
    await purchases.buy(one.id, "first")
    exchange = Server.exchange

    async def forgetful(server: Server, commands: list[Command]) -> Replies:
        if commands[0][0] == "EVAL":
            raise store.Unavailable("no connection")
        (reply,), (run_id,) = await exchange(server, commands[:1])
        return [reply, NoScriptError()], [run_id] * 2

    monkeypatch.setattr(Server, "exchange", forgetful)
    bought, refused = await asyncio.gather(
        *(purchases.buy(sale.id, "ada") for sale in (one, two)), return_exceptions=True
    )

    assert isinstance(bought, Purchase)
    assert bought.outcome == "purchased"
    assert isinstance(refused, store.Unavailable)


async def test_an_attempt_whose_answer_is_lost_is_sent_once(open_sale: Sale, monkeypatch: pytest.MonkeyPatch):
    sent: list[Sequence[Command]] = []
    exchange = Server.exchange

    async def lossy(server: Server, commands: Sequence[Command]) -> Replies:
        sent.append(commands)
        await exchange(server, commands)
        raise store.Unknown("the answer did not arrive")

    await purchases.buy(open_sale.id, "first")
    monkeypatch.setattr(Server, "exchange", lossy)
    with pytest.raises(store.Unknown):
        await purchases.buy(open_sale.id, "ada")

    assert len(sent) == 1
    assert stock(open_sale) == 8


async def test_a_script_that_redis_forgot_is_loaded_again(open_sale: Sale):
    store.client().script_flush()

    purchase = await purchases.buy(open_sale.id, "ada")

    assert purchase.outcome == "purchased"


async def test_a_full_redis_takes_nothing_and_says_so(open_sale: Sale):
    store.client().config_set("maxmemory", 1)
    try:
        with pytest.raises(store.Unavailable, match="maxmemory"):
            await purchases.buy(open_sale.id, "ada")
    finally:
        store.client().config_set("maxmemory", 0)

    assert stock(open_sale) == 10
    assert (await purchases.buy(open_sale.id, "ada")).outcome == "purchased"


async def test_a_purchase_is_found(open_sale: Sale):
    purchase = await purchases.buy(open_sale.id, "ada")

    assert await purchases.find(open_sale.id, "ada") == purchase.order_id
    assert await purchases.find(open_sale.id, "bob") is None


def test_the_purchase_scripts_header_lists_its_keys(open_sale: Sale, monkeypatch: pytest.MonkeyPatch):
    calls: list[list[str]] = []

    async def watched(name: str, with_keys: list[tuple[list[str], list[str]]]) -> list[store.Failure]:
        calls.extend(keys for keys, _ in with_keys)
        return [store.Unavailable()]

    monkeypatch.setattr(store, "run_scripts", watched)
    asyncio.run(decide(open_sale, ("ada", ""), ("bob", "")))

    documented = re.findall(r"^KEYS\[\d+(?:\.\.)?\]\s+(\S+)", store.script("purchase").text, re.MULTILINE)
    *keys, limit = [key.replace("ID", str(open_sale.id)) for key in documented]
    assert calls == [[*keys, limit.replace("USER", "ada"), limit.replace("USER", "bob")]]


SCRIPTS = sorted((settings.BASE_DIR / "sales" / "lua").glob("*.lua"))


@pytest.mark.pure
@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_every_script_header_lists_all_keys_and_arguments(path: Path):
    contract, code = path.read_text().split("]]\n", 1)

    def named(text: str, pattern: str) -> set[int]:
        return {int(number) for number in re.findall(pattern, text)}

    # KEYS[5 + i], unpack(ARGV, 4) and a loop from 3 take the rest from there on.
    used_keys = named(code, r"KEYS\[(\d+)\]") | named(code, r"unpack\(KEYS, (\d+)")
    used_keys |= {last + 1 for last in named(code, r"KEYS\[(\d+) \+ i\]")}
    used_arguments = (
        named(code, r"ARGV\[(\d+)\]") | named(code, r"unpack\(ARGV, (\d+)") | named(code, r"i = (\d+), #ARGV")
    )
    assert used_keys == named(contract, r"KEYS\[(\d+)")
    assert used_arguments == named(contract, r"ARGV\[(\d+)")
    assert "Returns" in contract
