"""One-time codes: what is sent, what is good, once, and how often it may be guessed."""

import re
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.core import mail
from django.core.mail.message import sanitize_address
from hypothesis import given, settings
from hypothesis import strategies as st
from pytest_django import Settings

from sales import email_codes, mails, shoppers, store
from sales.store import CODES
from tests.mail_servers import MailServer

ADA = "ada@example.com"


def sent(address: str = ADA) -> tuple[str, str]:
    """Return the code to type and the link's of the latest mail to an address. Mails may overtake each other."""
    assert mails.finish(30)
    text = str([message for message in mail.outbox if message.to == [address]][-1].body)
    typed, linked = re.search(r"^ +(\d{4} \d{4})$", text, re.M), re.search(r"code=([0-9a-f]{32})", text)
    assert typed, text
    assert linked, text
    return typed[1], linked[1]


def test_the_mail_holds_a_code_and_a_link(settings: Settings):
    settings.PUBLIC_URL = "https://shop.example.com"

    email_codes.send(ADA, "widget")

    typed, linked = sent()
    message = mail.outbox[0]
    assert message.to == [ADA]
    assert typed in message.subject
    assert (
        f"https://shop.example.com/shopper/confirm/?email=ada%40example.com&code={linked}&sale=widget" in message.body
    )


@pytest.mark.parametrize("kind", [0, 1], ids=["typed", "linked"])
def test_either_code_works_once_and_voids_the_other(kind: int):
    email_codes.send(ADA)
    codes = sent()

    assert email_codes.redeem(ADA, codes[kind])
    assert not email_codes.redeem(ADA, codes[kind])
    assert not email_codes.redeem(ADA, codes[1 - kind])


def test_a_code_proves_no_other_address():
    email_codes.send(ADA)
    email_codes.send("bob@example.com")
    of_bob = sent("bob@example.com")

    assert not any(email_codes.redeem(ADA, code) for code in of_bob)


def test_nothing_proves_an_address_that_no_code_was_sent_to():
    assert not email_codes.redeem(ADA, "")
    assert not email_codes.redeem(ADA, "00000000")
    assert not email_codes.redeem(ADA, "0" * 32)
    assert not store.client().keys(f"{CODES}*")


def test_only_one_of_many_simultaneous_redemptions_succeeds():
    email_codes.send(ADA)
    _, linked = sent()
    start = threading.Barrier(8)

    def redeem(_: int) -> bool:
        start.wait()
        return email_codes.redeem(ADA, linked)

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(redeem, range(8)))

    assert results.count(True) == 1


def test_too_many_guesses_void_the_code_but_not_the_link():
    email_codes.send(ADA)
    typed, linked = sent()
    wrong = f"{(int(typed.replace(' ', '')) + 1) % 10**8:08}"

    guesses = [email_codes.redeem(ADA, wrong) for _ in range(email_codes.MOST_TRIES)]

    assert not any(guesses)
    assert not email_codes.redeem(ADA, typed)
    assert email_codes.redeem(ADA, linked)


def test_the_last_try_that_is_allowed_still_counts():
    email_codes.send(ADA)
    typed, _ = sent()

    assert not any(email_codes.redeem(ADA, "x") for _ in range(email_codes.MOST_TRIES - 1))
    assert email_codes.redeem(ADA, typed)


def test_asking_again_extends_the_same_codes_and_keeps_tries():
    email_codes.send(ADA)
    first = sent()
    [key] = store.client().keys(f"{CODES}*")
    store.client().expire(key, 10)
    email_codes.redeem(ADA, "x")

    email_codes.send(ADA)

    assert sent() == first
    assert store.client().ttl(key) > 10
    assert store.client().hget(key, "tries") == b"1"


def use_up_the_tries() -> None:
    assert not any(email_codes.redeem(ADA, "x") for _ in range(email_codes.MOST_TRIES))


def test_used_up_tries_bring_a_new_code_with_all_tries():
    email_codes.send(ADA)
    dead, linked = sent()
    use_up_the_tries()

    email_codes.send(ADA)
    typed, linked_again = sent()

    assert (typed != dead, linked_again) == (True, linked)
    assert not any(email_codes.redeem(ADA, dead) for _ in range(email_codes.MOST_TRIES - 1))
    assert email_codes.redeem(ADA, typed)


def test_a_code_with_tries_left_survives_repeated_requests():
    email_codes.send(ADA)
    use_up_the_tries()
    email_codes.send(ADA)
    typed, linked = sent()
    email_codes.redeem(ADA, "x")

    for _ in range(3):
        email_codes.send(ADA)

    assert sent() == (typed, linked)
    assert email_codes.redeem(ADA, typed)


