"""Who may buy as whom, and ask about whom, over real HTTP: with and without tokens, in every kind of sale."""

import itertools
import time
from collections.abc import Callable

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sales import identities, shoppers, store, tokens
from sales.models import Sale
from sales.snapshots import REFRESH_AFTER_SECONDS
from tests.conftest import MakeSale
from tests.redis_servers import wait_until

ADA, BOB = "ada@example.com", "bob@example.com"
MINUTE = 60
NUMBERS = itertools.count()
OWN_PAGE = {"Sec-Fetch-Site": "same-origin"}


@pytest.fixture
def sale_of(make_sale: MakeSale) -> Callable[..., Sale]:
    """Make a sale, and have every worker see it: it looks for one of a name that it does not know."""

    def make(identity: str = "verified", **fields: object) -> Sale:
        sale = make_sale(identity=identity, slug=f"sale-{next(NUMBERS)}", **fields)
        time.sleep(REFRESH_AFTER_SECONDS)
        return sale

    return make


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def cookie(token: str, **headers: str) -> dict[str, str]:
    return {"Cookie": f"{identities.COOKIE}={token}", **headers}


# What a request may bring, as headers.
CREDENTIALS: dict[str, Callable[[Sale], dict[str, str]]] = {
    "nothing": lambda sale: {},
    "a password for who stands in front": lambda sale: {"Authorization": "Basic YWRhOnB3"},
    "ada's token": lambda sale: bearer(tokens.issue(ADA)),
    "ada's token, said in lower case": lambda sale: {"Authorization": f"bearer   {tokens.issue(ADA)}"},
    "ada's token for this sale": lambda sale: bearer(tokens.issue(ADA, sale_id=sale.id)),
    "ada's token for another sale": lambda sale: bearer(tokens.issue(ADA, sale_id=sale.id + 1)),
    "bob's token": lambda sale: bearer(tokens.issue(BOB)),
    "the partner's word for ada": lambda sale: bearer(tokens.vouch("Ada@Example.com", sale.id, 1, seconds=MINUTE)),
    "another sale's partner's word": lambda sale: bearer(tokens.vouch(ADA, sale.id + 1, 1, seconds=MINUTE)),
    "a word by the partner's next key": lambda sale: bearer(tokens.vouch(ADA, sale.id, 2, seconds=MINUTE)),
    "ada's token of yesterday": lambda sale: bearer(tokens.issue(ADA, seconds=-1)),
    "a forged token": lambda sale: bearer(tokens.issue(ADA)[:-4] + "AAAA"),
    "a token that is none": lambda sale: bearer("é.\xff.x"),
    "no token after all": lambda sale: {"Authorization": "Bearer"},
    "ada's cookie, from the sale's page": lambda sale: cookie(tokens.issue(ADA), **OWN_PAGE),
    "ada's cookie, from an old browser": lambda sale: cookie(tokens.issue(ADA), Origin="SELF"),
    "ada's cookie, from another site": lambda sale: cookie(tokens.issue(ADA), Origin="https://evil.example"),
    "ada's cookie, from a neighbour": lambda sale: cookie(tokens.issue(ADA), **{"Sec-Fetch-Site": "same-site"}),
    "ada's cookie, from nowhere": lambda sale: cookie(tokens.issue(ADA)),
    "a forged cookie": lambda sale: cookie(tokens.issue(ADA)[:-4] + "AAAA", **OWN_PAGE),
    "ada's cookie and bob's token": lambda sale: cookie(tokens.issue(ADA), **OWN_PAGE) | bearer(tokens.issue(BOB)),
}
# Those that prove nothing to a verified sale, with the answer's status and code, and the challenge of a 401.
BAD_TOKEN = (401, "unauthorized", 'Bearer error="invalid_token"')
NOT_PROVEN = (401, "unauthorized", "Bearer")
FOREIGN = (403, "forbidden", None)
REFUSED = {
    "nothing": NOT_PROVEN,
    "a password for who stands in front": NOT_PROVEN,
    "ada's token for another sale": BAD_TOKEN,
    "another sale's partner's word": BAD_TOKEN,
    "a word by the partner's next key": BAD_TOKEN,
    "ada's token of yesterday": BAD_TOKEN,
    "a forged token": BAD_TOKEN,
    "a token that is none": BAD_TOKEN,
    "no token after all": BAD_TOKEN,
    "ada's cookie, from another site": FOREIGN,
    "ada's cookie, from a neighbour": FOREIGN,
    "ada's cookie, from nowhere": FOREIGN,
    "a forged cookie": NOT_PROVEN,
}
FROM_NOWHERE = "ada's cookie, from nowhere"
NAMES_BOB = ("bob's token", "ada's cookie and bob's token")
# An open sale asks for no proof, but takes no bad one for a good one; and no cookie says anything to it.
REFUSED_BY_OPEN = {
    name: found for name, found in REFUSED.items() if found == BAD_TOKEN or name.endswith(("site", "neighbour"))
}


