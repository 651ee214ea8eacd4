"""What must be true of what the crowd was told, and of what the seller holds afterwards. All functions are pure."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

from tests.load.answers import Answer

NO_BOOKS = "needs the server's own Redis and SQL"
EXAMPLES = 3

TOLD_OF_A_UNIT = frozenset({"purchased", "already_purchased"})
NOT_TOLD = frozenset({"broken", "cut", "unknown", "server_error"})


# A shopper and an order_id.
Order = tuple[str, str]


@dataclass(frozen=True)
class Books:
    """What the seller says after the run. The last three are known of a server of our own only.

    `orders`: each order in SQL. `audit`: what `audit_sale --json` printed. `backlog`: purchases that the order writer
    had not written in time.
    """

    total_stock: int
    remaining_stock: int
    starts_ms: int
    orders: frozenset[Order] | None = None
    audit: dict[str, Any] | None = None
    backlog: int = 0


class Verdict(NamedTuple):
    """One invariant. `held` is None when it could not be checked; `words` say what was seen, or why not."""

    name: str
    held: bool | None
    words: str


Rule = Callable[[Sequence[Answer], Books], Verdict]


def check(answers: Sequence[Answer], books: Books) -> list[Verdict]:
    """Return one verdict for each invariant."""
    return [rule(answers, books) for rule in RULES]


def no_oversell(answers: Sequence[Answer], books: Books) -> Verdict:
    """No more units were promised than there are, and Redis's sums agree."""
    name, told, total = "no oversell", _told(answers), books.total_stock
    words = f"{len(told):,} units acknowledged of {total:,}"
    is_right = len(told | (books.orders or set())) <= total and books.remaining_stock >= 0
    if books.audit:
        sold = books.audit["purchases"]
        words += f"; Redis holds {sold:,} purchases and {books.remaining_stock:,} units"
        is_right = is_right and sold + books.remaining_stock == total
    return Verdict(name, is_right, words)


def no_undersell(answers: Sequence[Answer], books: Books) -> Verdict:
    """Nobody heard `sold_out` while a unit was free: none is left, and none was sold to a later attempt."""
    name, refused = "no undersell", [answer for answer in answers if answer.code == "sold_out" and _is_attempt(answer)]
    if not refused:
        return Verdict(name, None, "nobody heard sold_out")
    words = f"sold_out was told {len(refused):,} times, and {books.remaining_stock:,} units are left"
    first_refusal = min(answer.ended for answer in refused)
    later = [answer for answer in answers if _is_win(answer) and answer.began > first_refusal]
    if later:
        words += f"; {len(later)} attempts won that began after the first sold_out{_examples(later)}"
    return Verdict(name, not later and books.remaining_stock <= 0, words)


def one_per_shopper(answers: Sequence[Answer], books: Books) -> Verdict:
    """Nobody was given two orders or won twice, and no order went to two."""
    orders, shoppers, wins = defaultdict(set), defaultdict(set), Counter[str]()
    for user_id, order_id in [*_told(answers), *(books.orders or ())]:
        orders[user_id].add(order_id)
        shoppers[order_id].add(user_id)
    wins.update(answer.user_id for answer in answers if _is_win(answer))
    twice = {user for user, held in orders.items() if len(held) > 1} | {user for user, won in wins.items() if won > 1}
    shared = [order_id for order_id, held in shoppers.items() if len(held) > 1]
    words = f"{len(orders):,} shoppers, {len(shoppers):,} orders"
    if twice:
        words += f"; {len(twice):,} shoppers won twice{_examples(twice)}"
    if shared:
        words += f"; {len(shared):,} orders have two shoppers{_examples(shared)}"
    return Verdict("one unit per shopper", not twice and not shared, words)


def none_before_start(answers: Sequence[Answer], books: Books) -> Verdict:
    """Nobody bought before the sale started, by the clock that gave out the orders."""
    early = [pair for pair in _told(answers) | (books.orders or set()) if _ms(pair[1]) < books.starts_ms]
    words = f"{len(early)} orders before the start{_examples(early)}"
    attempts = sum(answer.code == "not_started" for answer in answers)
    return Verdict("nothing sold before the start", not early, f"{words}; not_started was told {attempts:,} times")


def none_lost(answers: Sequence[Answer], books: Books) -> Verdict:
    """SQL holds each order that was acknowledged, and no order that nobody was told of."""
    name = "acknowledged = orders in SQL"
    if books.orders is None:
        return Verdict(name, None, NO_BOOKS)
    told = _told(answers)
    lost = told - books.orders
    uncertain = {answer.user_id for answer in answers if answer.asked == "purchase" and answer.code in NOT_TOLD}
    untold = [pair for pair in books.orders - told if pair[0] not in uncertain]
    words = f"{len(books.orders):,} orders, {len(told):,} acknowledged"
    if lost:
        words += f"; {len(lost):,} are lost{_examples(lost)}"
    if untold:
        words += f"; {len(untold):,} were told to nobody{_examples(untold)}"
    return Verdict(name, not lost and not untold, words)


