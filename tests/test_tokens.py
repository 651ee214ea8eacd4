"""Tokens that say who a shopper is: what is taken, and what nobody gets by with."""

import base64
import hmac
import json
import time
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pytest_django import Settings

from sales import tokens

pytestmark = pytest.mark.pure

SALE, KEY_NUMBER, MINUTE = 7, 1, 60


def encoded(part: object) -> str:
    """Return a token's part, made of JSON or of bytes."""
    content = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def signed(header: object, claims: object, key: str, digest: str = "sha256") -> str:
    """Return a token with these parts, whatever a library would think of them."""
    signing_input = f"{encoded(header)}.{encoded(claims)}"
    return f"{signing_input}.{encoded(hmac.digest(key.encode(), signing_input.encode(), digest))}"


def by_partner(claims: object, *, key_number: int = KEY_NUMBER, header: object = None) -> str:
    """Return a token that the partner has signed."""
    return signed(header or {"alg": "HS256", "typ": "JWT"}, claims, tokens.partner_key(SALE, key_number))


def claims(**changes: Any) -> dict[str, Any]:
    named = {"sub": "ada@example.com", "exp": int(time.time()) + MINUTE, **changes}
    return {name: value for name, value in named.items() if value is not None}


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


def read_for(token: str) -> tokens.Named:
    return tokens.read_for(token, SALE, KEY_NUMBER)


def assert_names_nobody(token: str, reason: str) -> None:
    with pytest.raises(tokens.InvalidToken, match=reason):
        read_for(token)


def test_a_token_of_ours_names_its_shopper_in_every_sale():
    earliest = int(time.time()) + MINUTE
    token = tokens.issue("ada@example.com", seconds=MINUTE)
    latest = time.time() + MINUTE

    assert token.startswith("fs_")
    for named in (tokens.read(token), read_for(token), tokens.read_for(token, 8, 3)):
        assert (named.user_id, named.sale_id) == ("ada@example.com", None)
        assert earliest <= named.expires_at <= latest


def test_our_token_for_one_sale_is_invalid_elsewhere():
    token = tokens.issue("ada@example.com", sale_id=SALE)

    assert read_for(token) == tokens.read(token)
    assert tokens.read(token).sale_id == SALE
    with pytest.raises(tokens.InvalidToken, match="for another sale"):
        tokens.read_for(token, 8, KEY_NUMBER)


def test_our_token_from_a_partners_word_ends_with_its_key():
    token = tokens.issue("ada@example.com", sale_id=SALE, key_number=KEY_NUMBER)

    assert read_for(token).user_id == "ada@example.com"
    with pytest.raises(tokens.InvalidToken, match="has another key"):
        tokens.read_for(token, SALE, KEY_NUMBER + 1)


def test_a_partners_token_is_valid_only_in_its_sale():
    token = tokens.vouch("Ada@Example.com", SALE, KEY_NUMBER, seconds=MINUTE)

    assert read_for(token).user_id == "ada@example.com"
    with pytest.raises(tokens.InvalidToken, match="signature"):
        tokens.read_for(token, 8, KEY_NUMBER)
    with pytest.raises(tokens.InvalidToken, match="not one of this site"):
        tokens.read(token)


def test_a_partner_cannot_name_a_sale_of_its_own_choice():
    token = by_partner(claims(sale=8))

    assert read_for(token).user_id == "ada@example.com"
    with pytest.raises(tokens.InvalidToken, match="signature"):
        tokens.read_for(token, 8, KEY_NUMBER)


def test_the_next_key_voids_what_the_one_before_has_signed():
    token = tokens.vouch("ada@example.com", SALE, KEY_NUMBER, seconds=MINUTE)

    with pytest.raises(tokens.InvalidToken, match="signature"):
        tokens.read_for(token, SALE, KEY_NUMBER + 1)
    again = tokens.vouch("ada@example.com", SALE, KEY_NUMBER + 1, seconds=MINUTE)
    assert tokens.read_for(again, SALE, KEY_NUMBER + 1).user_id == "ada@example.com"
    assert_names_nobody(again, "signature")


def test_keys_are_different_and_as_long_as_the_algorithm_asks():
    keys = {tokens.partner_key(sale_id, number) for sale_id in (1, 11) for number in (1, 11)}

    assert len(keys) == 4
    assert {len(key) for key in keys} == {64}, "RFC 7518, section 3.2: 256 bits at least"


def test_tokens_of_an_earlier_secret_key_work_as_fallback(settings: Settings):
    ours, theirs = tokens.issue("ada"), tokens.vouch("ada", SALE, KEY_NUMBER, seconds=MINUTE)
    old, settings.SECRET_KEY = settings.SECRET_KEY, "another one"

    for token in (ours, theirs):
        assert_names_nobody(token, "signature")
    settings.SECRET_KEY_FALLBACKS = ["one before that", old]

    assert {read_for(token).user_id for token in (ours, theirs)} == {"ada"}
    assert read_for(tokens.issue("bob")).user_id == "bob"


