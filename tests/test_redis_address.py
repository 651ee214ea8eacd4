"""REDIS_URL: one server, a cluster, or a master that sentinels watch."""

from pathlib import Path

import pytest

from flashsale import variables
from flashsale.redis_address import parse_redis_address
from sales.store.keys import key_of, slot

pytestmark = pytest.mark.pure


def test_a_single_servers_address_is_kept_unchanged():
    for url in ("redis://localhost:6379/0", "rediss://:secret@redis.example.com", "unix:///run/redis.sock?db=1"):
        address = parse_redis_address(url)

        assert (address.kind, address.url, address.cache_location) == ("single", url, url)


def test_a_host_and_a_port_are_one_server():
    """Render tells of a service neither scheme nor database."""
    assert parse_redis_address("flashsale-redis-ab1c:6379").url == "redis://flashsale-redis-ab1c:6379/0"
    assert variables.redis_address("10.0.0.7:6380").cache_location == "redis://10.0.0.7:6380/0"
    for value in ("flashsale-redis-ab1c", "redis:port", "shop:secret@redis:6379", "redis:6379/0", "redis:66379"):
        with pytest.raises(ValueError, match=r"^it (begins with none of|is not an address like)"):
            variables.redis_address(value)


def test_a_cluster_is_some_of_its_nodes():
    address = parse_redis_address("rediss+cluster://shop:p%40ss@redis-1:7000,redis-2,[::1]:7001")

    assert (address.kind, address.hosts) == ("cluster", (("redis-1", 7000), ("redis-2", 6379), ("::1", 7001)))
    assert (address.username, address.password, address.is_tls) == ("shop", "p@ss", True)
    assert address.url_of("::1", 7001) == "rediss://shop:p%40ss@[::1]:7001/0"


def test_sentinels_watch_a_service_with_databases():
    address = parse_redis_address("redis+sentinel://s-1,s-2:26380/shop/3")

    assert (address.kind, address.hosts) == ("sentinel", (("s-1", 26379), ("s-2", 26380)))
    assert (address.service, address.db, address.cache_location) == ("shop", 3, "redis://shop:6379/3")


def test_tls_is_verified_and_reaches_every_server_of_an_address():
    address = parse_redis_address("rediss+cluster://a:7000?ssl_cert_reqs=none&ssl_check_hostname=false")
    plain = parse_redis_address("rediss://a:6379/0")

    assert plain.is_verified
    assert not address.is_verified
    assert address.tls == {"ssl": True, "ssl_cert_reqs": "none", "ssl_check_hostname": False}
    assert address.url_of("b", 1) == "rediss://b:1/0?ssl_cert_reqs=none&ssl_check_hostname=false"
    assert address.cache_location == "redis://cluster:6379/0"


def test_sentinels_have_their_own_login_and_inherit_tls():
    login = "sentinel_username=watcher&sentinel_password=s3same%3F"
    guarded = parse_redis_address(f"rediss+sentinel://shop:word@s-1/shop/0?{login}")
    bare = parse_redis_address("rediss+sentinel://shop:word@s-1/shop/0?sentinel_ssl=false")

    assert guarded.sentinel_options == {"username": "watcher", "password": "s3same?", "ssl": True}
    assert (bare.sentinel_options, bare.tls) == ({}, {"ssl": True})
    assert guarded.url_of("b", 1) == "rediss://shop:word@b:1/0"


def test_files_of_tls_are_looked_at_before_anything_starts(tmp_path: Path):
    empty, missing = tmp_path / "empty.pem", tmp_path / "missing.pem"
    empty.touch()

    for options, words in {
        f"ssl_ca_certs={missing}": f"its ssl_ca_certs, {missing}, is no file of certificates .* no such file",
        f"ssl_ca_certs={empty}": f"its ssl_ca_certs, {empty}, is no file of certificates",
        f"ssl_certfile={empty}": f"its ssl_certfile and ssl_keyfile, {empty}, cannot be used",
        f"ssl_keyfile={empty}": "needs the certificate of that key",
    }.items():
        with pytest.raises(ValueError, match=words):
            parse_redis_address(f"rediss://redis.example.com/0?{options}")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("redis+cluster://:pass?word@a:7000", "not written as in a URL"),
        ("redis://:pass@a/0?retry_on_timeout=true", "an option that is none of db, ssl_ca_certs"),
        ("redis+cluster://a?db=1", "an option that is none of ssl_ca_certs"),
        ("redis+sentinel://a/shop?sentinel_password=pass&word", "an option that is none of"),
        ("redis+sentinel://a/shop?sentinel_password=", "its sentinel_password is none of"),
        ("redis://a/0?db=one", "its db is not the number"),
        ("redis://a/0?ssl_ca_certs=/a.pem", "it is to begin with rediss://"),
        ("redis+cluster://a?ssl_check_hostname=false", "it is to begin with rediss.cluster://"),
        ("rediss://a?ssl_cert_reqs=optional", "its ssl_cert_reqs is none of required, none"),
        ("rediss://a?ssl_cert_reqs=NONE", "its ssl_cert_reqs is none of required, none"),
        ("rediss://a?ssl_check_hostname=off", "its ssl_check_hostname is none of true, false"),
        ("rediss+sentinel://a/shop?sentinel_ssl=no", "its sentinel_ssl is none of true, false"),
        ("http://localhost", "begins with none of"),
        ("redis+ring://localhost", "begins with none of"),
        ("redis+cluster://", "hosts are not like"),
        ("redis+cluster://a:7000,,b:7000", "hosts are not like"),
        ("redis+cluster://a:port", "hosts are not like"),
        ("redis+cluster://a:7000/3", "a cluster has no databases"),
        ("redis+sentinel://a:26379", "ends with the name of the master"),
        ("redis+sentinel://a:26379/shop/main", "number of a database"),
        ("redis+cluster://:pass/word@a:7000", "not written as in a URL"),
    ],
)
def test_errors_are_one_line_without_the_password(url: str, words: str):
    with pytest.raises(ValueError, match=words) as wrong:
        parse_redis_address(url)

    assert "word" not in str(wrong.value).replace("password", "")
    assert "\n" not in str(wrong.value)


@pytest.mark.parametrize(
    ("key", "number"),
    [("123456789", 12739), ("{user1000}.following", 3443), ("foo{}{bar}", 8363), ("foo{{bar}}zap", 4015)],
)
def test_slots_are_those_of_the_specification(key: str, number: int):
    assert slot(key) == number


def test_a_command_goes_to_the_server_of_its_key():
    key = "{sale:1}:orders"

    for command in (("GET", key), ("EVALSHA", "sha", 1, key, "{x}"), ("XINFO", "GROUPS", key), ("XINFO STREAM", key)):
        assert key_of(command) == key
