"""The ways in which a crowd comes. The locustfile reads them, and so does what starts it."""

from typing import NamedTuple

# Less is over before everybody has come and gone.
SHORTEST_SECONDS, LONGEST_SECONDS = 10, 4 * 3600
MOST_USERS = 20_000


class Profile(NamedTuple):
    """One way: how many come, and for how many seconds at the most, unless `make load` is told otherwise.

    `gather_seconds`: they arrive that long before the sale opens; 0 when it is open already.
    `press_within_seconds`: how long after the start the last of them presses. `reads_seconds`: how long one at the most
    reads the answer, before looking again.
    `bots`: how many of them are bots, as a share. `replays`: how many of the winners press again, likewise.
    `stays`: whether a new shopper comes for each one that leaves, until the time is over.
    """

    words: str
    users: int
    seconds: float
    gather_seconds: float
    press_within_seconds: float
    reads_seconds: float
    bots: float
    replays: float
    stays: bool


PROFILES = {
    "rush": Profile(
        words="shoppers gather before the start, and press within two seconds of it",
        users=1000,
        seconds=40,
        gather_seconds=8,
        press_within_seconds=2,
        reads_seconds=2,
        bots=0.05,
        replays=0.2,
        stays=False,
    ),
    "stampede": Profile(
        words="shoppers gather before the start, and press in its first second",
        users=5000,
        seconds=90,
        gather_seconds=16,
        press_within_seconds=1,
        reads_seconds=6,
        bots=0.02,
        replays=0.1,
        stays=False,
    ),
    "tail": Profile(
        words="most units are sold; shoppers keep coming, hear sold_out, and winners press again",
        users=300,
        seconds=25,
        gather_seconds=0,
        press_within_seconds=1,
        reads_seconds=2,
        bots=0.1,
        replays=0.8,
        stays=True,
    ),
    "soak": Profile(
        words="a few shoppers at a time, for long",
        users=50,
        seconds=600,
        gather_seconds=0,
        press_within_seconds=2,
        reads_seconds=2,
        bots=0.1,
        replays=0.3,
        stays=True,
    ),
}

# From coming to leaving, of a shopper of a profile that stays. Measured.
_VISIT_SECONDS = 5.0


class Stock(NamedTuple):
    """How many units a sale has, and how many of them are sold before the crowd comes."""

    total: int
    sold_before: int = 0


def stock_for(name: str, users: int, seconds: float) -> Stock:
    """Return a stock that leaves winners and losers among so many visitors in so much time."""
    match name:
        case "rush":
            return Stock(max(1, users // 5))
        case "stampede":
            return Stock(max(1, users // 10))
        case "tail":
            left = max(1, users // 2)
            return Stock(300 + left, sold_before=300)
        case _:
            visits = users * seconds / _VISIT_SECONDS
            return Stock(max(1, int(visits * 0.7)))


def arrival_seconds(profile: Profile, seconds: float) -> float:
    """Return within what time a crowd of `profile` arrives, in a run of so many seconds."""
    return min(profile.gather_seconds, seconds * 0.3) or min(4.0, seconds * 0.2)
