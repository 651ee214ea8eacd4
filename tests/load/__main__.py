"""`make load`: send a crowd against a server that it starts, or against HOST, and check what came of it."""

import argparse
import resource
import shutil
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from types import FrameType
from urllib.parse import urlsplit

from flashsale.places import VAR_DIR
from tests.load import checks, generator
from tests.load.answers import Answer
from tests.load.checks import Books, Verdict
from tests.load.generator import Load
from tests.load.profiles import (
    LONGEST_SECONDS,
    MOST_USERS,
    PROFILES,
    SHORTEST_SECONDS,
    Profile,
    arrival_seconds,
    stock_for,
)
from tests.load.shop import Closed, ForeignShop, Shop
from tests.load.summary import PROGRESS, progress, summary

REPORTS = VAR_DIR / "load"
# Until locust has loaded.
LOCUST_STARTS_SECONDS = 3.0
LONGEST_WAIT_SECONDS = 600
LINES_OF_PROGRESS = 40
# Of each process, beside the connections of the crowd.
OTHER_FILES = 200

# The run, the answers to what was bought before it, and what the seller says after it.
Played = tuple[Load, list[Answer], Books]


def main() -> int:
    """Return the exit status: 0 when every invariant held."""
    options = _options()
    _stop_on_signals()
    _raise_file_limit(options.users + OTHER_FILES)
    profile = PROFILES[options.profile]
    bots = round(options.users * profile.bots)
    _say(f"{options.profile}: {profile.words}.")
    _say(f"{options.users - bots:,} shoppers and {bots:,} bots, {options.seconds:g} s at the most.")
    directory = REPORTS / f"{datetime.now():%Y%m%d-%H%M%S}-{options.profile}"
    play = _play_on_host if options.host else _play_on_own_server
    try:
        load, sold_before, books = play(options, profile, directory)
    except (Closed, TimeoutError) as error:
        print(
            f"flashsale: {error}\nNothing is proven. What there is of answers and logs is in {directory}",
            file=sys.stderr,
        )
        return 1
    except SystemExit:
        shutil.rmtree(directory, ignore_errors=True)
        raise
    verdicts = checks.check([*sold_before, *load.answers], books)
    verdicts.append(checks.crowd_came(load.exit_status, load.answers))
    _say(f"\n{summary(load, verdicts)}\n")
    return _finish(verdicts, directory)


def _options() -> argparse.Namespace:
    usage = f"make load [PROFILE={'|'.join(PROFILES)}] [USERS=number] [TIME=seconds] [HOST=address]"
    parser = argparse.ArgumentParser(prog="make load", usage=usage, description=__doc__)
    parser.add_argument("--profile", choices=list(PROFILES), default="rush")
    parser.add_argument("--users", type=_number("users", 2, MOST_USERS), help="how many come")
    parser.add_argument(
        "--seconds", type=_number("seconds", SHORTEST_SECONDS, LONGEST_SECONDS), help="how long at the most"
    )
    parser.add_argument("--host", type=_address, default="", help="a server that runs, like http://localhost:8000")
    options = parser.parse_args()
    profile = PROFILES[options.profile]
    options.users = options.users or profile.users
    options.seconds = options.seconds or profile.seconds
    return options


