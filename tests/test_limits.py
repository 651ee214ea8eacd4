"""Rates, client addresses, and the guard in front of the lane."""

import ipaddress
import time
from types import SimpleNamespace

import pytest
from pytest_django import Settings

from flashsale.rates import Rate, parse_rate
from sales import addresses, ratelimits
from sales.addresses import client_address

pytestmark = pytest.mark.pure


@pytest.mark.parametrize(
    ("text", "rate"),
    [("10/10s", Rate(10, 10)), ("100/s", Rate(100, 1)), (" 5/m ", Rate(5, 60)), ("7/2h", Rate(7, 7200)), ("OFF", None)],
)
def test_rates(text: str, rate: Rate | None):
    assert parse_rate(text) == rate


@pytest.mark.parametrize("text", ["", "10", "10/", "/s", "0/s", "-1/s", "1.5/s", "10/0s", "10/d", "10/10"])
def test_malformed_rates_are_refused(text: str):
    with pytest.raises(ValueError, match="is not a rate"):
        parse_rate(text)


@pytest.fixture
def behind_proxies(settings: Settings):
    settings.TRUSTED_PROXIES = [ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("fd00::/8")]
    addresses._first_untrusted.cache_clear()
    yield
    addresses._first_untrusted.cache_clear()


def meta(peer: str, forwarded: str = "") -> dict[str, str]:
    return {"REMOTE_ADDR": peer} | ({"HTTP_X_FORWARDED_FOR": forwarded} if forwarded else {})


def test_without_trusted_proxies_the_peer_is_the_client():
    assert client_address(meta("192.0.2.1", "198.51.100.7")) == "192.0.2.1"


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("192.0.2.1", "198.51.100.7", "192.0.2.1"),
        ("10.0.0.1", "198.51.100.7", "198.51.100.7"),
        ("10.0.0.1", "1.2.3.4, 198.51.100.7", "198.51.100.7"),
        ("10.0.0.1", "1.2.3.4, 198.51.100.7, 10.9.9.9", "198.51.100.7"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "nonsense", "10.0.0.1"),
        ("10.0.0.1", "1.2.3.4, nonsense, 10.9.9.9", "10.9.9.9"),
        ("fd00::1", "2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("::ffff:10.0.0.1", "198.51.100.7", "198.51.100.7"),
    ],
)
@pytest.mark.usefixtures("behind_proxies")
def test_the_client_is_the_rightmost_address_that_is_no_proxy(peer: str, forwarded: str, client: str):
    assert client_address(meta(peer, forwarded)) == client


@pytest.mark.parametrize("zone", ["", "%eth0"])
@pytest.mark.usefixtures("behind_proxies")
def test_a_zone_of_an_address_is_no_part_of_it(zone: str):
    assert client_address(meta(f"fe80::1{zone}")) == "fe80::/64"


@pytest.mark.usefixtures("behind_proxies")
def test_a_list_of_proxies_without_end_ends():
    endless = ",".join(f"10.0.{number % 250}.1" for number in range(100_000))

    assert client_address(meta("10.0.0.1", endless)).startswith("10.0.")
    assert client_address(meta("10.0.0.1", f"{endless},198.51.100.7")) == "198.51.100.7"


@pytest.mark.usefixtures("behind_proxies")
def test_long_lists_are_not_remembered():
    for number in range(100):
        client_address(meta("10.0.0.1", f"{'x' * 1000}{number}"))

    assert addresses._first_untrusted.cache_info().currsize == 0


def test_an_ipv6_client_is_its_network():
    assert client_address(meta("2001:db8::1")) == client_address(meta("2001:db8::ffff")) == "2001:db8::/64"
    assert client_address(meta("::ffff:192.0.2.1")) == "192.0.2.1"


@pytest.fixture(autouse=True)
def _fresh_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ratelimits, "_shares", ratelimits._Shares())
    now_ns = time.monotonic_ns()
    monkeypatch.setattr(ratelimits, "time", SimpleNamespace(monotonic_ns=lambda: now_ns))  # passes by let_pass alone


def refused(address: str = "192.0.2.1", requests: int = 1) -> list[bool]:
    return [ratelimits.address_refusal(address) is not None for _ in range(requests)]


def let_pass(seconds: float) -> None:
    """Have all requests so far be longer ago."""
    shares = ratelimits._shares
    shares.ends_ns -= int(seconds * 10**9)
    for whole_ns in (shares.whole_ns, shares.whole_ns_before):
        whole_ns.update({address: at - int(seconds * 10**9) for address, at in whole_ns.items()})


def test_an_address_has_its_share(settings: Settings):
    settings.ADDRESS_RATE = Rate(3, 60)

    assert refused(requests=5) == [False] * 3 + [True] * 2
    assert refused("192.0.2.2") == [False]


def test_then_it_has_one_more_at_a_time(settings: Settings):
    settings.ADDRESS_RATE = Rate(3, 60)
    refused(requests=3)

    quota = ratelimits.address_refusal("192.0.2.1")
    let_pass(19)
    soon = refused()
    let_pass(1)
    then = refused(requests=2)

    assert quota == ("address", Rate(3, 60), 0, 20)
    assert (soon, then) == ([True], [False, True])


@pytest.mark.parametrize("seconds", [0.001, 59])
def test_the_end_of_a_period_is_no_fresh_share(settings: Settings, seconds: float):
    """Who asks around it would have twice as much at once."""
    settings.ADDRESS_RATE = Rate(100, 60)
    refused("somebody else")
    let_pass(60 - seconds)
    refused(requests=99)
    let_pass(seconds)

    assert refused(requests=100).count(False) == 1 + int(seconds * 100 / 60)


def test_a_full_period_without_requests_restores_the_share(settings: Settings):
    settings.ADDRESS_RATE = Rate(3, 60)
    refused(requests=4)

    let_pass(61)

    assert refused(requests=4) == [False] * 3 + [True]


def test_steady_requests_get_no_more_than_the_rate(settings: Settings):
    settings.ADDRESS_RATE = Rate(10, 10)

    granted = 0
    for _ in range(1000):
        granted += refused().count(False)
        let_pass(0.1)

    assert granted in (109, 110), "ten at once, and one in each of a hundred seconds"


def test_a_flood_of_addresses_does_not_fill_the_memory(settings: Settings, monkeypatch: pytest.MonkeyPatch):
    settings.ADDRESS_RATE = Rate(1, 60)
    monkeypatch.setattr(ratelimits, "MOST_ADDRESSES", 10)

    for number in range(100):
        ratelimits.address_refusal(str(number))

    assert len(ratelimits._shares.whole_ns) + len(ratelimits._shares.whole_ns_before) <= 10


def test_addresses_that_are_gone_are_forgotten(settings: Settings):
    settings.ADDRESS_RATE = Rate(1, 60)

    for number in range(5):
        refused(str(number))
        let_pass(61)

    assert len(ratelimits._shares.whole_ns) + len(ratelimits._shares.whole_ns_before) <= 2


def test_the_guard_can_be_off(settings: Settings):
    settings.ADDRESS_RATE = None

    assert refused(requests=1000) == [False] * 1000