def headers_of(http: httpx.Client, sale: Sale, credential: str) -> list[tuple[bytes, bytes]]:
    # With a name of its own no answer differs by the one that it would be given.
    headers = {"X-Request-Id": "the-same", **CREDENTIALS[credential](sale)}
    own = str(http.base_url).rstrip("/")
    return [(name.encode(), value.replace("SELF", own).encode("latin-1")) for name, value in headers.items()]


def buy(http: httpx.Client, sale: Sale, credential: str, user_id: str | None = None) -> httpx.Response:
    body = {} if user_id is None else {"userId": user_id}
    return http.post(f"/api/sales/{sale.slug}/purchase", json=body, headers=headers_of(http, sale, credential))


def look(http: httpx.Client, sale: Sale, credential: str, user_id: str) -> httpx.Response:
    return http.get(f"/api/sales/{sale.slug}/user/{user_id}", headers=headers_of(http, sale, credential))


def state(sale: Sale) -> dict[bytes, bytes]:
    """Return all that Redis holds of the sale, but what workers count."""
    kept = [key for key in store.client().scan_iter(store.key(sale.id, "*")) if not key.endswith(b":attempts")]
    return {key: store.client().dump(key) for key in kept}


def buyers(sale: Sale) -> set[str]:
    return {name.decode() for name in store.client().hkeys(store.key(sale.id, "purchases"))}


def assert_refused(response: httpx.Response, status: int, code: str, challenge: str | None) -> None:
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert response.json()["success"] is False
    assert response.json()["message"].endswith(".")
    assert response.headers.get("www-authenticate") == challenge


# To buy


@pytest.mark.parametrize("credential", REFUSED)
def test_a_verified_sale_refuses_unproven_attempts_without_side_effects(
    http: httpx.Client, sale_of: Callable[..., Sale], credential: str
):
    sale = sale_of()
    before = state(sale)

    for user_id in (None, ADA, BOB):
        assert_refused(buy(http, sale, credential, user_id), *REFUSED[credential])

    assert state(sale) == before


@pytest.mark.parametrize("credential", sorted(CREDENTIALS.keys() - REFUSED.keys()))
def test_a_verified_sale_sells_only_to_the_tokens_shopper(
    http: httpx.Client, sale_of: Callable[..., Sale], credential: str
):
    sale = sale_of()
    named, another = (BOB, ADA) if credential in NAMES_BOB else (ADA, BOB)
    before = state(sale)

    refused = [buy(http, sale, credential, user_id) for user_id in (another, "eve", f"{named}.org")]
    after_refusals = state(sale)
    bought = buy(http, sale, credential)
    again = [buy(http, sale, credential, user_id) for user_id in (None, named, f" {named.upper()} ")]

    for response in refused:
        assert_refused(response, 403, "forbidden", None)
    assert after_refusals == before
    assert bought.json()["code"] == "purchased"
    assert {response.json()["orderId"] for response in again} == {bought.json()["orderId"]}
    assert {response.json()["code"] for response in again} == {"already_purchased"}
    for told_to_the_buyer in ("receiptUrl", "orderCode"):
        assert {response.json()[told_to_the_buyer] for response in again} == {bought.json()[told_to_the_buyer]}
    assert buyers(sale) == {named}


@pytest.mark.parametrize("credential", REFUSED_BY_OPEN)
def test_an_open_sale_takes_no_bad_token_for_none(http: httpx.Client, sale_of: Callable[..., Sale], credential: str):
    sale = sale_of("open")
    before = state(sale)

    assert_refused(buy(http, sale, credential, ADA), *REFUSED_BY_OPEN[credential])

    assert state(sale) == before


