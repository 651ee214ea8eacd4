"""manage.py write_orders: the order writer, a process that moves purchases from the streams into SQL."""

import logging
import signal
import time
from argparse import ArgumentParser
from contextlib import ExitStack, suppress
from threading import Thread
from types import FrameType
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, close_old_connections, connection

from flashsale.redaction import shown
from sales import attempt_counts, cancelling, directory_mirror, invited_mirror, objections, orders, publishing, store

RETRY_SECONDS = 0.5
IDLE_SECONDS = 0.2
TIDY_EVERY_SECONDS = 1.0

log = logging.getLogger("sales.orders")


class Command(BaseCommand):
    help = "Move purchases from Redis into SQL until it is told to stop. Several may run at once."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--once", action="store_true", help="stop when the streams hold nothing more")

    def handle(self, *args: Any, once: bool, **options: Any) -> None:
        consumer = orders.consumer_name()
        if once:
            self.stdout.write(f"{self._drain(consumer)} orders written.")
            return
        self.is_stopping = False
        self.tidied_at = 0.0
        self.mirroring = Thread()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        self._run(consumer)

    def _drain(self, consumer: str) -> int:
        written = 0
        try:
            while stored := orders.run_once(consumer, claim_after_ms=0):
                written += stored
            attempt_counts.store_counts()
        except (store.RedisError, DatabaseError) as error:
            raise CommandError(
                f"{written} orders were written, then: {shown(error)}. Run it again; nothing is lost."
            ) from None
        return written

    def _run(self, consumer: str) -> None:
        is_failing = False
        while not self.is_stopping:
            try:
                try:
                    stored = orders.run_once(consumer)
                finally:
                    self._tidy()
            except (store.RedisError, store.Unavailable, DatabaseError) as error:
                if not is_failing:
                    log.warning("orders wait in Redis until this ends: %s", error)
                is_failing = True
                close_old_connections()
                time.sleep(RETRY_SECONDS)
            else:
                if is_failing:
                    log.warning("orders are being written again")
                is_failing = False
                if not stored:
                    time.sleep(IDLE_SECONDS)
        with suppress(store.RedisError, DatabaseError):
            attempt_counts.store_counts()  # the web workers, which end before this process, may just have told more

    def _tidy(self) -> None:
        if time.monotonic() - self.tidied_at > TIDY_EVERY_SECONDS:
            self.tidied_at = time.monotonic()
            with ExitStack() as steps:  # each is done, also where one fails for a server of several
                steps.callback(self._mirror_lists)
                steps.callback(objections.raise_all)
                for step in (
                    *(cancelling.catch_up, directory_mirror.catch_up, publishing.catch_up),
                    *(attempt_counts.store_counts, orders.tidy),
                ):
                    steps.callback(step)

    def _mirror_lists(self) -> None:
        """Mirror lists of invited shoppers where that is due. It takes seconds, in which orders are to be written."""
        if invited_mirror.is_due() and not self.mirroring.is_alive():
            self.mirroring = Thread(target=_catch_up_with_lists, daemon=True)
            self.mirroring.start()

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self.is_stopping = True


def _catch_up_with_lists() -> None:
    try:
        invited_mirror.catch_up()
    except (store.Unavailable, DatabaseError) as error:
        log.warning("lists of invited shoppers wait until this ends: %s", shown(error))
    finally:
        connection.close()
