"""What schemathesis must be told of names: Unicode and mail decide more of them than a pattern can say.

Which characters are assigned, how many are left of a name that is normalised, and what an e-mail address is, is not in
`openapi.json`. Good names are made here; and where schema and server disagree on what was sent, the functions that read
names tell who is right.
"""

import json
from typing import Any
from urllib.parse import unquote, urlsplit

import schemathesis
from hypothesis import strategies as st
from schemathesis.core.failures import AcceptedNegativeData, Failure
from schemathesis.openapi.checks import RejectedPositiveData

from sales import email_codes, shoppers

# The contract's (docs/api.md).
LONGEST_IDEMPOTENCY_KEY = 255


def reason_against_name(user_id: object) -> str:
    """Return why this names nobody, in the API's words, or ""."""
    if user_id is None:
        return shoppers.NO_NAME
    try:
        shoppers.normalise(user_id)
    except shoppers.InvalidShopper as error:
        return str(error)
    return ""


def reason_against_email(address: object) -> str:
    """Return why this is no e-mail address, in the API's words, or ""."""
    try:
        email_codes.read_address(address)
    except shoppers.InvalidShopper as error:
        return str(error)
    return ""


def emails() -> st.SearchStrategy[str]:
    """E-mail addresses. Hypothesis's own domains take most of a run's time."""
    label = st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=1, max_size=63)
    top = st.sampled_from(["com", "example", "museum", "xn--p1ai"])
    domain = st.tuples(st.lists(label, min_size=1, max_size=4).map(".".join), top).map(".".join)
    return st.emails(domains=domain)


def names() -> st.SearchStrategy[str]:
    """Names that the API takes. Some are drawn so often that they have bought already; some are as long as can be."""
    visible = st.characters(codec="utf-8", exclude_categories=["C"])
    some = st.one_of(emails(), st.text(visible, min_size=1, max_size=254), st.sampled_from(["ada", "bob", "x" * 254]))
    return some.filter(lambda name: not reason_against_name(name))


schemathesis.openapi.format("user-id", names())
schemathesis.openapi.format("email", emails().filter(lambda address: not reason_against_email(address)))


@schemathesis.hook
def filter_failure(context: Any, failure: Failure, case: Any, response: Any) -> bool:
    """Return whether a failure is one. It is none where all but the name was as the schema says, and the name was
    judged as it should be."""
    if not isinstance(failure, AcceptedNegativeData | RejectedPositiveData):
        return True
    reason, is_right_otherwise = _judge(response.request)
    if isinstance(failure, AcceptedNegativeData):
        return bool(reason) or not is_right_otherwise
    return not reason or response.json().get("message") != reason


def _judge(request: Any) -> tuple[str, bool]:
    """Return why the name in a request is none, or "", and whether all else in it is as the schema says."""
    path = urlsplit(request.url).path
    if request.method != "POST":
        start, _, name = path.partition("/user/")
        return reason_against_name(unquote(name)), start.startswith("/api/sale")
    try:
        body = json.loads(request.body)
    except (TypeError, ValueError):
        return "", False
    if not isinstance(body, dict):
        return "", False
    if path == "/api/shopper/code":
        return reason_against_email(body.get("email")), True
    if path == "/api/shopper/token":
        return reason_against_email(body.get("email")), isinstance(body.get("code"), str)
    is_right = len(request.headers.get("Idempotency-Key", "")) <= LONGEST_IDEMPOTENCY_KEY
    return reason_against_name(body.get("userId")), is_right  # who is named by a token alone was not refused