@pytest.mark.parametrize("credential", sorted(CREDENTIALS.keys() - REFUSED_BY_OPEN.keys()))
def test_an_open_sale_trusts_names_unless_a_token_contradicts(
    http: httpx.Client, sale_of: Callable[..., Sale], credential: str
):
    sale = sale_of("open")
    has_token = "Authorization" in CREDENTIALS[credential](sale) and not credential.startswith("a password")
    named = BOB if credential in NAMES_BOB else ADA

    eve = buy(http, sale, credential, "eve")
    unnamed = buy(http, sale, credential)

    if has_token:
        assert_refused(eve, 403, "forbidden", None)
        assert unnamed.json()["code"] == "purchased"
        assert buyers(sale) == {named}
    else:
        assert eve.json()["code"] == "purchased"
        assert_refused(unnamed, 400, "invalid_request", None)
        assert "userId" in unnamed.json()["message"]
        assert buyers(sale) == {"eve"}


@pytest.mark.parametrize("credential", ["nothing", "ada's token"])
def test_a_name_that_is_no_text_is_refused(http: httpx.Client, sale_of: Callable[..., Sale], credential: str):
    sale = sale_of("open")
    headers = headers_of(http, sale, credential)

    refused = http.post(f"/api/sales/{sale.slug}/purchase", json={"userId": 5}, headers=headers)

    assert_refused(refused, 400, "invalid_request", None)
    assert refused.json()["message"] == shoppers.NO_TEXT
    assert buyers(sale) == set()


def test_an_invited_sale_asks_for_the_same_proof(http: httpx.Client, sale_of: Callable[..., Sale]):
    sale = sale_of("invited")

    for credential, expected in REFUSED.items():
        assert_refused(buy(http, sale, credential, ADA), *expected)


def test_a_change_to_verified_takes_effect_with_the_next_snapshot(
    http: httpx.Client, sale_of: Callable[..., Sale], seen: Callable[[], None]
):
    sale = sale_of("open")
    before = buy(http, sale, "nothing", ADA)
    store.client().hset(store.key(sale.id, "config"), "identity", "verified")
    seen()

    assert before.status_code == 200
    assert_refused(buy(http, sale, "nothing", BOB), *NOT_PROVEN)


def test_an_incomplete_identity_rule_stops_only_its_own_sale(
    http: httpx.Client, sale_of: Callable[..., Sale], seen: Callable[[], None]
):
    sale, other = sale_of("open"), sale_of("open")
    for field in ("identity", "one_mailbox", "key_number"):
        config = store.client().hgetall(store.key(sale.id, "config"))
        store.client().hdel(store.key(sale.id, "config"), field)
        seen()

        assert_refused(buy(http, sale, "nothing", ADA), 503, "unavailable", None)
        store.client().hset(store.key(sale.id, "config"), mapping=config)

    assert buyers(sale) == set()
    assert buy(http, other, "nothing", ADA).status_code == 200


def test_a_purchases_key_belongs_to_the_tokens_shopper(http: httpx.Client, sale_of: Callable[..., Sale]):
    sale = sale_of()

    def attempt(token: str) -> httpx.Response:
        headers = {**bearer(token), "Idempotency-Key": "k-1"}
        return http.post(f"/api/sales/{sale.slug}/purchase", json={}, headers=headers)

    first, replayed = attempt(tokens.issue(ADA)), attempt(tokens.vouch(ADA, sale.id, 1, seconds=MINUTE))

    assert (replayed.status_code, replayed.content) == (200, first.content)
    assert attempt(tokens.issue(BOB)).json()["code"] == "idempotency_key_reused"
    assert buyers(sale) == {ADA}


def test_the_rate_limit_applies_to_the_tokens_shopper(http: httpx.Client, sale_of: Callable[..., Sale]):
    sale = sale_of()
    codes: list[str] = []
    began = time.monotonic()
    while "rate_limited" not in codes:
        assert len(codes) < 1_000
        codes.append(buy(http, sale, "ada's token", ADA if len(codes) % 2 else None).json()["code"])

    assert 10 <= len(codes) - 1 <= 20 + 2 * (time.monotonic() - began), "ten at once, then one a second"
    assert buy(http, sale, "bob's token").json()["code"] == "purchased"


# To ask who has bought


