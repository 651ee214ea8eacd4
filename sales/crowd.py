"""A simulated crowd: shoppers who all press the button twice, through the web server, as scripts do."""

import asyncio
import secrets
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import httpx

CONNECTIONS = 50
# From the first attempt to the last answer, with all waiting that the limits ask for.
WITHIN_SECONDS = 30.0
ANSWER_WITHIN_SECONDS = 5.0
# Waiting may change these, and they say for how long.
TRY_AGAIN = (429, 503)


class Attempt(NamedTuple):
    """What a shopper was told in the end; `code` is `no_answer` where nothing came that could be read."""

    user_id: str
    code: str
    order_id: str


def send(address: str, host: str, slug: str, shoppers: int) -> list[Attempt]:
    """Let each of `shoppers` attempt twice, all at once, and return what they were told.

    Who is told to wait does so, and repeats with the same Idempotency-Key. `host` is sent as Host, if not empty.
    """
    return asyncio.run(_send(address, host, slug, shoppers))


def find(addresses: Sequence[str], host: str, slug: str) -> str:
    """Return the first of the addresses where a web server has the sale. Raises Refused, with what each said."""
    refusals = []
    for address in addresses:
        try:
            status(address, host, slug)
            return address
        except Refused as refused:
            refusals.append(refused)
    raise Refused(" ".join(refused.reason for refused in refusals), refusals[-1].remedy)


def status(address: str, host: str, slug: str) -> dict[str, Any]:
    """Return the sale's status as the server tells it. Raises Refused, with the reason and what to do."""
    try:
        response = _get_patiently(_url(address, slug, "status"), _headers(host))
        body = response.json()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise Refused(
            f"No web server answers at {address}: {error}.", "Start it, or say where it is: --address."
        ) from None
    except ValueError:
        raise Refused(f"What answers at {address} is no flash sale.", "Say where it is: --address.") from None
    if response.status_code == 404:
        raise Refused(
            f"The web server at {address} does not find the rehearsal.",
            "Let it run this version, with the REDIS_URL and DATABASE_URL that this command has.",
        )
    if response.status_code != 200:
        raise Refused(
            f"The web server at {address} refuses: {body.get('message', response.status_code)}",
            "Mend that, or say where another is: --address.",
        )
    return body


class Refused(Exception):
    """There is nobody to send a crowd to: the reason, and what to do."""

    def __init__(self, reason: str, remedy: str):
        super().__init__(reason, remedy)
        self.reason, self.remedy = reason, remedy


def _get_patiently(url: str, headers: dict[str, str]) -> httpx.Response:
    """Return the answer, after waiting where it says that this may change it."""
    deadline = time.monotonic() + ANSWER_WITHIN_SECONDS
    while True:
        response = httpx.get(url, headers=headers, trust_env=False)
        wait_seconds = float(response.headers.get("Retry-After", 1))
        if response.status_code not in TRY_AGAIN or time.monotonic() + wait_seconds > deadline:
            return response
        time.sleep(wait_seconds)


def _url(address: str, slug: str, name: str) -> str:
    return f"{address}/api/sales/{slug}/{name}"


def _headers(host: str) -> dict[str, str]:
    return {"Host": host} if host else {}


async def _send(address: str, host: str, slug: str, shoppers: int) -> list[Attempt]:
    deadline = time.monotonic() + WITHIN_SECONDS
    # Both attempts of a shopper go side by side, while units are free: a defect could sell to both.
    user_ids = [f"shopper-{number // 2}@rehearsal.invalid" for number in range(2 * shoppers)]
    limits = httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS)
    client = httpx.AsyncClient(headers=_headers(host), limits=limits, timeout=ANSWER_WITHIN_SECONDS, trust_env=False)
    # The client's own queue for connections takes longer than the server.
    turn = asyncio.Semaphore(CONNECTIONS)
    async with client:
        url = _url(address, slug, "purchase")
        return await asyncio.gather(*(_attempt(client, turn, url, user_id, deadline) for user_id in user_ids))


async def _attempt(
    client: httpx.AsyncClient, turn: asyncio.Semaphore, url: str, user_id: str, deadline: float
) -> Attempt:
    headers = {"Idempotency-Key": secrets.token_hex(8)}
    while True:
        async with turn:
            code, order_id, wait_seconds = await _ask(client, url, user_id, headers)
        if wait_seconds is None or time.monotonic() + wait_seconds > deadline:
            return Attempt(user_id, code, order_id)
        await asyncio.sleep(wait_seconds)


async def _ask(
    client: httpx.AsyncClient, url: str, user_id: str, headers: dict[str, str]
) -> tuple[str, str, float | None]:
    """Return the answer's code and order_id, and the seconds after which to ask again; None when it is final."""
    try:
        response = await client.post(url, json={"userId": user_id}, headers=headers)
        body = response.json()
        code, order_id = body["code"], body.get("orderId", "")
    except (httpx.HTTPError, ValueError, KeyError, TypeError):
        return "no_answer", "", 1.0
    if response.status_code not in TRY_AGAIN:
        return code, order_id, None
    return code, order_id, float(response.headers.get("Retry-After", 1))
