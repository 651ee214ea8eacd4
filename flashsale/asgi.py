"""The application that the web workers serve: the express lane in front of Django."""

import os

from django.conf import settings
from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "flashsale.settings")
django = get_wsgi_application()

from flashsale.django_threads import DjangoThreads  # noqa: E402
from flashsale.lane import Lane  # noqa: E402 (views need Django set up)
from flashsale.urls import LANE  # noqa: E402

application = Lane(LANE, DjangoThreads(django, settings.DJANGO_THREADS))