def _number(what: str, least: int, most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.isdecimal() or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number of {what} from {least} to {most:,}")
        return int(text)

    return parse


def _address(text: str) -> str:
    parts = urlsplit(text)
    if text and (parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/")):
        raise argparse.ArgumentTypeError(f"{text!r} is not an address like http://localhost:8000")
    return text.rstrip("/")


def _play_on_own_server(options: argparse.Namespace, profile: Profile, directory: Path) -> Played:
    stock = stock_for(options.profile, options.users, options.seconds)
    _say(f"Starting Redis, web server and order writer; {stock.total:,} units are for sale …")
    with Shop() as shop:
        opens_in = _gathering_seconds(options, profile) or -60.0
        opens_at = time.monotonic() + opens_in
        sold_before = shop.open_sale(stock, opens_in)
        sold = f"; {stock.sold_before:,} units are sold already" if stock.sold_before else ""
        _say(f"They run at {shop.url}, without the limit per address, as the crowd has but one{sold}.\n")
        try:
            load = _send(options, shop.url, directory, opens_at)
            _say("\nThe order writer finishes, and the audit reads Redis, stream and SQL …")
            return load, sold_before, shop.books()
        finally:
            shop.keep_logs(directory)


def _play_on_host(options: argparse.Namespace, profile: Profile, directory: Path) -> Played:
    shop = ForeignShop(options.host)
    wait_seconds = shop.seconds_to_start()
    if wait_seconds > LONGEST_WAIT_SECONDS:
        sys.exit(f"flashsale: the sale at {shop.url} starts in {wait_seconds / 60:.0f} minutes. Come back then.")
    opens_at = time.monotonic() + wait_seconds
    _say(f"These are real purchases at {shop.url}. Its limit per address holds for the whole crowd, which has but one:")
    _say("answers 429 are no failures, and are counted. Of its Redis and SQL nothing is known.\n")
    time.sleep(max(0.0, wait_seconds - _gathering_seconds(options, profile)))
    load = _send(options, shop.url, directory, opens_at)
    return load, [], shop.books()


def _gathering_seconds(options: argparse.Namespace, profile: Profile) -> float:
    """Return how long before the sale opens locust is started; 0 when the crowd comes to an open sale.

    The last to come wait a while, too, so that nobody still opens connections when the others press.
    """
    arrival = arrival_seconds(profile, options.seconds)
    return LOCUST_STARTS_SECONDS + 1.4 * arrival if profile.gather_seconds else 0.0


def _send(options: argparse.Namespace, url: str, directory: Path, opens_at: float) -> Load:
    """Send the crowd, and tell of it while it is there."""
    every_seconds = max(1.0, options.seconds / LINES_OF_PROGRESS)
    told_seconds, told_answers = 0.0, 0

    def tell(load: Load) -> None:
        nonlocal told_seconds, told_answers
        if load.seconds - told_seconds >= every_seconds:
            per_second = (len(load.answers) - told_answers) / (load.seconds - told_seconds)
            _say(progress(load, opens_at - time.monotonic(), per_second))
            told_seconds, told_answers = load.seconds, len(load.answers)

    directory.mkdir(parents=True)
    _say(PROGRESS)
    return generator.run(options.profile, options.users, options.seconds, url, directory, tell)


def _finish(verdicts: list[Verdict], directory: Path) -> int:
    """Say where the report is, and return the exit status. Answers and logs are kept when something failed."""
    has_failed = any(verdict.held is False for verdict in verdicts)
    if not has_failed:
        for path in directory.iterdir():
            if path.suffix != ".html":
                path.unlink()
    kept = "\nEvery answer, and the logs, are beside it." if has_failed else ""
    _say(f"Report: {directory / 'report.html'}{kept}")
    return 1 if has_failed else 0


def _raise_file_limit(needed: int) -> None:
    """Let this process, and all that it starts, hold so many connections. Stops the process when it may not."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
        return
    sys.exit(f"flashsale: {needed} open files are needed, and {hard} allowed. Raise `ulimit -Hn`, or send fewer USERS.")


def _stop_on_signals() -> None:
    """From now on Ctrl-C, SIGTERM and a closed terminal end the run, and everything that it has started."""

    def stop(number: int, frame: FrameType | None) -> None:
        for other in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(other, signal.SIG_IGN)
        print("\nflashsale: stopped; nothing is proven.", file=sys.stderr)
        raise SystemExit(128 + number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)


def _say(words: str) -> None:
    with suppress(BrokenPipeError):
        print(words, flush=True)


if __name__ == "__main__":
    sys.exit(main())
