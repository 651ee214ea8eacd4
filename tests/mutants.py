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
ARCHIVE = "sales/lua/archive.lua"
COUNTS = "sales/attempt_counts.py"
INVITED_TESTS = "tests/test_invited_mirror.py"
PROTOCOL, FRAMING = "flashsale/protocol.py", "flashsale/framing.py"
STALLS = "flashsale/stalls.py"
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
            (PURCHASE, "KEYS[9] and call('MGET', unpack(KEYS, 9)) or {}", "{}"),
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
        ((PURCHASE, "    arrivals[key] = now_us + step_us\n", ""),), "tests/test_shopper_limit.py"
    ),
    "the limit refuses who is exactly in time": Mutant(
        ((PURCHASE, "if spare_us < 0 then", "if spare_us <= 0 then"),), "tests/test_shopper_limit.py"
    ),
    "a shopper who waits as told comes too early": Mutant(
        ((PURCHASE, "wait_ms[i] = ceil(-spare_us / 1000)", "wait_ms[i] = floor(-spare_us / 1000)"),),
        "tests/test_shopper_limit.py",
    ),
    "the limit allows one more": Mutant(
        ((PURCHASE, "local spare_us = (limit - 1) * step_us", "local spare_us = limit * step_us"),),
        "tests/test_shopper_limit.py",
    ),
    "a client chooses its address": Mutant(
        (("sales/addresses.py", "        if not _is_trusted(address):\n            break\n", ""),),
        "tests/test_address_guard.py tests/test_limits.py",
    ),
    "a key buys for anybody": Mutant(
        (
            (
                PURCHASE,
                "  if key_bought[key] then return 'idempotency_key_reused', '', remaining end\n  if is_barred",
                "  if is_barred",
            ),
        ),
        "tests/test_purchase.py",
    ),
    "a new run of Redis is not compared": Mutant(
        ((PURCHASE, "if config[5] ~= ARGV[1] or ARGV[2] ~= '' and ARGV[2] ~= ARGV[1] then", "if false then"),),
        "tests/test_continuity.py",
    ),
    "who is not invited buys": Mutant(
        ((PURCHASE, "  if is_stranger[user] then return 'not_invited', '', remaining end\n", ""),), INVITED_TESTS
    ),
    "a list that is not whole turns people away": Mutant(
        ((PURCHASE, " or tonumber(count) ~= redis.call('SCARD', KEYS[7])", ""),), INVITED_TESTS
    ),
    "a list of mailboxes is asked for names": Mutant(((PURCHASE, " or one_mailbox ~= config[9]", ""),), INVITED_TESTS),
    "an older copy's list of invited shoppers is in force": Mutant(
        (("sales/continuity.py", "    invited_mirror.follow(sale, trusts_redis=False)\n", ""),),
        INVITED_TESTS,
    ),
    "a list from before the sale was open for a while is in force": Mutant(
        (("sales/invited_mirror.py", "        store.client().delete(note)\n    elif", "        pass\n    elif"),),
        INVITED_TESTS,
    ),
    "part of a list is put in force": Mutant(
        (("sales/lua/enforce_invited.lua", " or count ~= tonumber(ARGV[2])", ""),), INVITED_TESTS
    ),
    "a list that broke off is in force": Mutant(
        (("sales/invitations.py", "    number = _begin(sale)\n", "    number = sale.list_number\n"),),
        "tests/test_invitations.py",
    ),
    "a quotation mark that does not end hides the rest of a list": Mutant(
        (("sales/csv_lines.py", "strict=True", "strict=False"),), "tests/test_invitation_files.py"
    ),
    "an address that can never match is on the list": Mutant(
        (("sales/invitation_files.py", "            email_codes.read_address(name)\n", "            pass\n"),),
        "tests/test_invitation_files.py",
    ),
    "names on a list that are no addresses are passed over in silence": Mutant(
        (("sales/desk/invitations_page.py", "        if form.remark:\n", "        if False:\n"),),
        "tests/test_invitations_page.py",
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
        (("sales/csv_lines.py", """return f"'{cell}" if _FORMULA.match(cell) else cell""", "return cell"),),
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
                "pages += _new(streams, consumer)",
                "pages = _new(streams, consumer)",
            ),
        ),
        "tests/test_orders.py",
    ),
    "the stream is trimmed by length": Mutant(
        (("sales/lua/tidy.lua", "'MINID', '~', boundary", "'MAXLEN', 1"),), "tests/test_orders.py"
    ),
    "a writer is forgotten with what it was given": Mutant(
        (("sales/lua/tidy.lua", "writer.pending == 0 and ", ""),), "tests/test_orders.py"
    ),
    "a sale is opened without what was restored": Mutant(
        (("sales/lua/reopen.lua", "if sold < tonumber(ARGV[2]) then", "if false then"),), "tests/test_continuity.py"
    ),
    "what is written is read back in an order": Mutant(
        (("sales/orders.py", "for row in rows]).order_by()", "for row in rows])"),), "tests/test_query_costs.py"
    ),
    "a worker objects only where it is asked": Mutant(
        (("sales/closures.py", "            self._start(_object(sale_id))\n", ""),), "tests/test_closures.py"
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
                "sales/store/lane.py",
                "    replies, _ = await exchange(commands)\n    if missed",
                "    try:\n        replies, _ = await exchange(commands)\n"
                "    except Failure:\n        replies, _ = await exchange(commands)\n    if missed",
            ),
        ),
        "tests/test_redis_failures.py",
    ),
    "a lost answer is told as a refusal": Mutant(
        (
            (
                "sales/store/server.py",
                'raise Unknown(f"the answer from Redis did not arrive: {error}") from error',
                'raise Unavailable(f"the answer from Redis did not arrive: {error}") from error',
            ),
            ("sales/batcher.py", 'store.Unknown("Redis did not answer in time")', 'store.Unavailable("late")'),
        ),
        "tests/test_redis_failures.py",
    ),
    "a server of a cluster that fails takes the others with it": Mutant(
        (
            (
                "sales/store/cluster.py",
                "self._learn_soon()  # another one may be the master by now",
                "raise",
            ),
        ),
        "tests/test_cluster.py",
    ),
    "what a server sends on stays where it is": Mutant(
        (("sales/store/cluster.py", "MOST_HOPS = 5", "MOST_HOPS = 1"),), "tests/test_cluster.py"
    ),
    "a replica that takes over is not compared with SQL": Mutant(
        (
            (
                "sales/continuity.py",
                "        for sale_id, reason in reasons.items():\n            if reason:\n",
                "        for sale_id in reasons:\n            reasons[sale_id] = reason = ''\n            if reason:\n",
            ),
        ),
        "tests/test_sentinel.py",
    ),
    "a worker remembers only what it has sold itself": Mutant(
        (
            (
                "sales/purchases.py",
                "        answered[order_id] = attempt.user_id, number, key_digest\n",
                "        if outcome == b'purchased':\n"
                "            answered[order_id] = attempt.user_id, number, key_digest\n",
            ),
        ),
        "tests/test_acknowledged.py",
    ),
    "another worker's comparison is enough": Mutant(
        (("sales/acknowledged.py", "return not self.answers or ", "return True or "),), "tests/test_acknowledged.py"
    ),
    "what is missing is taken in where there is no unit": Mutant(
        (("sales/missing.py", "elif len(taken) >= free:", "elif False:"),), "tests/test_acknowledged.py"
    ),
    "the order writer forgets what it has written": Mutant(
        (("sales/orders.py", "    if run_id:\n        written.note", "    if False:\n        written.note"),),
        "tests/test_acknowledged.py",
    ),
    "of a server that was compared another one is opened": Mutant(
        (("sales/continuity.py", "if found != run_id:", "if False:"),), "tests/test_continuity.py"
    ),
    "a master that was replaced for a while is believed": Mutant(
        (("sales/store/runs.py", 'if replaced_id.strip("0")', "if False"),), "tests/test_replaced_master.py"
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
    "quotes make another mailbox": Mutant(
        (("sales/email_codes.py", """if '"' in local or "\\\\" in local:""", "if False:"),), "tests/test_email_codes.py"
    ),
    "ß is ss in a domain, which is another owner's": Mutant(
        (
            (
                "sales/shoppers.py",
                "_folded(domain.translate(_KEPT)).translate(_AS_KEPT)",
                "_folded(domain)",
            ),
        ),
        "tests/test_shoppers.py",
    ),
    "runs of marks are not measured": Mutant(
        (("sales/shoppers.py", "    if _MARKS in are_marks:", "    if False:"),), "tests/test_dear_names.py"
    ),
    "a clock that was set back limits for an hour": Mutant(
        ((PURCHASE, " or ahead_us > most_ahead_us then", " then"),), "tests/test_shopper_limit.py"
    ),
    "strangers use up the mails of a mailbox": Mutant(
        (
            (
                "sales/formlimits.py",
                "return min(wait, email_codes.begin_mail(address, is_last=bool(wait)))",
                "return wait",
            ),
        ),
        "tests/test_formlimits.py",
    ),
    "the same dead code is sent again": Mutant(
        (("sales/lua/renew_codes.lua", "redis.call('HSET', KEYS[1], 'typed', ARGV[1], 'tries', 0)", ""),),
        "tests/test_email_codes.py",
    ),
    "to ask again gives new tries": Mutant(
        (
            (
                "sales/lua/renew_codes.lua",
                "redis.call('EXPIRE'",
                "redis.call('HDEL', KEYS[1], 'tries')\nredis.call('EXPIRE'",
            ),
        ),
        "tests/test_email_codes.py",
    ),
    "who asks waits for what the mail server says of the mailbox": Mutant(
        (("sales/mails.py", "    sending.add_done_callback", "    wait([sending])\n    sending.add_done_callback"),),
        "tests/test_mails.py",
    ),
    "a mail that fails takes its room for ever": Mutant(
        (("sales/mails.py", "        _close(connection)\n        _room.release()", "        _close(connection)"),),
        "tests/test_mails.py",
    ),
    "the code is in the log": Mutant(
        (("sales/mails.py", "text = text.replace(secret, HIDDEN)", "pass"),), "tests/test_mails.py"
    ),
    "a browser is who a void key has vouched for": Mutant(
        (("sales/identities.py", "        tokens.read_for(token, sale.id, sale.key_number)\n", ""),),
        "tests/test_enter.py",
    ),
    "status is older than promised": Mutant(
        (
            ("sales/snapshots.py", "REFRESH_AFTER_SECONDS = 0.1", "REFRESH_AFTER_SECONDS = 2.0"),
            ("sales/directory.py", "OLDEST_SECONDS = 0.25", "OLDEST_SECONDS = 5.0"),
        ),
        "tests/test_api.py",
    ),
    "a sale is as old as nobody asks for it": Mutant(
        (("sales/snapshots.py", "min(self.directory.read_at, seen.read_at) if seen else", ""),),
        "tests/test_snapshots.py",
    ),
    "each who guesses an address has Redis read": Mutant(
        (("sales/snapshots.py", " and (is_new or age_seconds < REFRESH_AFTER_SECONDS):", " and is_new:"),),
        "tests/test_snapshots.py",
    ),
    "health does not see that Redis takes no purchase": Mutant(
        (("sales/lua/writable.lua", "#!lua\n", ""),), "tests/test_health.py"
    ),
    "a master that refuses has no successor": Mutant(
        (("sales/store/cluster.py", "if any(map(may_have_successor, answer[0])):", "if False:"),),
        "tests/test_successor.py",
    ),
    "who does not read is never cut off": Mutant(
        ((STALLS, "                cut(transport)\n", "                pass\n"),),
        "tests/test_stalls.py",
    ),
    "a byte now and then is progress": Mutant(
        ((STALLS, "LEAST_BYTES = 1024", "LEAST_BYTES = 1"),), "tests/test_stalls.py"
    ),
    "a slow reader is cut off": Mutant(
        ((STALLS, "if acknowledged - before >= LEAST_BYTES:", "if before < 0:"),), "tests/test_stalls.py"
    ),
    "any number waits for a thread": Mutant(
        (("flashsale/django_threads.py", "if self.held >= self._most:", "if False:"),), "tests/test_django_threads.py"
    ),
    "a thread sends its answer itself": Mutant(
        (
            (
                "flashsale/django_threads.py",
                "        finally:\n            self.held -= 1\n        with answer:\n"
                '            await _send(answer, scope["method"], scope.get(EXCHANGE), send)\n',
                "        with answer:\n"
                '            await _send(answer, scope["method"], scope.get(EXCHANGE), send)\n        self.held -= 1\n',
            ),
        ),
        "tests/test_django_threads.py",
    ),
    "a long answer is written at once": Mutant(
        (
            (
                "flashsale/exchange.py",
                "            if self.flow.write_paused:\n                await self.flow.drain()\n",
                "",
            ),
        ),
        "tests/test_pieces.py",
    ),
    "a body has no bound": Mutant(
        (
            ("flashsale/bodies.py", "    if len(body) > LARGEST_BYTES:\n        raise BodyTooLarge\n", ""),
            ("flashsale/bodies.py", "if len(body) + len(piece) > LARGEST_BYTES:", "if False:"),
        ),
        "tests/test_api.py",
    ),
    "a request that breaks off buys": Mutant(
        (
            (
                "flashsale/bodies.py",
                '                if message["type"] == "http.disconnect":\n                    raise ClientGone\n',
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
                " for order in page if order.key_digest]:",
                " for order in page if False]:",
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
        (("static/sales/news.js", 'isFresh ? "?fresh=1" : ""', '""'),), "tests/test_browser_time.py"
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
    "a name finds an order without its code": Mutant(
        (("sales/receipt_pages.py", "code = None if is_proven else", "code = None if True else"),),
        "tests/test_find_order.py",
    ),
    "a buyer's name gets the receipt from the API": Mutant(
        (("sales/api.py", "    if is_buyer:\n", "    if True:\n"),), "tests/test_api.py"
    ),
    "a buyer's name opens the receipt in the buy form": Mutant(
        (("sales/pages.py", "not is_first and not identities", "False and not identities"),), "tests/test_pages.py"
    ),
    "a code that was told is forgotten with its secret key": Mutant(
        (("sales/order_codes.py", "codes = [stored, *(", "codes = [*("),), "tests/test_order_codes.py"
    ),
    "who asks for the link in advance uses up the buyer's mails": Mutant(
        (("sales/receipt_mails.py", "order is None or not is_allowed()", "not is_allowed() or order is None"),),
        "tests/test_find_order.py",
    ),
    "anybody may look for orders without limit": Mutant(
        (("sales/formlimits.py", 'if usage and usage["should_limit"] else 0', "if False else 0"),),
        "tests/test_find_order.py",
    ),
    "a picture tells where it was taken": Mutant(
        (
            ("sales/pictures.py", "picture_files.bare(upload.read())", "picture_files.Bare(upload.read())"),
            ("sales/pictures.py", "quality=QUALITY)", 'quality=QUALITY, exif=image.info.get("exif", b""))'),
        ),
        "tests/test_pictures.py",
    ),
    "a grey of sixteen bits becomes white": Mutant(
        (("sales/pictures.py", 'if image.mode == "I;16":', "if False:"),), "tests/test_picture_files.py"
    ),
    "a thousand units become one": Mutant(
        (("sales/numbers.py", "if len(fraction) == 3:", "if False:"),), "tests/test_desk_forms.py"
    ),
    "a time that comes twice is guessed": Mutant(
        (("sales/moments.py", "if first.utcoffset() == second.utcoffset():", "if True:"),), "tests/test_moments.py"
    ),
    "an untouched time changes": Mutant(
        (("sales/desk/fields.py", "moment for moment in self.known if", "moment for moment in () if"),),
        "tests/test_desk_forms.py",
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
    "an archive lets go of another publication": Mutant(
        ((ARCHIVE, "if held[3] or publication and publication ~= ARGV[1] then", "if held[3] then"),),
        "tests/test_archiving.py",
    ),
    "an archive is let go that SQL does not have whole": Mutant(
        ((ARCHIVE, "if held[1] and redis.call('HLEN', purchases) > tonumber(ARGV[4]) then", "if false then"),),
        "tests/test_archiving_race.py",
    ),
    "a purchase of an archive that is behind is never written": Mutant(
        (("sales/orders.py", "Q(archived_at=None) | Q(mirror_due=True)", "archived_at=None"),),
        "tests/test_archiving_race.py",
    ),
    "an archive is freed while it is given back": Mutant(
        ((ARCHIVE, "if held[3] or publication", "if publication"),), "tests/test_archiving_race.py"
    ),
    "a list that one server does not take keeps the others waiting": Mutant(
        (
            (
                "sales/invited_mirror.py",
                "        except store.Unavailable as reason:\n            failure = reason\n",
                "        except store.Unavailable:\n            raise\n",
            ),
        ),
        INVITED_TESTS,
    ),
    "an archive is freed at once": Mutant(
        (("sales/lua/empty.lua", "\nlocal cursor = '0'\n", "\nlocal cursor, kind = '0', 'none'\n"),),
        "tests/test_archiving_memory.py",
    ),
    "the directory is changed without its lock": Mutant(
        (("sales/directory_mirror.py", "    _lock()\n    found = ", "    found = "),), "tests/test_postgresql.py"
    ),
    "the directory is not compared with SQL": Mutant(
        (("sales/management/commands/write_orders.py", "directory_mirror.catch_up, ", ""),),
        "tests/test_directory_mirror.py",
    ),
    "nobody frees what who archived left": Mutant(
        (("sales/publishing.py", "        if sale.mirror_due and not is_due:\n", "        if sale.mirror_due:\n"),),
        "tests/test_archiving_memory.py",
    ),
    "an archive is let go and freed in one step": Mutant(
        ((ARCHIVE, "redis.call('RENAMENX', KEYS[i], KEYS[i + large])", "redis.call('UNLINK', KEYS[i])"),),
        "tests/test_archiving_memory.py",
    ),
    "what Redis has let go of is looked up there": Mutant(
        (
            (
                "sales/purchases.py",
                "    if archived.reply:\n",
                "    if False:\n",
            ),
        ),
        "tests/test_archiving.py",
    ),
    "an end is believed that Redis does not know": Mutant(
        (("sales/archiving.py", ' or int(standing.config["ends_ms"]) > to_ms(standing.read_at)', ""),),
        "tests/test_archiving.py",
    ),
    "an archive that SQL does not know is believed": Mutant(
        (
            ("sales/archives.py", ' if configs[sale_id]["archived"] == epoch]', "]"),
            ("sales/archives.py", "pk__in=configs, archived_at__isnull=False", "pk__in=configs"),
        ),
        "tests/test_archiving.py",
    ),
    "what changed while a sale was compared is archived unseen": Mutant(
        (
            (
                "sales/archiving.py",
                "if (sale.epoch, sale.ends_at) != proven or standing.sold",
                "if False and standing.sold",
            ),
        ),
        "tests/test_archiving_race.py",
    ),
    "a crowd in one sale goes before all others": Mutant(
        (("sales/purchases.py", "LARGEST_BATCH, _count, _sale_of)", "LARGEST_BATCH, _count)"),),
        "tests/test_many_sales.py",
    ),
    "codings in front of chunked are left undone": Mutant(
        ((FRAMING, 'codings != [b"chunked"]', 'codings[-1][-7:] != b"chunked"'),), "tests/test_framing.py"
    ),
    "a target may name another host": Mutant(
        ((FRAMING, "or hosts != [authority.lower()]", ""),), "tests/test_framing.py"
    ),
    "trailers are headers": Mutant(
        ((PROTOCOL, "            self.headers = framing.Trailers()\n", ""),), "tests/test_framing.py"
    ),
    "what cannot be read is answered before what came first": Mutant(
        ((PROTOCOL, "elif latest and not latest.response_complete and not is_part:", "elif False:"),),
        "tests/test_framing.py",
    ),
    "a request whose rest cannot be read is decided": Mutant(
        ((PROTOCOL, "        is_part = latest and latest.more_body\n", "        is_part = False\n"),),
        "tests/test_framing.py",
    ),
    "a head that comes in pieces has no bound": Mutant(
        ((PROTOCOL, "        self._framing_bytes += len(data)\n", ""),), "tests/test_framing.py"
    ),
    "a head that comes in one piece has no bound": Mutant(
        ((PROTOCOL, "        if self._framing_bytes or len(headers) > MOST_HEADERS:\n", "        if False:\n"),),
        "tests/test_framing.py",
    ),
    "a packet is parsed to its end": Mutant(
        ((PROTOCOL, "PARSED_BYTES = 2 * 1024", "PARSED_BYTES = 1024 * 1024"),), "tests/test_dear_input.py"
    ),
    "a head may take its time": Mutant(
        (("flashsale/closing.py", "        if not self._head_since:\n", "        if False:\n"),),
        "tests/test_framing.py",
    ),
    "a stranger's body is kept however large": Mutant(
        (
            (
                PROTOCOL,
                " or (len(exchange.body) > bodies.LARGEST_BYTES and not exchange.may_be_large)",
                "",
            ),
        ),
        "tests/test_held_memory.py",
    ),
    "who says that they have signed in is believed": Mutant(
        (
            (
                "sales/desk/proof.py",
                '    return key if any(compare_digest(given, _made(key, secret)) for secret in secrets) else ""\n',
                "    return key\n",
            ),
            ("flashsale/uploads.py", "return SESSION_KEY in SessionStore(session_key).load()", "return True"),
        ),
        "tests/test_invitations_page.py",
    ),
    "no body makes room for another": Mutant(
        (("flashsale/bodies.py", "            if oldest is self:\n", "            if True:\n"),),
        "tests/test_held_memory.py",
    ),
    "an answer to a form is rendered for each": Mutant(
        (("sales/pages.py", "@lru_cache(maxsize=rendering.MOST_PAGES)\n", "@lru_cache(maxsize=0)\n"),),
        "tests/test_dear_input.py",
    ),
    "who has nothing more to send hears nothing": Mutant(
        (
            (
                PROTOCOL,
                "        return bool(self._running and not self._running.response_complete)\n",
                "        return False\n",
            ),
        ),
        "tests/test_framing.py",
    ),
    "a repeated press is done again": Mutant(
        (("sales/presses.py", "time.time(), nx=True, ex", "time.time(), ex"),), "tests/test_presses.py"
    ),
    "another session may use a form's token": Mutant(
        (("sales/presses.py", 'value = f"{nonce.hex()} {owner}"', 'value = f"{nonce.hex()}"'),), "tests/test_presses.py"
    ),
    "a kept answer is given to anybody who has the token": Mutant(
        (("sales/presses.py", "if not marks & set(kept_marks)", "if not kept_marks"),), "tests/test_presses.py"
    ),
    "a repeat gets the first answer without its cookies": Mutant(
        (("sales/presses.py", "for name, cookie in response.cookies.items()]", "for name, cookie in ()]"),),
        "tests/test_presses.py",
    ),
    "a press that broke off is done again": Mutant(
        (("sales/presses.py", 'LOST_AFTER_SECONDS else "lost"', 'LOST_AFTER_SECONDS else "first"'),),
        "tests/test_presses.py",
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
