"""Shoppers with a connection each: `python -m tests.load.scaling.crowd ADDRESS SHOPPERS HALF_WITHIN SPREAD SEED`.

Each presses once, at the time that the simulation says; what was sent when, and how long the answer took, is printed as
JSON. Times are seconds since the first could have pressed.
"""

import gc
import json
import select
import socket
import sys
import time
from urllib.parse import urlsplit

from tests.load import project

CONNECTED_AT_ONCE = 100


def main(address: str, shoppers: int, half_within_seconds: float, spread: float, seed: int) -> None:
    project.prepare()
    from tests.load.scaling.simulation import presses

    url = urlsplit(address)
    poll = select.epoll()
    pages = []
    for number in range(shoppers):
        page = socket.create_connection((url.hostname, url.port))
        poll.register(page, select.EPOLLIN)
        pages.append(page)
        if number % CONNECTED_AT_ONCE == 0:
            time.sleep(0.01)
    time.sleep(1)
    gc.freeze()
    gc.disable()
    print(json.dumps(_press(poll, pages, presses(shoppers, half_within_seconds, spread, seed), url.netloc, seed)))


def _press(
    poll: select.epoll, pages: list[socket.socket], due: list[float], host: str, seed: int
) -> dict[str, list[float] | int]:
    """Let everybody press. Return when they did (`pressed`), how long they waited (`waits`), and how many bought."""
    head = f"POST /api/sale/purchase HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: "
    bodies = [f'{{"userId":"{seed}-{number}@example.com"}}' for number in range(len(pages))]
    requests = [f"{head}{len(body)}\r\n\r\n{body}".encode() for body in bodies]
    places = {page.fileno(): number for number, page in enumerate(pages)}
    pressed, waits = [0.0] * len(pages), [0.0] * len(pages)
    sent, answered, sold, started = 0, 0, 0, time.perf_counter()
    while answered < len(pages):
        now = time.perf_counter() - started
        if sent < len(pages) and due[sent] <= now:
            pressed[sent] = now
            pages[sent].sendall(requests[sent])
            sent += 1
            if sent % 10:  # who is late does not keep the others from hearing
                continue
        # It does not wait by asking all the time: Redis works on the same core.
        for descriptor, _ in poll.poll(max(0.0, due[sent] - now) if sent < len(pages) else 1, 50):
            place = places[descriptor]
            answer = pages[place].recv(4096)
            waits[place] = time.perf_counter() - started - pressed[place]
            assert answer.startswith((b"HTTP/1.1 200", b"HTTP/1.1 409")), answer
            sold += answer.startswith(b"HTTP/1.1 200")
            answered += 1
    return {"pressed": pressed, "waits": waits, "sold": sold}


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4]), int(sys.argv[5]))
