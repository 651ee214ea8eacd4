"""Many open pages in one process: `python -m tests.load.growth.audience ADDRESS listen|poll COUNT`.

Those who listen hold an event stream, those who poll ask for the status every two seconds. Prints "ready" when all are
there, and at the end of its input a line of JSON: how many answers came, and the longest time between two of one page.
"""

import json
import select
import socket
import sys
import time
from urllib.parse import urlsplit

POLL_EVERY_SECONDS = 2.0
PATHS = {"listen": "/api/sale/events", "poll": "/api/sale/status"}
CONNECTED_AT_ONCE = 100


def main(address: str, kind: str, count: int) -> None:
    url = urlsplit(address)
    request = f"GET {PATHS[kind]} HTTP/1.1\r\nHost: {url.netloc}\r\n\r\n".encode()
    poll = select.epoll()
    pages: dict[int, socket.socket] = {}
    for number in range(count):
        page = socket.create_connection((url.hostname, url.port))
        pages[page.fileno()] = page
        poll.register(page, select.EPOLLIN)
        page.sendall(request)
        if number % CONNECTED_AT_ONCE == 0:
            time.sleep(0.01)
    poll.register(sys.stdin, select.EPOLLIN)
    print("ready", flush=True)
    print(json.dumps(_attend(poll, pages, request if kind == "poll" else b"")))


def _attend(poll: select.epoll, pages: dict[int, socket.socket], request: bytes) -> dict[str, float]:
    """Read what comes, and ask again with `request` if there is one, until the input ends."""
    answers, longest = 0, 0.0
    # The first answers belong to the rush of all who connect.
    heard_at = dict.fromkeys(pages, time.monotonic() + POLL_EVERY_SECONDS)
    due = [(time.monotonic() + POLL_EVERY_SECONDS * number / len(pages), page) for number, page in enumerate(pages)]
    next_due = 0
    while True:
        ready = poll.poll(0.05)
        now = time.monotonic()
        for descriptor, _ in ready:
            if descriptor == sys.stdin.fileno():
                return {"answers": answers, "longest_gap_seconds": longest}
            if not pages[descriptor].recv(65536):
                raise ConnectionError("the server has ended a page's connection")
            longest = max(longest, now - heard_at[descriptor])
            heard_at[descriptor] = max(now, heard_at[descriptor])
            answers += 1
        while request and due[next_due][0] <= now:
            page = due[next_due][1]
            pages[page].sendall(request)
            due[next_due] = now + POLL_EVERY_SECONDS, page
            next_due = (next_due + 1) % len(due)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
