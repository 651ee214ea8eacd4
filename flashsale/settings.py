"""Every setting, and with `places` the only one that reads the environment. `.env.example` explains each variable."""

import ipaddress
import os
from collections.abc import Callable
from typing import TypeVar
from urllib.parse import quote, urlsplit
from zoneinfo import ZoneInfo

import dj_database_url
from csp.constants import NONE, SELF
from django.utils.translation import gettext_lazy as _

from flashsale import embedded_redis
from flashsale.media_storage import parse_media_storage
from flashsale.places import BASE_DIR, VAR_DIR
from flashsale.rates import parse_rate

T = TypeVar("T")


def read(name: str, parse: Callable[[str], T], default: str | None = None) -> T:
    """Return one parsed environment variable; stop the process with one clear line when it is missing or wrong."""
    value = os.environ.get(name) or default
    if value is None:
        raise SystemExit(
            f"flashsale: {name} is not set. Set it in the environment or in .env (.env.example explains it); "
            "on your own machine `make run` does it for you."
        )
    try:
        return parse(value)
    except ValueError as error:
        raise SystemExit(f"flashsale: {name}: {error}. .env.example shows what it takes.") from None


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


def networks(value: str) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    return [ipaddress.ip_network(word) for word in words(value)]


def database(value: str) -> dict:
    """Return Django's settings for a database URL."""
    settings: dict = dict(dj_database_url.parse(value, conn_max_age=60, conn_health_checks=True))
    if not settings:
        raise ValueError(f"{value!r} is not a database URL")
    if settings["ENGINE"].endswith("sqlite3"):
        settings["OPTIONS"] = {
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;",
        }
        # A file, so that the servers that tests start see what tests make.
        settings["TEST"] = {"NAME": VAR_DIR / "test.sqlite3"}
    return settings


DEBUG = read("DEBUG", flag, "off")
SECRET_KEY = read("SECRET_KEY", str)
SECRET_KEY_FALLBACKS = read("SECRET_KEY_FALLBACKS", words, ",")
ALLOWED_HOSTS = read("ALLOWED_HOSTS", words)
TRUSTED_PROXIES = read("TRUSTED_PROXIES", networks, ",")
CSRF_TRUSTED_ORIGINS = read("CSRF_TRUSTED_ORIGINS", words, ",")

# Served over HTTPS, by the proxy in front of us: sessions travel over nothing else.
HTTPS = read("HTTPS", flag, "off") and not DEBUG
SECURE_SSL_REDIRECT = SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if HTTPS else None
SECURE_HSTS_SECONDS = 365 * 24 * 3600 if HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = HTTPS
# Who has signed in works for a day, not for ever, and not on after the browser is closed.
SESSION_COOKIE_AGE = 12 * 3600
SESSION_EXPIRE_AT_BROWSER_CLOSE = True
SECOND_FACTOR_IS_REQUIRED = read("SECOND_FACTOR", is_required, "optional")

BIND = read("BIND", str, "0.0.0.0")
PORT = read("PORT", port, "8000")
# Where shoppers find the site: links that leave it, as in social previews, are absolute.
PUBLIC_URL = read("PUBLIC_URL", web_address, f"http://localhost:{PORT}")
# How an authenticator app names the account: of several sites it shows which one this is.
OTP_TOTP_ISSUER = f"Flash sales at {urlsplit(PUBLIC_URL).hostname}"
MEDIA_STORAGE = read("MEDIA_STORAGE", parse_media_storage, "local")
WEB_CONCURRENCY = read("WEB_CONCURRENCY", positive, str(os.cpu_count() or 1))
DJANGO_THREADS = read("DJANGO_THREADS", positive, "8")

REDIS_IS_EMBEDDED = not os.environ.get("REDIS_URL")
REDIS_URL = f"unix://{quote(str(embedded_redis.socket_path(VAR_DIR)))}" if REDIS_IS_EMBEDDED else read("REDIS_URL", str)
REDIS_CONNECT_TIMEOUT_SECONDS = 0.2
REDIS_READ_TIMEOUT_SECONDS = 1.0

USER_RATE = read("USER_RATE", parse_rate, "10/10s")
ADDRESS_RATE = read("ADDRESS_RATE", parse_rate, "100/s")
EVENT_LISTENERS = read("EVENT_LISTENERS", positive, "5000")

DATABASES = {"default": read("DATABASE_URL", database, f"sqlite:///{quote(str(VAR_DIR / 'db.sqlite3'))}")}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

CACHES = {
    "default": {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": REDIS_URL,
        "KEY_PREFIX": "cache",
        "OPTIONS": {
            "SOCKET_CONNECT_TIMEOUT": REDIS_CONNECT_TIMEOUT_SECONDS,
            "SOCKET_TIMEOUT": REDIS_READ_TIMEOUT_SECONDS,
            "CONNECTION_POOL_KWARGS": {"max_connections": 100},
        },
    }
}
# The log-in counts attempts in this cache. It fails closed: without Redis nobody can guess passwords unlimited.
RATELIMIT_USE_CACHE = "default"

INSTALLED_APPS = [
    "sales.apps.DeskConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_otp",
    "django_otp.plugins.otp_totp",
    "django_otp.plugins.otp_static",
    "sales",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "sales.languages.ShoppersLanguage",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django_otp.middleware.OTPMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "flashsale.urls"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]

CSRF_FAILURE_VIEW = "sales.refusals.csrf_failure"
# Of all pages, also of those on the lane. Nothing comes from another host, and no script or style stands in a page.
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [SELF],
        "img-src": [SELF, MEDIA_STORAGE.origin] if MEDIA_STORAGE.origin else [SELF],
        "base-uri": [NONE],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
        "object-src": [NONE],
    }
}

LANGUAGE_CODE = "en"
LANGUAGES = [("en", _("English")), ("de", _("German"))]
LOCALE_PATHS = [BASE_DIR / "sales" / "locale"]
# What operators type and read in the admin. Shoppers, scripts and files get UTC.
TIME_ZONE = read("TIME_ZONE", time_zone, "UTC")
FORMAT_MODULE_PATH = "flashsale.formats"
USE_TZ = True

WHITENOISE_USE_FINDERS = DEBUG
# What browsers and crawlers ask for by a fixed name.
WHITENOISE_ROOT = BASE_DIR / "static" / "root"
STATIC_URL = "/static/"
STATIC_ROOT = VAR_DIR / "static"
STATICFILES_DIRS = [BASE_DIR / "static"]
MEDIA_URL = "/media/"
MEDIA_ROOT = VAR_DIR / "media"
STORAGES = {
    "default": MEDIA_STORAGE.backend,
    "staticfiles": {
        "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"
        if DEBUG
        else "flashsale.static_files.HashedModules"
    },
}

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "{asctime} {levelname} {name}: {message}", "style": "{"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": "WARNING"},
    # A 404 or a 403 is the asker's business; what fails here is logged as an error.
    "loggers": {"django": {"handlers": [], "propagate": True}, "django.request": {"level": "ERROR"}},
}
