"""What the environment's variables may say: a function for each kind, which raises ValueError with one clear line."""

import ipaddress
from collections.abc import Callable
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

import dj_database_url
import dj_email_url

from flashsale.places import VAR_DIR
from flashsale.redis_address import RedisAddress, parse_redis_address


def flag(value: str) -> bool:
    known = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
    if value.lower() not in known:
        raise ValueError(f"{value!r} is neither true nor false")
    return known[value.lower()]


def positive(value: str) -> int:
    if not value.isdigit() or int(value) == 0:
        raise ValueError(f"{value!r} is not a whole number above zero")
    return int(value)


def port(value: str) -> int:
    if positive(value) > 65535:
        raise ValueError(f"{value} is not a port; they end at 65535")
    return int(value)


def web_address(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/"):
        raise ValueError(f"{value!r} is not an address like https://shop.example.com")
    return value.rstrip("/")


def words(value: str) -> list[str]:
    return [word.strip() for word in value.split(",") if word.strip()]


def time_zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (LookupError, OSError, ValueError):
        raise ValueError(f"{value!r} is not a time zone; they are named like Europe/Zurich") from None
    return value


def is_required(value: str) -> bool:
    if value.lower() not in ("optional", "required"):
        raise ValueError(f"{value!r} is neither optional nor required")
    return value.lower() == "required"


def one_of(*known: str) -> Callable[[str], str]:
    def parse(value: str) -> str:
        if value.lower() not in known:
            raise ValueError(f"{value!r} is none of {', '.join(known)}")
        return value.lower()

    return parse


def networks(value: str) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    return [ipaddress.ip_network(word) for word in words(value)]


def server_address(value: str, example: str) -> str:
    """Return the address of a server. What is wrong with it is said without it: it may hold a password."""
    try:
        parts = urlsplit(value)
        # Where the password is not encoded, it may seem to be the port or the path, which others show.
        if parts.scheme and (parts.hostname or not parts.netloc) and "@" not in parts.path + parts.fragment:
            _ = parts.port
            return value
    except ValueError:
        pass
    raise ValueError(f"it is not an address like {example}, or its password is not written as in a URL (%40 for @)")


def redis_address(value: str) -> RedisAddress:
    address = parse_redis_address(value)
    if address.kind == "single":
        server_address(address.url, "redis://USER:PASSWORD@HOST:6379/0")
    return address


def database(value: str) -> dict:
    """Return Django's settings for a database URL."""
    example = "postgres://USER:PASSWORD@HOST:5432/NAME"
    try:
        settings: dict = dict(dj_database_url.parse(value, conn_max_age=60, conn_health_checks=True))
    except ValueError:
        raise ValueError(f"it is not an address like {example}") from None
    if not settings:
        raise ValueError(f"it is not an address like {example}")
    server_address(value, example)
    if settings["ENGINE"].endswith("sqlite3"):
        settings["OPTIONS"] = {
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;",
        }
        # A file, so that the servers that tests start see what tests make.
        settings["TEST"] = {"NAME": VAR_DIR / "test.sqlite3"}
    else:
        # A server that is not there holds a thread no longer than it takes to give up on it.
        settings["OPTIONS"] = {"connect_timeout": 5, **settings.get("OPTIONS", {})}
    return settings


def mail_server(value: str) -> dict:
    """Return Django's settings for a mail server's URL."""
    example = "submission://USER:PASSWORD@mail.example.com:587"
    server_address(value, example)
    parsed: dict = dict(dj_email_url.parse(value))
    if "EMAIL_BACKEND" not in parsed:
        raise ValueError(f"it is not the URL of a mail server, like {example}")
    return parsed