def test_mailed_links_survive_used_up_tries():
    email_codes.send(ADA)
    _, linked = sent()
    for _ in range(3):
        use_up_the_tries()
        email_codes.send(ADA)

    assert email_codes.redeem(ADA, linked)


def test_guesses_are_as_many_as_mails_allow():
    """Without a mail no guess is left; the mails of a mailbox are limited."""
    email_codes.send(ADA)
    use_up_the_tries()
    [key] = store.client().keys(f"{CODES}*")

    use_up_the_tries()
    email_codes.send(ADA)
    typed, _ = sent()

    assert store.client().hget(key, "tries") == b"0"
    use_up_the_tries()
    assert not email_codes.redeem(ADA, typed)


def test_codes_end_after_a_while():
    email_codes.send(ADA)
    [key] = store.client().keys(f"{CODES}*")

    assert 0 < store.client().ttl(key) <= email_codes.VALID_SECONDS


def test_redis_holds_neither_the_address_nor_a_code():
    email_codes.send(ADA)
    typed, linked = sent()

    [key] = store.client().keys(f"{CODES}*")
    held = (key + b" ".join(b" ".join(pair) for pair in store.client().hgetall(key).items())).decode()

    assert not any(secret in held for secret in (ADA, typed.replace(" ", ""), linked))


NO_ADDRESSES = [
    *("", "ada", "ada@", "@example.com", "ada lovelace@example.com", "a" * 250 + "@example.com"),
    *("ada@example.com\nBcc: x@example.com", "ada@exa\u202emple.com", 5, None, ["ada@example.com"]),
]
# What another would read, write or send to as some other address.
ADDRESSES_OF_OTHERS = {
    '"ada"@example.com': email_codes.QUOTED,
    '"a\\da"@example.com': email_codes.QUOTED,
    '"ada+1"@gmail.com': email_codes.QUOTED,
    "a\\da@example.com": email_codes.QUOTED,
    "ada@[127.0.0.1]": email_codes.NO_DOMAIN_NAME,
    "ada@[IPv6:::1]": email_codes.NO_DOMAIN_NAME,
    "ada@exa\u1806mple.com": email_codes.NO_DOMAIN,
    "ada@aa--ß.de": email_codes.NO_DOMAIN,
    "ada@stra_ße.de": email_codes.NO_DOMAIN,
    "ada@☃.example": email_codes.NO_DOMAIN,
    "äda@example.com": email_codes.NOT_SENT_TO,
    "\u0131da@example.com": email_codes.NOT_SENT_TO,
}


@pytest.mark.pure
@pytest.mark.parametrize("text", NO_ADDRESSES)
def test_texts_that_are_no_address_get_no_code(text: object):
    with pytest.raises(shoppers.InvalidShopper):
        email_codes.read_address(text)


@pytest.mark.pure
@pytest.mark.parametrize("text", ADDRESSES_OF_OTHERS)
def test_a_text_that_would_mail_another_address_is_refused(text: str):
    with pytest.raises(email_codes.NotAnAddress) as refused:
        email_codes.read_address(text)

    assert str(refused.value) == ADDRESSES_OF_OTHERS[text]


def test_the_mail_goes_to_exactly_the_normalised_address(settings: Settings, mail_server: MailServer):
    spelled = [
        "ADA@exámple。com",
        "ada@straße.de",
        "ada@xn--strae-oqa.de",
        "!#$%&'*+-/=?^_`{|}~@example.com",
        "a.d-a+1@b.co",
    ]
    addresses = [email_codes.read_address(text) for text in spelled]

    for address in addresses:
        email_codes.send(address)
        assert mails.finish(30)

    assert mail_server.recipients == addresses
    assert addresses[0] == "ada@xn--exmple-qta.com"
    assert addresses[1] == addresses[2]
    assert all(f"To: {address}" in mail for address, mail in zip(addresses, mail_server.mails, strict=True))


@settings(max_examples=50)
@given(st.from_regex(r"[^@]{1,6}@[^@]{1,8}\.(com|de)", fullmatch=True) | st.emails())
def test_an_accepted_address_is_never_altered_on_its_way(text: str):
    try:
        address = email_codes.read_address(text)
    except shoppers.InvalidShopper:
        return

    assert sanitize_address(address, "utf-8") == address
    assert email_codes.read_address(address) == address


@pytest.mark.pure
def test_an_address_has_one_spelling():
    assert email_codes.read_address(" ＡDA@Example.COM ") == ADA
