"""Where Redis is: one server, a cluster, or a master that sentinels know, as REDIS_URL says."""

import re
import ssl
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

KINDS = {"redis": False, "rediss": True}
SCHEMES = "redis://", "rediss://", "unix://", "redis+cluster://", "redis+sentinel://"
# What a platform tells of one of its services (Render: hostport): HOST:PORT, and no more.
HOST_AND_PORT = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?:[0-9]+", re.IGNORECASE)
DEFAULT_PORTS = {"cluster": 6379, "sentinel": 26379}
WRONG_PASSWORD = "its password is not written as in a URL (%2F for /, %3F for ?, %40 for @)"  # noqa: S105

# What may stand behind the question mark, named as redis-py names it; of the others some would undo what is promised,
# like retry_on_timeout. None takes any value.
FLAGS = ("true", "false")
TLS_OPTIONS: dict[str, tuple[str, ...] | None] = {
    "ssl_ca_certs": None,
    "ssl_certfile": None,
    "ssl_keyfile": None,
    "ssl_cert_reqs": ("required", "none"),
    "ssl_check_hostname": FLAGS,
}
OPTIONS: dict[str, dict[str, tuple[str, ...] | None]] = {
    "single": {"db": None, **TLS_OPTIONS},
    "cluster": TLS_OPTIONS,
    "sentinel": {"sentinel_username": None, "sentinel_password": None, "sentinel_ssl": FLAGS, **TLS_OPTIONS},
}


class RedisAddress(NamedTuple):
    """`kind` is single, cluster or sentinel. `hosts` are some nodes of a cluster, or the sentinels; they are empty for
    a single server, which `url` names. User name and password are those of Redis itself; `sentinel_options` are
    redis-py's for the sentinels. `tls_options` are those of TLS, as the URL spells them."""

    kind: str
    url: str
    hosts: tuple[tuple[str, int], ...] = ()
    service: str = ""
    db: int = 0
    username: str = ""
    password: str = ""
    is_tls: bool = False
    tls_options: Mapping[str, str] = {}
    sentinel_options: Mapping[str, Any] = {}

    @property
    def cache_location(self) -> str:
        """Return the URL that django-redis takes; sentinels, nodes of a cluster and TLS it is told apart from that."""
        return self.url if self.kind == "single" else self._replace(is_tls=False).url_of(self.service or "cluster")

    @property
    def tls(self) -> dict[str, Any]:
        """Return redis-py's options for a connection with TLS; without TLS, none."""
        return {"ssl": True, **_parsed(self.tls_options)} if self.is_tls else {}

    @property
    def is_verified(self) -> bool:
        """Return whether a server that is reached by TLS has to prove which one it is."""
        return self.tls_options.get("ssl_cert_reqs") != "none"

    def url_of(self, host: str, port: int = 6379) -> str:
        """Return the URL of one server of a cluster, or that sentinels name."""
        login = f"{quote(self.username, safe='')}:{quote(self.password, safe='')}@" if self.password else ""
        name = f"[{host}]" if ":" in host else host
        options = f"?{urlencode(self.tls_options)}" if self.is_tls and self.tls_options else ""
        return f"{'rediss' if self.is_tls else 'redis'}://{login}{name}:{port}/{self.db}{options}"


def parse_redis_address(value: str) -> RedisAddress:
    """Return the address that a URL names, having seen that the files of its TLS can be used.

    Raises ValueError with one clear line, which does not show what may be a password.
    """
    if HOST_AND_PORT.fullmatch(value):
        value = f"redis://{value}/0"
    scheme, _, rest = value.partition("://")
    family, _, kind = scheme.partition("+")
    if kind not in ("", *DEFAULT_PORTS) or (family not in KINDS and (kind or family != "unix")):
        raise ValueError(f"it begins with none of {', '.join(SCHEMES)}")
    rest, _, query = rest.partition("?")
    is_tls, options = KINDS.get(family, False), _options(query, kind or "single")
    tls_options = {name: options[name] for name in TLS_OPTIONS if name in options}
    if tls_options and not is_tls:
        raise ValueError(f"its options for TLS need TLS: it is to begin with rediss{scheme[len(family) :]}://")
    _check_files(tls_options)
    if not kind:
        return RedisAddress("single", value, is_tls=is_tls, tls_options=tls_options)
    found = _several(kind, value, rest)._replace(is_tls=is_tls, tls_options=tls_options)
    return found._replace(sentinel_options=_sentinel_options(options, found.tls))


