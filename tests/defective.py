"""An application whose purchase script has a defect, named by DEFECT; test_rehearsal.py serves it."""

import hashlib
import os

from sales import store

DEFECTS = {
    "oversells": ("if remaining <= 0 then", "if remaining <= -3 then"),
    "sells_twice": ("if purchases[user] then", "if purchases[user] and key_bought[key] then"),
    "undersells": ("if remaining <= 0 then", "if remaining <= 2 then"),
    "forgets_the_stream": ("redis.call('XADD', KEYS[5],", "redis.call('XADD', KEYS[5] .. 'lost',"),
}

right, wrong = DEFECTS[os.environ["DEFECT"]]
script = store.script("purchase")
assert right in script.text
script.text = script.text.replace(right, wrong)
script.sha = hashlib.sha1(script.text.encode(), usedforsecurity=False).hexdigest()

from flashsale.asgi import application  # noqa: E402 (the defect comes first)

__all__ = ["application"]
