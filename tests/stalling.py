"""The production application for test_stalls.py: its clients get 1 s to read in place of 10, and streams say much."""

from flashsale import stalls
from flashsale.asgi import application as application
from sales import events

stalls.AFTER_SECONDS = 1.0
events.HEARTBEAT_SECONDS, events.HEARTBEAT = 0, b":%b\n\n" % (b" " * 16_384)