def test_a_token_is_valid_until_its_last_second():
    assert read_for(tokens.issue("ada", seconds=MINUTE)).user_id == "ada"
    for token in (tokens.issue("ada", seconds=0), tokens.vouch("ada", SALE, KEY_NUMBER, seconds=-1)):
        assert_names_nobody(token, "has expired")


def test_a_partners_clock_may_be_ahead_of_ours():
    assert read_for(by_partner(claims(iat=int(time.time()) + 600))).user_id == "ada@example.com"


def test_a_partners_header_may_be_formatted_freely():
    header = b'{ "typ":"JWT" ,\n"alg":"HS256","kid":"2026" }'

    assert read_for(by_partner(claims(), header=header)).user_id == "ada@example.com"


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "none"},
        {"alg": "None"},
        {"alg": "RS256"},
        {"alg": "ES256"},
        {"alg": ""},
        {"alg": None},
        {"alg": ["HS256"]},
        {"alg": {"HS256": 1}},
        {"alg": 256},
        {"typ": "JWT"},
        {"alg": "HS256", "crit": ["exp"]},
        {"alg": "HS256", "crit": []},
        {"alg": "HS256", "b64": False, "crit": ["b64"]},
        [],
        "HS256",
        None,
        7,
        b"",
        b"{",
        b"\xff\xfe",
        nested(700),
        b'{"alg":' + b'{"a":' * 130 + b"1" + b"}" * 131,
    ],
)
def test_a_header_that_is_not_ours(header: object):
    key = tokens.partner_key(SALE, KEY_NUMBER)

    assert_names_nobody(signed(header, claims(), key), "cannot be used")
    assert_names_nobody(f"{encoded(header)}.{encoded(claims())}.", "signature")


@pytest.mark.parametrize(("algorithm", "digest"), [("HS384", "sha384"), ("HS512", "sha512"), ("HS256", "sha512")])
def test_another_algorithm_with_the_right_key(algorithm: str, digest: str):
    token = signed({"alg": algorithm}, claims(), tokens.partner_key(SALE, KEY_NUMBER), digest)

    assert_names_nobody(token, "cannot be used|signature")


def test_a_header_that_names_or_brings_a_key_changes_nothing():
    for extra in (
        {"kid": "/dev/null"},
        {"kid": ["../x"]},
        {"kid": "' OR 1=1"},
        {"jwk": {"kty": "oct", "k": "AA"}},
        {"jku": "http://x/"},
    ):
        for key in ("", "\0", "AA"):
            assert_names_nobody(signed({"alg": "HS256", **extra}, claims(), key), "signature")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"sub": None}, "sub"),
        ({"sub": 5}, "sub is missing, or no text"),
        ({"sub": ["ada"]}, "sub is missing, or no text"),
        ({"sub": ""}, "names nobody. The name is empty"),
        ({"sub": " \u3164"}, "names nobody. The name is empty"),
        ({"sub": "a\nb"}, "names nobody. The name has a control"),
        ({"sub": "a\u202eb"}, "names nobody. The name has a control"),
        ({"sub": "a\ud800b"}, "not JSON"),
        ({"sub": "x" * 255}, "names nobody. The name is longer"),
        ({"exp": None}, "exp"),
        ({"exp": "soon"}, "exp"),
        ({"exp": []}, "exp"),
        ({"exp": {}}, "exp"),
        ({"exp": float("nan")}, "not JSON"),
        ({"exp": float("inf")}, "not JSON"),
        ({"exp": float("-inf")}, "not JSON"),
        ({"exp": True}, "exp"),
        ({"exp": "9" * 20}, "exp"),
        ({"exp": "4000000000"}, "exp"),
        ({"exp": 0}, "expired"),
        ({"exp": -(10**18)}, "expired"),
        ({"exp": -1e300}, "expired"),
        ({"nbf": 4_000_000_000}, "not yet valid"),
        ({"nbf": "x"}, "nbf"),
        ({"aud": "another.example"}, "aud"),
        ({"aud": ["another.example"]}, "aud"),
        ({"aud": []}, "aud"),
        ({"aud": ""}, "aud"),
        ({"aud": 0}, "aud"),
    ],
)
def test_claims_that_name_nobody(changes: dict[str, object], reason: str):
    assert_names_nobody(by_partner(claims(**changes)), reason)


def test_an_aud_of_null_is_not_a_missing_one():
    assert_names_nobody(by_partner(claims() | {"aud": None}), "aud")


@pytest.mark.parametrize("exp", [10**18, 10**30, 1e300, 4_000_000_000.5])
def test_an_end_far_away_is_one(exp: object):
    assert read_for(by_partner(claims(exp=exp))).user_id == "ada@example.com"


