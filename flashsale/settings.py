"""Every setting, and with `places` the only one that reads the environment. `.env.example` explains each variable."""

import os
from collections.abc import Callable
from typing import TypeVar
from urllib.parse import quote, urlsplit

from csp.constants import NONE, SELF
from django.utils.translation import gettext_lazy as _

from flashsale import embedded_redis, machine
from flashsale.media_storage import parse_media_storage
from flashsale.places import BASE_DIR, VAR_DIR
from flashsale.rates import parse_rate
from flashsale.redaction import without_password
from flashsale.variables import (
    database,
    flag,
    is_required,
    mail_server,
    networks,
    one_of,
    port,
    positive,
    redis_address,
    time_zone,
    web_address,
    words,
)
from flashsale.web_origins import parse_origins

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
        told = without_password(str(error))
        raise SystemExit(f"flashsale: {name}: {told}. .env.example shows what it takes.") from None


DEBUG = read("DEBUG", flag, "off")
SECRET_KEY = read("SECRET_KEY", str)
SECRET_KEY_FALLBACKS = read("SECRET_KEY_FALLBACKS", words, ",")
ALLOWED_HOSTS = read("ALLOWED_HOSTS", words)
TRUSTED_PROXIES = read("TRUSTED_PROXIES", networks, ",")
CSRF_TRUSTED_ORIGINS = read("CSRF_TRUSTED_ORIGINS", words, ",")
CORS_ORIGINS = read("CORS_ORIGINS", parse_origins, ",")

# Served over HTTPS, by the proxy in front of us: sessions travel over nothing else.
HTTPS = read("HTTPS", flag, "off") and not DEBUG
SECURE_SSL_REDIRECT = SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
# Who watches from inside asks the process itself.
SECURE_REDIRECT_EXEMPT = [r"^(health(/live)?|metrics)$"]
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if HTTPS else None
SECURE_HSTS_SECONDS = 365 * 24 * 3600 if HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = HTTPS
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
# Addresses of pages hold codes, tokens and what operators search for: nobody is told more than the site, not even our
# own log of the requests for styles. With "no-referrer" browsers would not say either that a form comes from our page.
SECURE_REFERRER_POLICY = "strict-origin"
X_FRAME_OPTIONS = "DENY"
# Who has signed in works for a day, not for ever, and not on after the browser is closed.
SESSION_COOKIE_AGE = 12 * 3600
SESSION_EXPIRE_AT_BROWSER_CLOSE = True
SESSION_ENGINE = "sales.sessions"
# Who signs out is led on, so that no page is the answer to a form.
LOGOUT_REDIRECT_URL = "admin:login"
SECOND_FACTOR_IS_REQUIRED = read("SECOND_FACTOR", is_required, "optional")

BIND = read("BIND", str, "0.0.0.0")
PORT = read("PORT", port, "8000")
# Where shoppers find the site: links that leave it, as in social previews, are absolute.
PUBLIC_URL = read("PUBLIC_URL", web_address, f"http://localhost:{PORT}")
# How an authenticator app names the account: of several sites it shows which one this is.
OTP_TOTP_ISSUER = f"Flash sales at {urlsplit(PUBLIC_URL).hostname}"
MEDIA_STORAGE = read("MEDIA_STORAGE", parse_media_storage, "local")
WEB_CONCURRENCY = read("WEB_CONCURRENCY", positive, str(machine.web_workers()))
DJANGO_THREADS = read("DJANGO_THREADS", positive, "8")

REDIS_IS_EMBEDDED = not os.environ.get("REDIS_URL")
REDIS_ADDRESS = read("REDIS_URL", redis_address, f"unix://{quote(str(embedded_redis.socket_path(VAR_DIR)))}")
REDIS_URL = REDIS_ADDRESS.url
REDIS_CONNECTION_FACTORIES = {
    "single": "django_redis.pool.ConnectionFactory",
    "sentinel": "sales.store.factories.SentinelFactory",
    "cluster": "sales.store.factories.ClusterFactory",
}
# TLS takes two or three round trips, and arithmetic on both sides.
REDIS_CONNECT_TIMEOUT_SECONDS = 0.5 if REDIS_ADDRESS.is_tls else 0.2
REDIS_READ_TIMEOUT_SECONDS = 1.0

USER_RATE = read("USER_RATE", parse_rate, "10/10s")
ADDRESS_RATE = read("ADDRESS_RATE", parse_rate, "100/s")
EVENT_LISTENERS = read("EVENT_LISTENERS", positive, "5000")

