"""The Lua scripts."""

import hashlib
from functools import cache
from pathlib import Path

from django.conf import settings


class Script:
    """A script in `sales/lua`, named as its file."""

    def __init__(self, name: str):
        self.text = (Path(settings.BASE_DIR) / "sales" / "lua" / f"{name}.lua").read_text()
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


@cache
def script(name: str) -> Script:
    return Script(name)