@pytest.mark.parametrize(
    "payload", [b"", b"{", b"[]", b"null", b'"ada"', b"\xff", nested(600), b'{"a":' * 150, b'{"exp":1e999,"sub":"a"}']
)
def test_a_payload_that_is_none(payload: bytes):
    assert_names_nobody(by_partner(payload), "cannot be used")


@pytest.mark.parametrize(
    "change",
    [
        lambda token: token[:-1],
        lambda token: token[:-4] + "AAAA",
        lambda token: token + "A",
        lambda token: token.rpartition(".")[0],
        lambda token: token.rpartition(".")[0] + ".",
        lambda token: token.partition(".")[2],
        lambda token: f".{token}",
        lambda token: token.replace(".", ".."),
        lambda token: token.upper(),
        lambda token: token[::-1],
        lambda token: token.replace(".", " "),
        lambda token: f"{token},{token}",
        lambda token: f"fs_{token}",
        lambda token: f"é{token}",
        lambda token: f"{token}\ud800",
        lambda token: f"{token}\0",
        lambda token: token * 20,
    ],
)
def test_a_token_that_was_changed_on_its_way(change: Callable[[str], str]):
    theirs = by_partner(claims())
    ours = tokens.issue("ada")

    for token in (theirs, ours):
        with pytest.raises(tokens.InvalidToken):
            read_for(change(token))


def test_any_changed_byte_of_a_signed_token_is_noticed():
    header, payload, signature = by_partner(claims()).split(".")
    other = encoded(claims(sub="eve@example.com"))

    for token in (
        f"{header}.{other}.{signature}",
        f"{header}!.{payload}.{signature}",
        f"{header}.{payload}=.{signature}",
    ):
        assert_names_nobody(token, "signature|cannot be used")


def test_ours_with_a_partners_signature_and_a_partners_with_ours():
    ours, theirs = tokens.issue("ada"), by_partner(claims())

    for token in (f"fs_{theirs}", ours.removeprefix("fs_"), f"fs_{ours}", f"FS_{ours.removeprefix('fs_')}", "fs_", ""):
        with pytest.raises(tokens.InvalidToken):
            read_for(token)
        with pytest.raises(tokens.InvalidToken):
            tokens.read(token)


def test_no_other_key_signs_our_tokens(settings: Settings):
    settings.SECRET_KEY = "a secret key of forty characters or more"

    for key in (settings.SECRET_KEY, tokens.partner_key(SALE, KEY_NUMBER)):
        with pytest.raises(tokens.InvalidToken, match="signature"):
            tokens.read("fs_" + jwt.encode(claims(), key, "HS256"))


def test_a_token_over_the_longest_length_is_refused():
    def of_length(length: int) -> str:
        for padding in range(length // 2, length):
            token = by_partner(claims(more="x" * padding))
            if len(token) >= length:
                return token
        raise AssertionError

    assert read_for(of_length(3_995)).user_id == "ada@example.com"
    assert_names_nobody(of_length(4_001), "longer than 4000")


@pytest.mark.parametrize("letter", ["x", "é", "界"])
def test_the_longest_name_has_a_token(letter: str):
    name = letter * 254

    for token in (tokens.issue(name, sale_id=SALE), tokens.vouch(name, SALE, KEY_NUMBER, seconds=MINUTE)):
        assert read_for(token).user_id == name


@given(st.text(max_size=4_100))
@example("\ud800")
@example("fs_" + "\ud800.a.b")
@example("..")
@example("fs_..")
def test_no_text_is_a_token(text: str):
    for read in (tokens.read, read_for):
        with pytest.raises(tokens.InvalidToken):
            read(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
HEADERS = st.fixed_dictionaries(
    {"alg": st.just("HS256") | JSON},
    optional=dict.fromkeys(("typ", "kid", "crit", "b64", "cty", "jwk"), JSON),
)
CLAIMS = st.fixed_dictionaries(
    {},
    optional={
        "sub": st.text(max_size=260) | JSON,
        "exp": st.integers(min_value=0) | JSON,
        **dict.fromkeys(("nbf", "iat", "aud", "iss", "jti", "sale"), JSON),
    },
)


@given(header=HEADERS | JSON, body=CLAIMS | JSON, prefix=st.sampled_from(["", "fs_"]))
def test_any_signed_token_names_a_shopper_or_is_refused(header: object, body: object, prefix: str):
    key = tokens.partner_key(SALE, KEY_NUMBER) if not prefix else tokens._own_key("only-for-tests")

    try:
        named = read_for(prefix + signed(header, body, key))
    except tokens.InvalidToken:
        return

    assert isinstance(body, dict)
    assert body["exp"] > time.time() - MINUTE
    assert named.user_id
    assert named.user_id.isprintable() or not named.user_id.isascii()
