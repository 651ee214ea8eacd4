"""`python -m tests.fuzz CASES SEED`: send at least CASES cases to a real server, and expect documented answers.

Several rounds, each with a shop of its own whose sale is in another state; then as many cases of `tests.fuzz.wire`,
and a tenth as many of `tests.fuzz.dear`. Exit status 1 when anything was found.
"""

import subprocess
import sys
import time
from itertools import count

from tests.fuzz import schema
from tests.load.profiles import Stock
from tests.load.shop import Shop

# Of each operation, in a round.
EXAMPLES = 500
# How many units there are, and in how many seconds the sale starts. None: nothing is for sale.
SALES: dict[str, tuple[int, float] | None] = {
    "open": (1_000_000, -60.0),
    "soon sold out": (20, -60.0),
    "not started": (100, 86_400.0),
    "none": None,
}


def main(cases: int, seed: int) -> int:
    """Return the exit status."""
    started, sent, judged, failed = time.monotonic(), 0, 0, 0
    for number in count():
        name = list(SALES)[number % len(SALES)]
        found, reason = play(name, min(EXAMPLES, cases), seed + number)
        sent, judged, failed = sent + found.cases, judged + found.judged_by_hooks, failed + bool(reason)
        _say(f"{sent:,}/{cases:,} seed {seed + number}, sale {name}: {reason or 'every answer is as documented'}")
        if sent >= cases or not found.cases:
            break
    seconds = time.monotonic() - started
    _say(f"{sent:,} cases in {seconds:.0f} s, {failed} rounds failed, {judged} names judged by the hooks")
    statuses = [_also("wire", cases, seed), _also("dear", cases // 10, seed)]
    return 1 if failed or any(statuses) else 0


def play(name: str, examples: int, seed: int) -> tuple[schema.Run, str]:
    """Send a round of cases to a shop with this sale; return what came of it, and what is wrong, or ""."""
    with Shop(EMAIL_URL="memory:") as shop:
        sale = SALES[name]
        if sale:
            shop.open_sale(Stock(sale[0]), sale[1])
        found = schema.run(shop.url, examples, seed)
        reasons = [] if found.is_right else [found.output]
        audit = shop.books().audit if sale else None
        if audit and audit["drift"]:
            reasons.append(f"Redis, stream and SQL differ: {audit}")
        reasons += (shop.var_dir / "web.log").read_text().splitlines()  # no client may bring about any
    return found, "\n".join(reasons)


def _also(name: str, cases: int, seed: int) -> int:
    """Run another fuzzer, and return its exit status."""
    return subprocess.run([sys.executable, "-m", f"tests.fuzz.{name}", str(cases), str(seed)]).returncode


def _say(words: str) -> None:
    sys.stdout.write(f"{words}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    match sys.argv[1:]:
        case [cases, seed]:
            sys.exit(main(int(cases), int(seed)))
        case _:
            sys.exit("usage: python -m tests.fuzz CASES SEED")