@pytest.mark.parametrize("credential", CREDENTIALS)
def test_an_open_sale_answers_lookups_with_any_token(http: httpx.Client, sale_of: Callable[..., Sale], credential: str):
    sale = sale_of("open")
    buy(http, sale, "nothing", ADA)

    assert look(http, sale, credential, ADA).json()["hasPurchased"] is True
    assert look(http, sale, credential, BOB).json() == {"hasPurchased": False, "purchaseTime": None}


@pytest.mark.parametrize("identity", ["verified", "invited"])
def test_protected_sales_answer_only_own_lookups(http: httpx.Client, sale_of: Callable[..., Sale], identity: str):
    sale = sale_of(identity)
    store.client().hset(store.key(sale.id, "purchases"), ADA, "1771063530000-0 9 ")

    for credential in sorted(CREDENTIALS.keys() - REFUSED.keys()):
        own, another = (BOB, ADA) if credential in NAMES_BOB else (ADA, BOB)
        assert look(http, sale, credential, own.upper()).json()["hasPurchased"] is (own == ADA)
        assert_refused(look(http, sale, credential, another), 403, "forbidden", None)


@pytest.mark.parametrize("credential", sorted(REFUSED.keys() - {FROM_NOWHERE} | {"bob's token"}))
def test_forbidden_lookups_reveal_nothing_and_read_nothing(
    http: httpx.Client, sale_of: Callable[..., Sale], credential: str
):
    sale = sale_of()

    def answer_and_work() -> tuple[int, bytes, list[tuple[str, str]], list[str]]:
        response, commands = watched(sale, lambda: look(http, sale, credential, ADA))
        headers = sorted((name, value) for name, value in response.headers.items() if name != "date")
        return response.status_code, response.content, headers, commands

    before = answer_and_work()
    store.client().hset(store.key(sale.id, "purchases"), ADA, "1771063530000-0 9 ")
    after = answer_and_work()

    assert before[0] in (401, 403)
    assert before == after
    assert before[3] == []


def test_a_cookie_of_unknown_origin_may_read_but_not_buy(http: httpx.Client, sale_of: Callable[..., Sale]):
    sale = sale_of()

    assert look(http, sale, FROM_NOWHERE, ADA).json() == {"hasPurchased": False, "purchaseTime": None}
    assert_refused(buy(http, sale, FROM_NOWHERE), *FOREIGN)


def test_own_lookups_cost_the_same_before_and_after_buying(http: httpx.Client, sale_of: Callable[..., Sale]):
    """The control of the test above: what is read is seen."""
    sale = sale_of()

    _, before = watched(sale, lambda: look(http, sale, "ada's token", ADA))
    buy(http, sale, "ada's token")
    _, after = watched(sale, lambda: look(http, sale, "ada's token", ADA))

    looked = [f"HMGET {store.key(sale.id, 'purchases')} {ADA}", f"HEXISTS {store.key(sale.id, 'config')} archived"]
    assert before == after == looked


def watched(sale: Sale, ask: Callable[[], httpx.Response]) -> tuple[httpx.Response, list[str]]:
    """Return the answer, and the commands that Redis got of the sale meanwhile; not those by which workers keep up and
    tell what they have counted, which come once a second."""
    keeping_up = {f"HGETALL {store.key(sale.id, 'config')}", f"GET {store.key(sale.id, 'stock')}"}
    counting = (store.key(sale.id, "shoppers"), store.key(sale.id, "attempts"), store.key(sale.id, "config") + " epoch")
    commands: list[str] = []
    with store.client().monitor() as monitor:
        response = ask()
        store.client().echo("that is all")
        while (command := monitor.next_command()["command"]) != "ECHO that is all":
            commands.append(command)
    of_sale = [command for command in commands if f":{sale.id}}}:" in command and command not in keeping_up]
    return response, [command for command in of_sale if not any(key in command for key in counting)]


# One mailbox, one person