def _several(kind: str, value: str, rest: str) -> RedisAddress:
    """Return the address of a cluster or of sentinels, of which `rest` is what stands between scheme and options."""
    login, _, listed = rest.rpartition("@")
    if "/" in login:
        raise ValueError(WRONG_PASSWORD)
    username, _, password = login.partition(":")
    listed, _, path = listed.partition("/")
    hosts = tuple(_host(word, DEFAULT_PORTS[kind]) for word in listed.split(","))
    service, _, db = path.strip("/").partition("/")
    if kind == "cluster" and service:
        raise ValueError("a cluster has no databases: its address ends with the last HOST:PORT")
    if kind == "sentinel" and not service:
        raise ValueError("an address of sentinels ends with the name of the master that they watch, like /mymaster/0")
    if not (db or "0").isdigit():
        raise ValueError("it does not end with the number of a database, like /mymaster/0")
    return RedisAddress(kind, value, hosts, service, int(db or 0), unquote(username), unquote(password))


def _options(query: str, kind: str) -> dict[str, str]:
    """Return what stands behind the question mark. What is wrong there is not shown: it may be of a password."""
    if "@" in query:
        raise ValueError(WRONG_PASSWORD)
    known, options = OPTIONS[kind], dict(parse_qsl(query, keep_blank_values=True))
    if options.keys() - known.keys():
        raise ValueError(f"behind its question mark stands an option that is none of {', '.join(known)}")
    for name, value in options.items():
        if value not in (known[name] or [value]) or not value:
            raise ValueError(f"its {name} is none of {', '.join(known[name] or ['what it may be'])}")
    if not options.get("db", "0").isdigit():
        raise ValueError("its db is not the number of a database")
    return options


def _check_files(tls_options: Mapping[str, str]) -> None:
    """Raise ValueError unless the files that TLS needs are there, and hold what they are to."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    ca_file, own_file, key_file = (tls_options.get(f"ssl_{name}") for name in ("ca_certs", "certfile", "keyfile"))
    try:
        if ca_file:
            context.load_verify_locations(ca_file)
    except OSError as error:  # an ssl.SSLError is one, too
        raise ValueError(f"its ssl_ca_certs, {ca_file}, is no file of certificates (PEM): {_why(error)}") from None
    if key_file and not own_file:
        raise ValueError("its ssl_keyfile needs the certificate of that key: ssl_certfile")
    try:
        if own_file:
            context.load_cert_chain(own_file, key_file, password="")  # without one it would ask at the terminal
    except (OSError, ValueError) as error:
        files = " and ".join(filter(None, (own_file, key_file)))
        raise ValueError(f"its ssl_certfile and ssl_keyfile, {files}, cannot be used: {_why(error)}") from None


def _why(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error)).lower()


def _sentinel_options(options: Mapping[str, str], tls: Mapping[str, Any]) -> dict[str, Any]:
    """Return redis-py's options for the sentinels: a login of their own, and TLS as the servers have it, unless the
    address says that they have none."""
    login = {name: options[f"sentinel_{name}"] for name in ("username", "password") if f"sentinel_{name}" in options}
    return login | (dict(tls) if options.get("sentinel_ssl") != "false" else {})


def _parsed(tls_options: Mapping[str, str]) -> dict[str, Any]:
    return {name: value == "true" if TLS_OPTIONS[name] == FLAGS else value for name, value in tls_options.items()}


def _host(word: str, default_port: int) -> tuple[str, int]:
    """Return host and port of `host`, `host:port` or `[address]:port`."""
    try:
        parts = urlsplit(f"//{word.strip()}")
        host, port = parts.hostname or "", parts.port or default_port
    except ValueError:
        host, port = "", 0
    if not host or not port:
        raise ValueError("its hosts are not like redis-1.example.com:6379,redis-2.example.com:6379")
    return host, port