def no_drift(answers: Sequence[Answer], books: Books) -> Verdict:
    """Redis, stream and SQL agree."""
    name, audit = "no drift", books.audit
    if audit is None:
        return Verdict(name, None, NO_BOOKS)
    words = f"audit_sale: {audit['purchases']:,} purchases, {audit['orders']:,} orders"
    if audit["drift"]:
        words += f"; {audit['drift']}"
    if books.backlog:
        words += f"; the order writer is {books.backlog} behind"
    return Verdict(name, not audit["drift"] and not books.backlog, words)


def lookups_agree(answers: Sequence[Answer], books: Books) -> Verdict:
    """Whoever looked up whether they have bought saw what they had been told."""
    attempts = defaultdict(list)
    for answer in answers:
        if answer.asked == "purchase":
            attempts[answer.user_id].append(answer)
    lookups = [answer for answer in answers if answer.asked == "user" and answer.status == 200]
    wrong = [lookup for lookup in lookups if not _agrees(lookup, attempts[lookup.user_id])]
    words = f"{len(lookups):,} looked up, {len(wrong):,} saw something else than they were told{_examples(wrong)}"
    return Verdict("what shoppers look up agrees", not wrong, words)


def _agrees(lookup: Answer, attempts: list[Answer]) -> bool:
    told = [answer for answer in attempts if answer.code in TOLD_OF_A_UNIT]
    if lookup.code == "has_not_purchased":
        return not any(answer.ended <= lookup.began for answer in told)
    if told:
        return any(answer.purchase_time == lookup.purchase_time and answer.began <= lookup.ended for answer in told)
    return any(answer.code in NOT_TOLD and answer.began <= lookup.ended for answer in attempts)


def contract_kept(answers: Sequence[Answer], books: Books) -> Verdict:
    """Every answer is one that docs/api.md has for its request."""
    wrong = [answer for answer in answers if answer.wrong and 0 < answer.status < 500]
    words = f"{len(wrong):,} of {len(answers):,} answers are not in docs/api.md{_examples(wrong)}"
    return Verdict("every answer is in the contract", not wrong, words)


def no_server_errors(answers: Sequence[Answer], books: Books) -> Verdict:
    """Nothing broke: in a healthy run a 503 is a failure, too."""
    errors = Counter(f"{answer.status} {answer.code}" for answer in answers if answer.status >= 500)
    kinds = ", ".join(f"{kind}: {count:,}" for kind, count in errors.most_common())
    return Verdict("no 5xx", not errors, f"{errors.total():,} answers{': ' * bool(kinds)}{kinds}")


def all_answered(answers: Sequence[Answer], books: Books) -> Verdict:
    """No connection broke or timed out. What the end of the run has cut is not counted."""
    broken = [answer for answer in answers if answer.code == "broken"]
    return Verdict("every request answered", not broken, f"{len(broken):,} got no answer{_examples(broken)}")


RULES: Sequence[Rule] = (
    no_oversell,
    no_undersell,
    one_per_shopper,
    none_before_start,
    none_lost,
    no_drift,
    lookups_agree,
    contract_kept,
    no_server_errors,
    all_answered,
)


def crowd_came(exit_status: int | None, answers: Sequence[Answer]) -> Verdict:
    """Shoppers pressed, and locust ended by itself. It exits with 1 after any failure, which has its own verdict."""
    attempts = [answer for answer in answers if _is_attempt(answer) and answer.status]
    pressed = {answer.user_id for answer in attempts if answer.who == "shopper"}
    has_failures = any(answer.wrong for answer in answers)
    is_right = bool(pressed) and (exit_status == 0 or (exit_status == 1 and has_failures))
    end = "was still running, and was killed" if exit_status is None else f"ended with exit status {exit_status}"
    return Verdict("the crowd came", is_right, f"{len(pressed):,} shoppers pressed; locust {end}")


def _is_attempt(answer: Answer) -> bool:
    return answer.asked == "purchase"


def _is_win(answer: Answer) -> bool:
    return _is_attempt(answer) and answer.code == "purchased" and not answer.is_replay


def _told(answers: Iterable[Answer]) -> set[Order]:
    """Return shopper and order_id of all that were told of a unit."""
    return {(answer.user_id, answer.order_id) for answer in answers if answer.order_id}


def _ms(order_id: str) -> int:
    return int(order_id.partition("-")[0])


def _examples(things: Iterable[Answer | Order | str]) -> str:
    words = [_example(thing) for thing in islice(things, EXAMPLES)]
    return f" ({'; '.join(words)})" if words else ""


def _example(thing: Answer | Order | str) -> str:
    if isinstance(thing, Answer):
        return f"{thing.user_id or thing.asked}: {thing.wrong or thing.code}"
    return thing if isinstance(thing, str) else " ".join(thing)