@pytest.mark.pure
@pytest.mark.parametrize(
    ("user_id", "mailbox"),
    [
        ("ada@example.com", "ada@example.com"),
        ("ada+2@example.com", "ada@example.com"),
        ("ada+2+3@example.com", "ada@example.com"),
        ("ada+@example.com", "ada@example.com"),
        ("a.d.a@example.com", "a.d.a@example.com"),
        ("a.d.a@gmail.com", "ada@gmail.com"),
        ("a..da.+x.y@googlemail.com", "ada@gmail.com"),
        ("ada@mail.gmail.com", "ada@mail.gmail.com"),
        ("ada+gmail.com@example.com", "ada@example.com"),
        ("+2@example.com", "+2@example.com"),
        ("..@gmail.com", "..@gmail.com"),
        ("ada+2", "ada+2"),
        ("@example.com", "@example.com"),
        ("ada@", "ada@"),
        ("a+b@c@gmail.com", "a@gmail.com"),
        ('"ada+1"@gmail.com', "ada@gmail.com"),
        ('"a.da"@example.com', "a.da@example.com"),
        ('"a\\da"@example.com', "ada@example.com"),
        ('"+2"@example.com', '"+2"@example.com'),
    ],
)
def test_the_mailbox_of_an_address(user_id: str, mailbox: str):
    assert shoppers.mailbox(user_id) == mailbox


@pytest.mark.pure
@given(st.from_regex(r"[a.+\"\\]{0,6}@?(gmail|googlemail|example)\.com", fullmatch=True) | st.text(max_size=60))
def test_a_mailboxes_own_address_is_its_mailbox(user_id: str):
    mailbox = shoppers.mailbox(user_id)

    assert shoppers.mailbox(mailbox) == mailbox
    assert 0 < len(mailbox) <= len(user_id) or not user_id


ONE_PERSON = ("A.da+shop@GoogleMail.com", "ada@gmail.com", "ad.a+2@gmail.com")


@pytest.mark.parametrize("identity", ["open", "verified"])
def test_all_spellings_of_a_mailbox_buy_once(http: httpx.Client, sale_of: Callable[..., Sale], identity: str):
    sale = sale_of(identity, one_mailbox=True)

    for token_of, typed in [(ONE_PERSON[0], None), (ONE_PERSON[1], ONE_PERSON[2]), (ONE_PERSON[2], ONE_PERSON[0])]:
        headers = bearer(tokens.vouch(token_of, sale.id, 1, seconds=MINUTE))
        body = {"userId": typed} if typed else {}
        http.post(f"/api/sales/{sale.slug}/purchase", json=body, headers=headers)

    assert buyers(sale) == {"ada@gmail.com"}


def test_all_spellings_of_a_mailbox_see_its_purchase(http: httpx.Client, sale_of: Callable[..., Sale]):
    sale = sale_of("open", one_mailbox=True)
    codes = [buy(http, sale, "nothing", typed).json()["code"] for typed in ONE_PERSON]

    assert codes == ["purchased", "already_purchased", "already_purchased"]
    assert all(look(http, sale, "nothing", typed).json()["hasPurchased"] for typed in ONE_PERSON)


def test_a_token_answers_for_all_spellings_of_its_mailbox(http: httpx.Client, sale_of: Callable[..., Sale]):
    sale = sale_of(one_mailbox=True)
    headers = bearer(tokens.issue(ONE_PERSON[0]))

    asked = [http.get(f"/api/sales/{sale.slug}/user/{typed}", headers=headers).status_code for typed in ONE_PERSON]

    assert asked == [200, 200, 200]
    assert http.get(f"/api/sales/{sale.slug}/user/eda@gmail.com", headers=headers).status_code == 403


def test_without_the_option_each_spelling_is_a_person(http: httpx.Client, sale_of: Callable[..., Sale]):
    sale = sale_of("open")

    codes = [buy(http, sale, "nothing", typed).json()["code"] for typed in ONE_PERSON]

    assert codes == ["purchased"] * 3
    headers = bearer(tokens.issue(ONE_PERSON[0]))
    response = http.post(f"/api/sales/{sale.slug}/purchase", json={"userId": ONE_PERSON[1]}, headers=headers)
    assert response.status_code == 403


def test_a_token_expires_while_the_sale_runs(http: httpx.Client, sale_of: Callable[..., Sale]):
    sale = sale_of()

    def ask(token: str) -> int:
        return http.get(f"/api/sales/{sale.slug}/user/{ADA}", headers=bearer(token)).status_code

    for seconds in (1, 4, 16, 64):  # until it is asked in time
        token = tokens.issue(ADA, seconds=seconds)
        if (before := ask(token)) == 200:
            break

    assert before == 200
    wait_until(lambda: ask(token) == 401, "it has expired", within_seconds=120)
