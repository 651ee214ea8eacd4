"""Planted bugs: each must be caught by the tests. `make mutants` runs them all, `python -m tests.mutants NAME …` some.

A bug is planted into a copy of the project by replacing text. The tests that should catch it run first; if they do not,
the whole suite does, and if that passes, too, the bug has survived.
"""

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

PROJECT = Path(__file__).resolve().parent.parent
SUITE_SECONDS = 1200


class Mutant(NamedTuple):
    """One bug: `edits` are (file, text, replacement), `tests` the files that should catch it."""

    edits: tuple[tuple[str, str, str], ...]
    tests: str


PURCHASE, PUBLISH, CANCEL = "sales/lua/purchase.lua", "sales/lua/publish.lua", "sales/lua/cancel.lua"
COUNTS = "sales/attempt_counts.py"
ALL_ROWS_DONE = "    done = [row.order_id for row in rows]\n"

MUTANTS = {
    "the owner check comes after the decrement": Mutant(
        (
            (
                PURCHASE,
                "  if purchases[user] then\n",
                "  remaining = remaining - 1\n  redis.call('SET', KEYS[2], remaining)\n  if purchases[user] then\n",
            ),
        ),
        "tests/test_purchase.py",
    ),
    "the stock is off by one": Mutant(
        ((PURCHASE, "if remaining <= 0 then", "if remaining < 0 then"),), "tests/test_purchase.py"
    ),
    "the start is not looked at": Mutant(
        ((PURCHASE, "now_us < config[1] * 1000 and 'not_started'", "false and 'not_started'"),),
        "tests/test_purchase.py",
    ),
    "the end is not looked at": Mutant(
        ((PURCHASE, "now_us >= config[2] * 1000 and 'ended'", "false and 'ended'"),), "tests/test_purchase.py"
    ),
    "a pause is not looked at": Mutant(
        ((PURCHASE, "config[3] == '1' and 'paused'", "false and 'paused'"),), "tests/test_purchase.py"
    ),
    "the app's clock decides": Mutant(
        (
            (PURCHASE, "local now_us = time[1] * 1000000 + time[2]", "local now_us = tonumber(ARGV[4])"),
            (PURCHASE, "KEYS[7] and redis.call('MGET', unpack(KEYS, 7)) or {}", "{}"),
            ("sales/purchases.py", "limit, period_us, *words]", "limit, time.time_ns() // 1000, *words]"),
        ),
        "tests/test_purchase.py",
    ),
    "purchases expire": Mutant(
        (
            (
                PURCHASE,
                "  if #keys_that_bought > 0 then",
                "  redis.call('EXPIRE', KEYS[3], 60)\n  if #keys_that_bought > 0 then",
            ),
        ),
        "tests/test_purchase.py",
    ),
    "a shopper who comes twice in one batch gets two": Mutant(
        (
            (
                PURCHASE,
                "  purchases[user] = order_id .. ' ' .. remaining .. ' ' .. key\n"
                "  claims[#claims + 1] = user\n  claims[#claims + 1] = purchases[user]",
                "  claims[#claims + 1] = user\n  claims[#claims + 1] = order_id .. ' ' .. remaining .. ' ' .. key",
            ),
        ),
        "tests/test_purchase.py",
    ),
    "the limit forgets what came in the same batch": Mutant(
        ((PURCHASE, "    arrivals[key] = arrival_us\n", ""),),
        "tests/test_purchase.py",
    ),
    "a key buys for anybody": Mutant(
        (
            (
                PURCHASE,
                "  if key_bought[key] then return 'idempotency_key_reused', '', remaining end\n  if refusal",
                "  if refusal",
            ),
        ),
        "tests/test_purchase.py",
    ),
    "a new run of Redis is not compared": Mutant(
        ((PURCHASE, "if config[5] ~= ARGV[1] or ARGV[2] ~= '' and ARGV[2] ~= ARGV[1] then", "if false then"),),
        "tests/test_continuity.py",
    ),
    "publishing resets the stock": Mutant(
        ((PUBLISH, "redis.call('SET', KEYS[2], total - sold)", "redis.call('SET', KEYS[2], total)"),),
        "tests/test_publishing.py",
    ),
    "a total below the units sold is taken": Mutant(
        ((PUBLISH, "if total < sold then return {'below_sold', sold} end\n", ""),), "tests/test_publishing.py"
    ),
    "a Redis that lost data is published to": Mutant(
        ((PUBLISH, "or sold < tonumber(ARGV[4]) then return", "and false then return"),), "tests/test_publishing.py"
    ),
    "an operator's step is taken from the sale as it was": Mutant(
        (("sales/desk/steps.py", "        publishing.lock(sale)\n", ""),), "tests/test_desk.py"
    ),
    "a form takes back what others have changed": Mutant(
        (("sales/desk/sale_form.py", "            if _text(saved) == seen[name]:", "            if True:"),),
        "tests/test_admin.py",
    ),
    "a change that Redis did not take is forgotten": Mutant(
        (("sales/desk/steps.py", "        sale.mirror_due = True\n", ""),), "tests/test_desk.py"
    ),
    "a cancelled unit comes back as often as it is asked for": Mutant(
        (
            (CANCEL, "if purchase and purchase:match('^%S+') == order_id then", "if true then"),
            (CANCEL, "purchase:match('^%S+ %S+ (.+)$')", "purchase and purchase:match('^%S+ %S+ (.+)$')"),
            (CANCEL, "math.max(0, config[2] - redis.call('HLEN', KEYS[3]))", "redis.call('GET', KEYS[2]) + freed"),
        ),
        "tests/test_cancelling.py",
    ),
    "a cancellation takes out whatever its shopper has": Mutant(
        ((CANCEL, "if purchase and purchase:match('^%S+') == order_id then", "if purchase then"),),
        "tests/test_cancelling.py",
    ),
    "a cancellation that Redis did not take is forgotten": Mutant(
        (
            (
                "sales/cancelling.py",
                "order.may_buy_again, order.cancellation_due = may_buy_again, True",
                "order.may_buy_again = may_buy_again",
            ),
        ),
        "tests/test_cancelling.py",
    ),
    "a cancelled purchase stands in for a lost one": Mutant(
        (("sales/continuity.py", "            cancelling.enforce_all(sale, sale.epoch)\n", "            pass\n"),),
        "tests/test_cancelling.py",
    ),
    "restoring gives back what is cancelled meanwhile": Mutant(
        (
            (
                "sales/restoring.py",
                '        cancelled = cancelling.enforce_all(sale, epoch="")\n',
                "        cancelled = 0\n",
            ),
        ),
        "tests/test_cancelling.py",
    ),
    "publishing takes a cancellation for a loss": Mutant(
        (("sales/publishing.py", "            sale.valid_orders().count(),\n", "            sale.orders.count(),\n"),),
        "tests/test_cancelling.py",
    ),
    "who may not buy again buys again": Mutant(
        ((PURCHASE, "  if is_barred[user] then return 'order_cancelled', '', remaining end\n", ""),),
        "tests/test_cancelling.py",
    ),
    "an export holds formulas": Mutant(
        (("sales/desk/exports.py", "if cell.startswith(_FORMULA_STARTS) else cell", "if False else cell"),),
        "tests/test_order_admin.py",
    ),
    "entries are acknowledged before the commit": Mutant(
        (
            (
                "sales/orders.py",
                "    with transaction.atomic():\n        reasons |= insert(rows)",
                "    store.client().xack(store.key(sale_id, 'orders'), store.WRITERS, *dict(entries))\n"
                "    with transaction.atomic():\n        reasons |= insert(rows)",
            ),
        ),
        "tests/test_orders.py",
    ),
    "what SQL refused is acknowledged": Mutant(
        (
            (
                "sales/orders.py",
                "    done = [row.order_id for row in rows if (row.order_id, row.user_id) in held]\n",
                ALL_ROWS_DONE,
            ),
        ),
        "tests/test_orders.py",
    ),
    "a dead writer's entries are left": Mutant(
        (
            (
                "sales/orders.py",
                "for sale_id, entries in [*abandoned, *_new(streams, consumer)])",
                "for sale_id, entries in _new(streams, consumer))",
            ),
        ),
        "tests/test_orders.py",
    ),
    "the stream is trimmed by length": Mutant(
        (("sales/orders.py", "minid=boundary", "maxlen=1"),), "tests/test_orders.py"
    ),
    "a shopper may have two orders": Mutant(
        (
            (
                "sales/migrations/0005_order_cancellation.py",
                "fields=('sale', 'user_id'), name='one_order_per_shopper'",
                "fields=('sale', 'user_id', 'order_id'), name='one_order_per_shopper'",
            ),
        ),
        "tests/test_orders.py",
    ),
    "an attempt is sent again when its answer is late": Mutant(
        (
            (
                "sales/store.py",
                "    replies = await _exchange(commands)\n    if missed",
                "    try:\n        replies = await _exchange(commands)\n"
                "    except Unknown:\n        replies = await _exchange(commands)\n    if missed",
            ),
        ),
        "tests/test_redis_failures.py",
    ),
    "a lost answer is told as a refusal": Mutant(
        (
            (
                "sales/store.py",
                'raise Unknown(f"the answer from Redis did not arrive: {error}") from error',
                'raise Unavailable(f"the answer from Redis did not arrive: {error}") from error',
            ),
            ("sales/batcher.py", 'store.Unknown("Redis did not answer in time")', 'store.Unavailable("late")'),
        ),
        "tests/test_redis_failures.py",
    ),
    "every attempt makes a call of its own": Mutant(
        (("sales/batcher.py", "if self._drain_task is None:", "if True:"),), "tests/test_batcher.py"
    ),
    "a batch has no bound": Mutant(
        (("sales/batcher.py", "while waiting and len(batch) < self._largest_batch:", "while waiting:"),),
        "tests/test_batcher.py",
    ),
    "what waits is sent to a Redis that has just failed": Mutant(
        (("sales/batcher.py", "            self._refuse_waiting()\n", ""),), "tests/test_batcher.py"
    ),
    "case makes another shopper": Mutant(
        (("sales/shoppers.py", "normal = trimmed.lower()", "normal = trimmed"),), "tests/test_shoppers.py"
    ),
    "status is older than promised": Mutant(
        (
            ("sales/snapshots.py", "REFRESH_AFTER_SECONDS = 0.1", "REFRESH_AFTER_SECONDS = 2.0"),
            ("sales/snapshots.py", "OLDEST_SECONDS = 0.25", "OLDEST_SECONDS = 5.0"),
        ),
        "tests/test_api.py",
    ),
    "a body has no bound": Mutant(
        (("flashsale/lane.py", "    if len(body) > largest_bytes:\n        raise BodyTooLarge\n", ""),),
        "tests/test_api.py",
    ),
    "a request that breaks off buys": Mutant(
        (
            (
                "flashsale/lane.py",
                '    if message["type"] == "http.disconnect":\n        raise ClientGone\n',
                "",
            ),
        ),
        "tests/test_lane.py",
    ),
    "another site may buy": Mutant(
        (
            ("sales/origins.py", "        return True\n", "        return False\n"),
            ("sales/origins.py", "origin is not None and", "False and"),
        ),
        "tests/test_api.py",
    ),
    "Redis syncs once a second": Mutant(
        (("flashsale/embedded_redis.py", '"appendfsync": "always"', '"appendfsync": "everysec"'),),
        "tests/test_continuity.py",
    ),
    "restoring forgets the keys": Mutant(
        (
            (
                "sales/restoring.py",
                "        if order.key_digest:\n            pipeline.sadd",
                "        if False:\n            pipeline.sadd",
            ),
        ),
        "tests/test_continuity.py",
    ),
    "restoring lets order numbers start again": Mutant(
        (("sales/restoring.py", "    if newest and ", "    if False and "),), "tests/test_continuity.py"
    ),
    "the page asks again with another key": Mutant(
        (("static/sales/attempts.js", '"Idempotency-Key": key', '"Idempotency-Key": newKey()'),),
        "tests/test_browser_trouble.py",
    ),
    "the page takes a double press for two": Mutant(
        (("static/sales/sale.js", 'shown.isBusy || shown.status !== "active") return', "false) return"),),
        "tests/test_browser_trouble.py",
    ),
    "the shopper's clock drives the countdown": Mutant(
        (("static/sales/clock.js", "() => performance.now() + ahead", "() => Date.now()"),),
        "tests/test_browser_time.py",
    ),
    "the page takes an old time from the browser's cache": Mutant(
        (("static/sales/polling.js", 'cache: "no-store"', 'cache: "no-cache"'),), "tests/test_browser_time.py"
    ),
    "the audit does not look at SQL": Mutant(
        (("sales/audit.py", "    _check_orders(sale, newest, purchases, result)\n", ""),), "tests/test_audit.py"
    ),
    "a receipt's signature is not compared": Mutant(
        (("sales/receipts.py", "compare_digest(signature, _signature(named, secret))", "True"),),
        "tests/test_receipts.py",
    ),
    "an order that is just being written has no receipt": Mutant(
        (
            (
                "sales/receipts.py",
                "_in_stream(sale_id, order_id) or _in_sql(sale_id, order_id)",
                "_in_stream(sale_id, order_id)",
            ),
        ),
        "tests/test_receipts.py",
    ),
    "anybody may look for orders without limit": Mutant(
        (("sales/formlimits.py", 'if usage and usage["should_limit"] else 0', "if False else 0"),),
        "tests/test_find_order.py",
    ),
    "a picture tells where it was taken": Mutant(
        (("sales/pictures.py", "quality=QUALITY)", 'quality=QUALITY, exif=image.info.get("exif", b""))'),),
        "tests/test_pictures.py",
    ),
    "a count leaves Redis before SQL has it": Mutant(
        (
            (
                COUNTS,
                "        with transaction.atomic():\n            if _is_there(sale_id):\n                AttemptCount",
                "        store.client().hdel(key, *(field for field, _ in page))\n"
                "        with transaction.atomic():\n            if _is_there(sale_id):\n                AttemptCount",
            ),
        ),
        "tests/test_attempt_counts.py",
    ),
    "a count that is in Redis and SQL is shown twice": Mutant(
        ((COUNTS, "counts |= {(count.second, count.worker)", "counts |= {(count.second, f'{count.worker} ')"),),
        "tests/test_attempt_counts.py",
    ),
    "a second that Redis did not take is forgotten": Mutant(
        (("sales/attempts.py", "for second in seconds if reply == 1 else ():", "for second in seconds:"),),
        "tests/test_attempts.py",
    ),
    "a second is written while it is still counted": Mutant(
        (("sales/attempts.py", "        self.second = max(self.second, until)\n", ""),), "tests/test_attempts.py"
    ),
    "the last second of a worker is not told": Mutant(
        (("sales/attempts.py", "await counting.write(counting.second + 1)", "pass"),), "tests/test_attempts.py"
    ),
    "what waits for the order writer is taken for drift": Mutant(
        (("sales/live.py", "sold - backlog if group", "sold if group"),), "tests/test_live.py"
    ),
    "a time to answer is counted one bucket too low": Mutant(
        (("sales/histogram.py", "histogram[bucket] += longer", "histogram[bucket - 1] += longer"),),
        "tests/test_attempts.py",
    ),
    "a small file may become an enormous picture": Mutant(
        (("sales/pictures.py", "if width * height > MOST_PIXELS", "if False"),), "tests/test_pictures.py"
    ),
    "a session without the code of its second factor is let in": Mutant(
        (("sales/desk/site.py", " and second_factor.is_satisfied(request)", ""),), "tests/test_second_factor.py"
    ),
}