METRICS_TOKEN = read("METRICS_TOKEN", str, "")
METRICS_NETWORKS = read(
    "METRICS_NETWORKS", networks, "127.0.0.0/8,::1/128,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,fc00::/7"
)
# Where the web workers keep their numbers for each other; of each web server of a machine another one.
METRICS_DIR = BASE_DIR / read("METRICS_DIR", str, str(VAR_DIR / "metrics")) / str(PORT)

# Without one nobody can confirm an e-mail address: to lose mails in silence would be worse.
_mail = read("EMAIL_URL", mail_server, "dummy:")
EMAIL_BACKEND = _mail["EMAIL_BACKEND"]
EMAIL_HOST, EMAIL_PORT = _mail["EMAIL_HOST"], _mail["EMAIL_PORT"]
EMAIL_HOST_USER, EMAIL_HOST_PASSWORD = _mail["EMAIL_HOST_USER"], _mail["EMAIL_HOST_PASSWORD"]
EMAIL_USE_TLS, EMAIL_USE_SSL = _mail["EMAIL_USE_TLS"], _mail["EMAIL_USE_SSL"]
EMAIL_TIMEOUT = 10
DEFAULT_FROM_EMAIL = read("MAIL_FROM", str, f"Flash sale <no-reply@{urlsplit(PUBLIC_URL).hostname}>")

DATABASES = {"default": read("DATABASE_URL", database, f"sqlite:///{quote(str(VAR_DIR / 'db.sqlite3'))}")}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

CACHES = {
    "default": {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": REDIS_ADDRESS.cache_location,
        # In one slot of a cluster, so that a command may take several of them.
        "KEY_PREFIX": "{cache}" if REDIS_ADDRESS.kind == "cluster" else "cache",
        "OPTIONS": {
            "CONNECTION_FACTORY": REDIS_CONNECTION_FACTORIES[REDIS_ADDRESS.kind],
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
    "flashsale.static_files.AskedFor",
    "django_otp",
    "django_otp.plugins.otp_totp",
    "django_otp.plugins.otp_static",
    "sales",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "csp.middleware.CSPMiddleware",
    "sales.headers.complete",
    "sales.texts.check",
    "sales.press_guard.keep",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "sales.languages.ShoppersLanguage",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "sales.desk.proof.keep",
    "django_otp.middleware.OTPMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "sales.press_guard.Claiming",
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
            ],
            # Its `csrf_token` takes the place of Django's.
            "builtins": ["sales.templatetags.presses"],
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
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        "connect-src": [SELF],
        "img-src": [SELF, MEDIA_STORAGE.origin] if MEDIA_STORAGE.origin else [SELF],
        "base-uri": [NONE],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
        "upgrade-insecure-requests": HTTPS,
    }
}

LANGUAGE_CODE = "en"
LANGUAGES = [("en", _("English")), ("de", _("German"))]
LOCALE_PATHS = [BASE_DIR / "sales" / "locale"]
# What operators type and read in the admin. Shoppers, scripts and files get UTC.
TIME_ZONE = read("TIME_ZONE", time_zone, "UTC")
FORMAT_MODULE_PATH = "flashsale.formats"
USE_TZ = True

# Pages ask for these names alone; to pack the others as well would take as long again.
WHITENOISE_KEEP_ONLY_HASHED_FILES = True
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

LOG_FORMAT = read("LOG_FORMAT", one_of("json", "text"), "json")
LOG_LEVEL = read("LOG_LEVEL", one_of("debug", "info", "warning", "error"), "warning")
LOG_IDENTIFIERS = read("LOG_IDENTIFIERS", one_of("hashed", "plain"), "hashed")
LOGGING_CONFIG = "flashsale.logs.configure"
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"()": "flashsale.logs.formatter"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": "WARNING"},
    "loggers": {
        "django": {"handlers": [], "propagate": True},
        # A 404 or a 403 is the asker's business; what fails here is logged as an error.
        "django.request": {"level": "ERROR"},
        # `runserver` logs addresses as they were sent.
        "django.server": {"handlers": [], "propagate": True, "level": "CRITICAL"},
        # What libraries say at lower levels has the names and keys in it that no log is to have.
        **{name: {"level": LOG_LEVEL.upper()} for name in ("flashsale", "sales")},
    },
}
DEFAULT_EXCEPTION_REPORTER = "flashsale.debug_page.MaskedReporter"
