"""The fuzzer of the wire: a short run against the real server, and servers that break its rules."""

import asyncio
import random
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import islice
from typing import Any

import pytest
import uvicorn

from flashsale.exchange import EXCHANGE
from flashsale.protocol import LaneProtocol
from tests.faults.stage import Plan, Stage
from tests.fuzz import wire
from tests.fuzz.cases import Case, case
from tests.fuzz.messages import HIDDEN
from tests.fuzz.wire import Report

SEED = 1
CASES = 1_500


@pytest.mark.long
def test_malformed_requests_are_refused_and_sell_nothing():
    with Stage(Plan(), 1_000_000, random.Random(SEED)) as stage:
        report = asyncio.run(wire.run(stage, CASES, SEED))

    assert report.failures == []
    assert len(report.sold) > CASES / 10
    assert {200, 400, 404, 405, 409, 413, 415, 431} == set(report.statuses) - {503}


def picked(count: int, ending: str) -> list[Case]:
    """Return that many cases with this ending; of those that end malformed, only what has nothing in front."""
    found = (case(SEED, number) for number in range(100_000))
    fitting = (each for each in found if each.ending == ending and not (ending == "malformed" and each.messages))
    return list(islice(fitting, count))


class LenientProtocol(LaneProtocol):
    """What the parser would be with the leniencies that it offers."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.parser.set_dangerous_leniencies(
            lenient_headers=True,
            lenient_chunked_length=True,
            lenient_transfer_encoding=True,
            lenient_optional_lf_after_cr=True,
            lenient_optional_cr_before_lf=True,
            lenient_spaces_after_chunk_size=True,
        )


@asynccontextmanager
async def serving(protocol: type[LaneProtocol]) -> AsyncIterator[int]:
    """Serve on a port; every request is answered alike."""

    async def greet(scope: Any, receive: Any, send: Any) -> None:
        scope[EXCHANGE].respond(200, b"content-length: 5\r\n", b"hello")

    server = uvicorn.Server(uvicorn.Config(greet, http=protocol, lifespan="off", log_level="warning"))
    listening = socket.create_server(("127.0.0.1", 0))
    task = asyncio.create_task(server.serve(sockets=[listening]))
    yield listening.getsockname()[1]
    server.should_exit = True
    await task


@pytest.mark.pure
@pytest.mark.parametrize(("protocol", "is_seen"), [(LaneProtocol, False), (LenientProtocol, True)])
async def test_a_lenient_parser_is_seen_answering_hidden_requests(protocol: type[LaneProtocol], is_seen: bool):
    report = Report()

    async with serving(protocol) as port:
        await wire.play(port, picked(300, "malformed"), report)

    # The protocol alone answers a GET before the rest of it has come.
    hidden = [failure for failure in report.failures if "something hidden was answered" in failure]
    assert bool(hidden) == is_seen


REFUSAL = b"HTTP/1.1 400 Bad Request\r\ndate: x\r\ncontent-length: 2\r\nconnection: close\r\n\r\nno"
BROKEN: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "an error of its own": (lambda raw: REFUSAL.replace(b"400", b"500"), "an error of the server's"),
    "an answer to each line that looks like a request": (
        lambda raw: REFUSAL * raw.count(b" HTTP/1.1\r\n"),
        "something hidden was answered",
    ),
    "a yes": (lambda raw: REFUSAL.replace(b"400", b"200"), "200, connection 'close'"),
    "a connection that stays open": (lambda raw: REFUSAL.replace(b"close", b"keep-alive"), "connection 'keep-alive'"),
    "two lengths": (lambda raw: REFUSAL.replace(b"date: x", b"date: x\r\ncontent-length: 2"), "content-length twice"),
    "a body that is cut": (lambda raw: REFUSAL[:-1], "a body is cut"),
    "more than its body": (lambda raw: REFUSAL + b"!", "without an end"),
    "what was sent": (lambda raw: raw + b"\r\n\r\n", "no status line"),
}


@pytest.mark.pure
@pytest.mark.parametrize("defect", BROKEN)
async def test_a_server_that_breaks_a_rule_is_seen_to(defect: str):
    answer, words = BROKEN[defect]
    report = Report()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(await reader.read()))
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        await wire.play(server.sockets[0].getsockname()[1], picked(40, "malformed"), report)

    assert any(words in failure for failure in report.failures)


@pytest.mark.pure
async def test_a_server_that_refuses_and_closes_breaks_no_rule():
    report = Report()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.write(REFUSAL)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        await wire.play(server.sockets[0].getsockname()[1], picked(40, "malformed"), report)

    assert report.failures == []


@pytest.mark.pure
@pytest.mark.parametrize(("hangs", "words"), [(False, "0 answers"), (True, "TimeoutError()")])
async def test_a_server_that_leaves_what_is_right_unanswered_is_seen(
    monkeypatch: pytest.MonkeyPatch, hangs: bool, words: str
):
    monkeypatch.setattr(wire, "PATIENCE_SECONDS", 0.2 if hangs else 60)
    report, is_over = Report(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        if hangs:
            await is_over.wait()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        await wire.play(server.sockets[0].getsockname()[1], picked(20, "last"), report)
        is_over.set()

    assert sum(words in failure for failure in report.failures) == 20


@pytest.mark.pure
def test_silent_purchases_and_false_answers_are_seen():
    report = Report(sold={"2-0": "1-7", "9-0": "1-8"})
    held = {
        f"{HIDDEN}-1-5": "1-0 99 -",
        "buyer-1-7-0": "2-0 98 -",
        "buyer-1-9-0": "3-0 97 -",
        "leaver-1-3-0": "4-0 96 -",
    }

    wrong = wire.unfair_purchases(held, report)

    assert wrong == [
        f"{HIDDEN}-1-5 has bought",
        f"{HIDDEN}-1-5 has bought and was not told",
        "buyer-1-9-0 has bought and was not told",
        "case 1-8 was told of order 9-0, which is not there",
    ]


@pytest.mark.pure
def test_memory_that_grows_and_a_worker_that_died_are_seen():
    assert wire.growth([{1: 50.0, 2: 50.0}, {1: 55.0, 2: 50.0}]) == []
    assert wire.growth([{1: 50.0, 2: 50.0}, {1: 70.0, 2: 50.0}]) == ["memory grows: 50.0 70.0"]
    assert "has died" in wire.growth([{1: 50.0, 2: 50.0}, {1: 50.0, 3: 50.0}])[0]


@pytest.mark.pure
def test_a_case_is_the_same_each_time():
    assert [case(3, number).raw for number in range(50)] == [case(3, number).raw for number in range(50)]
