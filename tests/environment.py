"""The environment of a test run: its own place for data, and limits out of the way. Loaded before Django's settings."""

import atexit
import os
import shutil
import sys
import tempfile

from tests import prepared

# Hundreds of processes import the project: where bytecode is not kept, each would compile it.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

prepared.place()

VAR_DIR = tempfile.mkdtemp(prefix="flashsale-test-")
atexit.register(shutil.rmtree, VAR_DIR, ignore_errors=True)

os.environ.update(
    VAR_DIR=VAR_DIR,
    SECRET_KEY="only-for-tests",
    ALLOWED_HOSTS="localhost,127.0.0.1,testserver",
    ADDRESS_RATE="off",
    USER_RATE="10/10s",
    WEB_CONCURRENCY="2",
    BIND="127.0.0.1",
    DEBUG="off",
    EMAIL_URL="console:",
    # Asynchronous tests, and browser tests on their own loop, use the ORM from the test thread.
    DJANGO_ALLOW_ASYNC_UNSAFE="true",
)
# Empty rather than absent, so that a developer's .env does not lead the tests to a real server.
os.environ.update(
    dict.fromkeys(
        (
            "REDIS_URL",
            "PORT",
            "METRICS_TOKEN",
            "METRICS_NETWORKS",
            "METRICS_DIR",
            "TRUSTED_PROXIES",
            "CSRF_TRUSTED_ORIGINS",
            "CORS_ORIGINS",
            "MEDIA_STORAGE",
            "SECRET_KEY_FALLBACKS",
            "HTTPS",
            "SECOND_FACTOR",
            "TIME_ZONE",
            "LOG_FORMAT",
            "LOG_LEVEL",
            "LOG_IDENTIFIERS",
        ),
        "",
    )
)
# test_postgresql.py runs tests on a server of its own by this.
os.environ["DATABASE_URL"] = os.environ.get("FLASHSALE_TEST_DATABASE_URL", "")
