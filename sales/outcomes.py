"""What each outcome is in HTTP, and in the JSON API's words. What pages say is in `words`."""

from http import HTTPStatus

HTTP_STATUS = {
    "purchased": HTTPStatus.OK,
    "replayed": HTTPStatus.OK,
    "already_purchased": HTTPStatus.CONFLICT,
    "sold_out": HTTPStatus.CONFLICT,
    "not_started": HTTPStatus.CONFLICT,
    "ended": HTTPStatus.CONFLICT,
    "paused": HTTPStatus.CONFLICT,
    "order_cancelled": HTTPStatus.CONFLICT,
    "invalid_request": HTTPStatus.BAD_REQUEST,
    "unsupported_media_type": HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    "payload_too_large": HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    "target_too_long": HTTPStatus.REQUEST_URI_TOO_LONG,
    "request_timeout": HTTPStatus.REQUEST_TIMEOUT,
    "method_not_allowed": HTTPStatus.METHOD_NOT_ALLOWED,
    "unauthorized": HTTPStatus.UNAUTHORIZED,
    "wrong_code": HTTPStatus.UNAUTHORIZED,
    "forbidden": HTTPStatus.FORBIDDEN,
    "not_invited": HTTPStatus.FORBIDDEN,
    "idempotency_key_reused": HTTPStatus.UNPROCESSABLE_ENTITY,
    "rate_limited": HTTPStatus.TOO_MANY_REQUESTS,
    "too_many_listeners": HTTPStatus.SERVICE_UNAVAILABLE,
    "no_sale": HTTPStatus.NOT_FOUND,
    "unavailable": HTTPStatus.SERVICE_UNAVAILABLE,
    "unknown": HTTPStatus.SERVICE_UNAVAILABLE,
    "server_error": HTTPStatus.INTERNAL_SERVER_ERROR,
}

# How an attempt to buy can end.
OF_ATTEMPTS = (
    *("purchased", "replayed", "already_purchased", "sold_out", "not_started", "ended", "paused", "rate_limited"),
    *("order_cancelled", "not_invited", "idempotency_key_reused", "unavailable", "unknown", "server_error"),
)

# What programs are told in place of the outcome's own word.
CODE = {"replayed": "purchased", "target_too_long": "invalid_request"}

# What happened, and what to do next.
SENTENCE = {
    "purchased": "Purchase successful!",
    "replayed": "Purchase successful!",
    "already_purchased": "You have already purchased this item",
    "sold_out": "Sold out: every unit has been bought.",
    "not_started": "The sale has not started yet. Come back at the start time.",
    "ended": "The sale has ended.",
    "paused": "The sale is paused. Try again in a moment.",
    "order_cancelled": "Your order was cancelled, and you cannot buy in this sale again. Ask the seller why.",
    "invalid_request": 'Send a JSON object like {"userId": "user@example.com"}.',
    "unsupported_media_type": "Send JSON, with the header Content-Type: application/json.",
    "payload_too_large": "The request is too large: send at most 8 KiB.",
    "target_too_long": "The address is too long: at most 4 KiB are read. Leave the rest out.",
    "request_timeout": "The request took too long to arrive. Send it again.",
    "method_not_allowed": "This address does not take that method. The Allow header lists those that it takes.",
    "unauthorized": "This sale is for confirmed shoppers: confirm your e-mail address, and send the token.",
    "wrong_code": "This code is wrong, used, or too old. Check it, or ask for another one at /api/shopper/code.",
    "forbidden": "This request comes from another site. Open the sale's own page and buy there.",
    "not_invited": "This sale is for invited shoppers, and you are not on its list. Ask the seller for an invitation.",
    "idempotency_key_reused": "This Idempotency-Key has bought for somebody else. Send a new one.",
    "rate_limited": "Too many attempts. Wait a few seconds, then try again.",
    "too_many_listeners": "Enough pages listen to this sale already. Ask for its status now and then instead.",
    "no_sale": "There is no such sale. Check the address, or come back when one is announced.",
    "unavailable": "The sale cannot take purchases right now; nothing was bought. Try again in a moment.",
    "unknown": "We are not sure yet whether you have it. Ask again: you cannot buy twice.",
    "server_error": "Something went wrong on our side. Ask again: you cannot buy twice.",
}


def retry_after(outcome: str, seconds: int = 1) -> dict[str, str]:
    """Return the Retry-After header of an outcome that waiting may change, and nothing for the others."""
    may_change = HTTP_STATUS[outcome] in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)
    return {"Retry-After": str(seconds)} if may_change else {}


def challenge(outcome: str, authorization: str = "") -> dict[str, str]:
    """Return the header that says what a 401 asks for, and nothing for the others.

    `authorization` is the asker's header: who has sent a token hears that it is not good (RFC 6750, section 3.1).
    """
    if HTTP_STATUS[outcome] != HTTPStatus.UNAUTHORIZED:
        return {}
    has_token = authorization.partition(" ")[0].lower() == "bearer"
    return {"WWW-Authenticate": 'Bearer error="invalid_token"' if has_token else "Bearer"}
