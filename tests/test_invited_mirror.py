"""Who may buy in a sale by invitation: the list in Redis, asked by the real script, and closed while in doubt."""

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from django.core.management import call_command
from django.db import connection
from pytest_django import Settings

from sales import audit, continuity, health, invitations, invited_mirror, preflight, publishing, store, tokens
from sales.models import Sale
from sales.purchases import Attempt, Purchase, _decide
from sales.restoring import restore
from tests.conftest import MakeSale
from tests.redis_servers import wait_until
from tests.servers import RedisServer
from tests.writers import OrderWriter

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(invited_mirror, "SETTLES_SECONDS", 0)


def invite(sale: Sale, *user_ids: str) -> None:
    invitations.replace(sale, user_ids)
    assert invited_mirror.mirror(sale)


@pytest.fixture
def sale(make_sale: MakeSale) -> Sale:
    """A sale to which ada and bob are invited."""
    sale = make_sale(identity="invited")
    invite(sale, "ada", "bob")
    return sale


def attempt(sale: Sale, *user_ids: str) -> list[str]:
    """Return what the script says to each; the failure's word and message where it decides nothing."""
    answers = asyncio.run(_decide([Attempt(sale.id, user_id, "") for user_id in user_ids]))
    return [answer.outcome if isinstance(answer, Purchase) else f"{answer.outcome}: {answer}" for answer in answers]


def is_closed(sale: Sale) -> bool:
    """Return whether nobody is decided about, invited or not."""
    found = attempt(sale, "ada", "eve")
    assert len({answer.partition(":")[0] == "unavailable" for answer in found}) == 1, found
    return "NOLIST" in found[0]


def left_over(sale: Sale) -> list[str]:
    names = ("invited_next", "invited_before", "invited_by")
    return [name for name in names if store.client().exists(store.key(sale.id, name))]


def note(sale: Sale) -> bytes | None:
    return store.client().get(store.key(sale.id, "invited_list"))


def test_only_shoppers_on_the_list_buy(sale: Sale):
    assert attempt(sale, "eve", "ada", "eve", "bob", "ad", "ada2") == [
        *("not_invited", "purchased", "not_invited", "purchased", "not_invited", "not_invited")
    ]


def test_an_open_sale_asks_for_no_list(make_sale: MakeSale):
    assert attempt(make_sale(), "eve") == ["purchased"]
    assert attempt(make_sale(name="verified", identity="verified"), "eve") == ["purchased"]


@pytest.mark.parametrize(
    "fields", [{"starts_in": 3600}, {"starts_in": -120, "lasts": 60}, {"paused": True}], ids=["early", "late", "paused"]
)
def test_uninvited_shoppers_hear_it_in_every_sale_state(make_sale: MakeSale, fields: dict[str, Any]):
    sale = make_sale(identity="invited", **fields)
    invite(sale, "ada")

    eve, ada = attempt(sale, "eve", "ada")

    assert eve == "not_invited"
    assert ada in ("not_started", "ended", "paused")


def test_a_buyer_taken_off_the_list_keeps_the_unit(sale: Sale):
    attempt(sale, "ada")
    invite(sale, "bob")

    assert attempt(sale, "ada") == ["already_purchased"]


def test_a_cancelled_order_is_reported_before_a_missing_invitation(sale: Sale):
    store.client().sadd(store.key(sale.id, "barred"), "eve")
    store.client().hset(store.key(sale.id, "config"), "has_barred", 1)

    assert attempt(sale, "eve") == ["order_cancelled"]


def test_an_empty_list_invites_nobody(sale: Sale):
    invitations.empty(sale)
    assert invited_mirror.mirror(sale)

    assert attempt(sale, "ada") == ["not_invited"]


def test_a_mailbox_is_a_person_on_both_sides(make_sale: MakeSale):
    sale = make_sale(identity="invited", one_mailbox=True)
    invite(sale, "a.da+list@gmail.com", "ada@googlemail.com", "bob@example.com")

    assert attempt(sale, "ada@gmail.com", "a.da@gmail.com") == ["purchased", "not_invited"]
    assert invited_mirror.look(sale).members == 2


