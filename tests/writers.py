"""The order writer as a process, on the tests' Redis and database."""

import os
import subprocess
import sys
import time

from django.conf import settings

from sales import store
from sales.models import Sale
from tests.servers import database_url


class OrderWriter:
    """`manage.py write_orders`, from `with` to its end."""

    def __enter__(self) -> "OrderWriter":
        command = [sys.executable, str(settings.BASE_DIR / "manage.py"), "write_orders"]
        self.popen = subprocess.Popen(command, env={**os.environ, "DATABASE_URL": database_url()})
        return self

    def __exit__(self, *error: object) -> None:
        self.popen.terminate()
        self.popen.wait(timeout=60)

    def wait_until_it_reads(self, sale: Sale) -> None:
        deadline = time.monotonic() + 60
        while not store.client().xinfo_consumers(store.key(sale.id, "orders"), store.WRITERS):
            assert self.popen.poll() is None, "the order writer has died"
            assert time.monotonic() < deadline, "the order writer does not start"
            time.sleep(0.05)
