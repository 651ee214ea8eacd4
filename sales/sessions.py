"""Sessions in SQL, as Django keeps them, looked up only by what can be a session's key."""

import re

from django.contrib.sessions.backends import db

# As Django makes them.
_KEY = re.compile("[0-9a-z]{32}")


class SessionStore(db.SessionStore):
    def __init__(self, session_key: str | None = None):
        """Open the session of that key. A text in a cookie that Django cannot have made names none."""
        super().__init__(session_key if session_key and _KEY.fullmatch(session_key) else None)
