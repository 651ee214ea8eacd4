"""The web application with the tests' patience, for the servers of tests that are not about the product's."""

from django.conf import settings

from flashsale.asgi import application
from tests import patience

settings.REDIS_CONNECT_TIMEOUT_SECONDS = settings.REDIS_READ_TIMEOUT_SECONDS = patience.SECONDS
for module, name, value in patience.LIMITS:
    setattr(module, name, value)

__all__ = ["application"]