def test_a_list_for_another_mailbox_rule_is_not_used(make_sale: MakeSale):
    sale = make_sale(identity="invited")
    invite(sale, "ada+2@example.com")

    sale.one_mailbox = True
    sale.save()
    publishing.publish(sale)
    closed = attempt(sale, "ada@example.com")
    assert Sale.objects.get(pk=sale.pk).list_due
    invited_mirror.catch_up()

    assert "NOLIST" in closed[0]
    assert attempt(sale, "ada@example.com") == ["purchased"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda client, key: client.delete(key("invited")),
        lambda client, key: client.srem(key("invited"), client.srandmember(key("invited"))),
        lambda client, key: client.sadd(key("invited"), "another"),
        lambda client, key: client.delete(key("invited_list")),
    ],
    ids=["lost", "one is missing", "one too many", "unknown"],
)
def test_a_list_that_is_not_whole_is_not_asked(sale: Sale, damage: Callable[..., Any]):
    damage(store.client(), lambda name: store.key(sale.id, name))

    assert is_closed(sale)
    assert attempt(sale, "ada") == attempt(sale, "ada")  # nothing was claimed
    assert not store.client().exists(store.key(sale.id, "purchases"))


def test_a_sale_made_invited_waits_for_its_list(make_sale: MakeSale):
    sale = make_sale()
    invitations.add(sale, ["ada"])
    assert invited_mirror.mirror(sale), "an open sale needs no list"

    Sale.objects.update(identity="invited")
    publishing.publish(sale)
    closed = is_closed(sale)
    invited_mirror.catch_up()

    assert closed
    assert attempt(sale, "eve", "ada") == ["not_invited", "purchased"]


def test_a_list_from_before_an_open_phase_is_not_used(sale: Sale):
    for identity in ("open", "invited"):
        Sale.objects.update(identity=identity)
        publishing.publish(sale)

    assert is_closed(sale)


def test_a_list_may_come_before_the_first_publication(db: None, make_sale: MakeSale):
    sale = make_sale(identity="invited", published=False)
    invite(sale, "ada")

    sale.published = True
    sale.save()
    publishing.publish(sale)

    assert attempt(sale, "eve", "ada") == ["not_invited", "purchased"]
    assert not Sale.objects.get(pk=sale.pk).list_due


