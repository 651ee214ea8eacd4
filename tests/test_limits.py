"""Rates, client addresses, and the guard in front of the lane."""

import ipaddress

import pytest
from pytest_django import Settings

from flashsale.rates import Rate, parse_rate
from sales import addresses, ratelimits
from sales.addresses import client_address


@pytest.mark.parametrize(
    ("text", "rate"),
    [("10/10s", Rate(10, 10)), ("100/s", Rate(100, 1)), (" 5/m ", Rate(5, 60)), ("7/2h", Rate(7, 7200)), ("OFF", None)],
)
def test_rates(text: str, rate: Rate | None):
    assert parse_rate(text) == rate


@pytest.mark.parametrize("text", ["", "10", "10/", "/s", "0/s", "-1/s", "1.5/s", "10/0s", "10/d", "10/10"])
def test_what_is_no_rate(text: str):
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


def test_an_ipv6_client_is_its_network():
    assert client_address(meta("2001:db8::1")) == client_address(meta("2001:db8::ffff")) == "2001:db8::/64"
    assert client_address(meta("::ffff:192.0.2.1")) == "192.0.2.1"


@pytest.fixture
def fresh_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ratelimits, "_window", ratelimits._Window())


@pytest.mark.usefixtures("fresh_window")
def test_an_address_has_its_share(settings: Settings):
    settings.ADDRESS_RATE = Rate(3, 60)

    waits = [ratelimits.address_wait_seconds("192.0.2.1") for _ in range(5)]

    assert waits[:3] == [0, 0, 0]
    assert all(1 <= wait <= 60 for wait in waits[3:])
    assert ratelimits.address_wait_seconds("192.0.2.2") == 0


@pytest.mark.usefixtures("fresh_window")
def test_a_new_period_is_a_new_share(settings: Settings):
    settings.ADDRESS_RATE = Rate(1, 60)
    assert [ratelimits.address_wait_seconds("a") for _ in range(2)] != [0, 0]

    ratelimits._window.ends = 0

    assert ratelimits.address_wait_seconds("a") == 0


@pytest.mark.usefixtures("fresh_window")
def test_a_flood_of_addresses_does_not_fill_the_memory(settings: Settings, monkeypatch: pytest.MonkeyPatch):
    settings.ADDRESS_RATE = Rate(1, 60)
    monkeypatch.setattr(ratelimits, "MOST_ADDRESSES", 10)

    for number in range(100):
        ratelimits.address_wait_seconds(str(number))

    assert len(ratelimits._window.requests) <= 11


@pytest.mark.usefixtures("fresh_window")
def test_the_guard_can_be_off(settings: Settings):
    settings.ADDRESS_RATE = None

    assert [ratelimits.address_wait_seconds("a") for _ in range(1000)] == [0] * 1000