def is_caught(mutant: Mutant) -> bool:
    with tempfile.TemporaryDirectory(prefix="flashsale-mutant-") as directory:
        copy = Path(directory) / "project"
        ignored = shutil.ignore_patterns(".git", ".venv", ".env", "var", "__pycache__", ".*_cache", ".hypothesis")
        shutil.copytree(PROJECT, copy, ignore=ignored)
        for name, text, replacement in mutant.edits:
            source = (copy / name).read_text()
            assert source.count(text) == 1, f"{name} holds this {source.count(text)} times, not once: {text!r}"
            (copy / name).write_text(source.replace(text, replacement))
        return any(_fails(copy, tests) for tests in (mutant.tests.split(), ["tests"]))


def _fails(copy: Path, tests: list[str]) -> bool:
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    result = subprocess.run(command, cwd=copy, capture_output=True, text=True, timeout=SUITE_SECONDS)
    # 1: tests failed. Anything else but 0 says that they did not run.
    assert result.returncode in (0, 1), result.stdout + result.stderr
    return result.returncode == 1


def main(names: list[str]) -> int:
    survivors = []
    for number, name in enumerate(names, 1):
        started = time.monotonic()
        caught = is_caught(MUTANTS[name])
        survivors += [] if caught else [name]
        verdict = "caught" if caught else "SURVIVED"
        print(f"{number:>3}/{len(names)} {verdict:<8} {time.monotonic() - started:5.1f} s  {name}", flush=True)
    print(f"{len(names) - len(survivors)} of {len(names)} planted bugs were caught.")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or list(MUTANTS)))