def test_a_first_list_waits_for_earlier_decisions_to_settle(make_sale: MakeSale, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(invited_mirror, "SETTLES_SECONDS", 0.5)
    sale = make_sale(identity="invited")
    started = time.monotonic()

    invite(sale, "ada")
    first_seconds = time.monotonic() - started
    monkeypatch.setattr(invited_mirror, "SETTLES_SECONDS", 60)
    invite(sale, "bob")  # the list in force is exchanged at once

    assert first_seconds >= 0.5
    assert attempt(sale, "ada", "bob") == ["not_invited", "purchased"]


def test_the_current_list_holds_until_the_next_is_whole(sale: Sale, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(invited_mirror, "AT_ONCE", 1)
    invitations.replace(sale, ["bob", "cyd", "dan"])
    seen = []
    run = store.run_script_blocking

    def watched(name: str, *arguments: Any) -> Any:
        if name in ("stage_invited", "enforce_invited"):
            seen.append(store.client().scard(store.key(sale.id, "invited")))
        return run(name, *arguments)

    monkeypatch.setattr(store, "run_script_blocking", watched)
    invited_mirror.mirror(sale)

    assert seen == [2, 2, 2, 2]
    assert attempt(sale, "ada", "cyd") == ["not_invited", "purchased"]


def test_killed_before_the_exchange_the_old_list_holds_until_retry(sale: Sale, monkeypatch: pytest.MonkeyPatch):
    invitations.replace(sale, ["cyd"])
    run = store.run_script_blocking

    def dies(name: str, *arguments: Any) -> Any:
        if name == "enforce_invited":
            raise KeyboardInterrupt
        return run(name, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(store, "run_script_blocking", dies)
        patched.setattr(invited_mirror, "_end_turn", lambda *arguments: None)
        with pytest.raises(KeyboardInterrupt):
            invited_mirror.mirror(sale)
    between = attempt(sale, "eve", "ada", "cyd")
    is_theirs = invited_mirror.mirror(sale, wait_seconds=0)
    turn = store.key(sale.id, "invited_by")
    ends_in_ms = store.client().pttl(turn)
    store.client().delete(turn)  # as Redis does then
    invited_mirror.catch_up()

    assert between == ["not_invited", "purchased", "not_invited"]
    assert not is_theirs, "for a moment it may be alive"
    assert 0 < ends_in_ms <= invited_mirror.KEEP_MS
    assert attempt(sale, "cyd", "bob") == ["purchased", "not_invited"]
    assert not left_over(sale)
    assert not Sale.objects.get().list_due


def test_a_replaced_list_is_emptied_in_parts_completely(make_sale: MakeSale):
    sale = make_sale(identity="invited")
    invite(sale, *map(str, range(5_000)))
    store.client().copy(store.key(sale.id, "invited"), store.key(sale.id, "invited_before"))

    invite(sale, *map(str, range(2_500, 6_000)))

    assert left_over(sale) == []
    assert invited_mirror.look(sale).members == 3_500
    assert attempt(sale, "0", "5999") == ["not_invited", "purchased"]


def test_a_part_that_gets_lost_on_the_way_is_noticed(sale: Sale, monkeypatch: pytest.MonkeyPatch):
    invitations.replace(sale, ["cyd", "dan"])
    run = store.run_script_blocking

    def loses(name: str, *arguments: Any) -> Any:
        if name == "enforce_invited":
            store.client().spop(store.key(sale.id, "invited_next"))
        return run(name, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(store, "run_script_blocking", loses)
        assert not invited_mirror.mirror(sale)

    assert attempt(sale, "ada") == ["purchased"]
    assert Sale.objects.get().list_due


def test_changes_while_the_list_is_made_are_included(sale: Sale, monkeypatch: pytest.MonkeyPatch):
    invitations.replace(sale, ["cyd"])
    run, changes = store.run_script_blocking, [lambda: invitations.add(Sale.objects.get(), ["dan"])]

    def overtaken(name: str, *arguments: Any) -> Any:
        if name == "enforce_invited" and changes:
            changes.pop()()
        return run(name, *arguments)

    monkeypatch.setattr(store, "run_script_blocking", overtaken)

    assert invited_mirror.mirror(sale, wait_seconds=0), "it waits for nobody: the turn is its own"
    assert attempt(sale, "dan") == ["purchased"]
    assert not Sale.objects.get().list_due


@pytest.mark.django_db(transaction=True)
def test_two_simultaneous_mirrors_end_with_the_current_list(sale: Sale):
    together, told = threading.Barrier(2), []

    def upload(user_ids: list[str]) -> None:
        together.wait()
        try:
            mine = Sale.objects.get()
            invitations.add(mine, user_ids)
            told.append(invited_mirror.mirror(mine))
        finally:
            connection.close()

    threads = [threading.Thread(target=upload, args=([f"{name}{n}" for n in range(1_500)],)) for name in "xy"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert told == [True, True]
    assert invited_mirror.look(sale).members == 3_002
    assert invited_mirror.difference(Sale.objects.get()) == ""


def test_an_older_copy_of_redis_waits_for_the_list(sale: Sale):
    key = store.key(sale.id, "invited")
    older = {name: store.client().dump(store.key(sale.id, name)) for name in ("invited", "invited_list")}
    invite(sale, "ada", "cyd")  # as many as before
    for name, dumped in older.items():
        store.client().restore(store.key(sale.id, name), 0, dumped, replace=True)
    assert store.client().scard(key) == 2

    assert continuity.confirm(sale.id, store.run_id_blocking()) == ""
    closed = is_closed(sale)
    invited_mirror.catch_up()

    assert closed
    assert attempt(sale, "bob", "cyd") == ["not_invited", "purchased"]


def test_the_same_redis_started_again_goes_on_by_itself(sale: Sale):
    before = note(sale)

    assert continuity.confirm(sale.id, store.run_id_blocking()) == ""

    assert note(sale) == before
    assert not Sale.objects.get().list_due


def test_restore_sale_brings_the_list_back(sale: Sale):
    attempt(sale, "ada")
    call_command("write_orders", "--once")
    store.client().flushall()

    restore(sale)

    assert attempt(sale, "eve", "ada", "bob") == ["not_invited", "already_purchased", "purchased"]


def test_publish_sales_notes_that_a_list_is_missing(sale: Sale):
    store.client().delete(store.key(sale.id, "invited"))

    call_command("publish_sales")

    assert Sale.objects.get().list_due


@pytest.mark.django_db(transaction=True)
def test_the_order_writer_mirrors_what_is_due(sale: Sale):
    invitations.replace(sale, ["cyd"])

    with OrderWriter():
        wait_until(lambda: not Sale.objects.get().list_due, "the list is mirrored", within_seconds=60)

    assert attempt(sale, "ada", "cyd") == ["not_invited", "purchased"]


def test_a_list_that_fails_does_not_delay_other_lists(sale: Sale, make_sale: MakeSale):
    for one in (sale, *(make_sale(name=name, identity="invited") for name in ("Second", "Third"))):
        invitations.replace(one, ["cyd"])
    due = list(Sale.objects.filter(list_due=True))
    key = store.key(due[1].id, "invited_list")
    store.client().delete(key)
    store.client().hset(key, "no", "string")  # as if its server failed

    with pytest.raises(store.Unavailable):
        invited_mirror.catch_up()

    assert set(Sale.objects.filter(list_due=True)) == {due[1]}
    store.client().delete(key)
    invited_mirror.catch_up()
    assert not invited_mirror.is_due()


def test_redis_that_is_away_gets_the_list_later(sale: Sale, redis_server: RedisServer):
    invitations.replace(sale, ["cyd"])
    redis_server.stop()
    try:
        with pytest.raises(store.Unavailable):
            invited_mirror.mirror(sale)
    finally:
        redis_server.start()

    assert Sale.objects.get().list_due
    invited_mirror.catch_up()
    assert not Sale.objects.get().list_due


def test_the_audit_compares_the_list_and_repairs_it(sale: Sale):
    clean = audit.audit(sale).drift
    sale.invited().filter(user_id="bob").delete()

    drift = audit.audit(sale).drift
    done = audit.repair(sale)

    assert clean == {}
    assert drift == {"invitations_differ_from_sql": ["2 in Redis (this version of the list), 1 in SQL"]}
    assert done == ["the list of invited shoppers mirrored anew"]
    assert attempt(sale, "bob") == ["not_invited"]
    assert audit.audit(sale).drift == {}


def test_the_preflight_tells_how_many_are_invited(sale: Sale, make_sale: MakeSale):
    def find(sale: Sale) -> tuple[str, str]:
        (found,) = [found for found in preflight.run(lambda: sale) if found.name == "invitations"]
        return found.verdict, found.reason

    good = find(sale)
    invitations.add(sale, ["cyd"])
    incomplete = find(sale)
    invitations.empty(sale)

    assert good == ("ok", "2 shoppers are invited, and Redis knows them.")
    assert incomplete[0] == "failure"
    assert "2 in Redis (another version of the list), 3 in SQL" in incomplete[1]
    assert find(sale) == ("failure", "Nobody is invited: the list is empty.")
    assert find(make_sale(name="open"))[0] == "ok"


def test_health_names_a_sale_without_its_list(sale: Sale):
    store.client().delete(store.key(sale.id, "invited"))

    async def look() -> dict[str, Any]:
        found = await health._closed({sale.slug: sale.id})
        await store.close()
        return found

    assert "list of invited shoppers" in asyncio.run(look())[sale.slug]
    assert invited_mirror.remake(sale)
    assert asyncio.run(look()) == {}


def buy(http: httpx.Client, sale: Sale, user_id: str) -> tuple[int, str]:
    answer = http.post(
        f"/api/sales/{sale.slug}/purchase", json={}, headers={"Authorization": f"Bearer {tokens.issue(user_id)}"}
    )
    return answer.status_code, answer.json()["code"]


def test_the_api_answers_403_uninvited_and_503_without_list(http: httpx.Client, sale: Sale, seen: Callable[[], None]):
    seen()
    invited, stranger = buy(http, sale, "ada"), buy(http, sale, "eve")
    store.client().delete(store.key(sale.id, "invited"))

    assert (invited, stranger) == ((200, "purchased"), (403, "not_invited"))
    assert [buy(http, sale, user_id) for user_id in ("bob", "eve")] == [(503, "unavailable")] * 2


def test_a_growing_list_refuses_no_invited_shopper(sale: Sale, settings: Settings):
    settings.USER_RATE = None
    attempt(sale, "ada")
    found: list[str] = []
    has_asked, is_over = threading.Event(), threading.Event()

    def ask() -> None:
        while not is_over.is_set():
            found.extend(attempt(sale, "eve", "ada"))
            has_asked.set()

    asker = threading.Thread(target=ask)
    asker.start()
    try:
        assert has_asked.wait(60)
        invitations.add(sale, map(str, range(5_000)))
        assert invited_mirror.mirror(sale)
    finally:
        is_over.set()
        asker.join()

    assert invited_mirror.look(sale).members == 5_002
    assert set(found) == {"not_invited", "already_purchased"}
