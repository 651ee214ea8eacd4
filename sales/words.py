"""What shoppers read: one sentence for each state and outcome, in their language.

Scripts read `outcomes.SENTENCE`, which stays English: it is part of the API's contract.
"""

from typing import Any

from django.utils.functional import Promise
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

Words = dict[str, str | Promise]

STATUS: Words = {
    "upcoming": _("Starts soon"),
    "active": _("On sale now"),
    "paused": _("Paused"),
    "sold_out": _("Sold out"),
    "ended": _("Ended"),
}

SOLD_OUT_IN = _("Sold out in %(time)s")

# When it starts or ends.
WHEN: Words = {
    "upcoming": _("Starts %(moment)s"),
    **dict.fromkeys(("active", "paused", "sold_out"), _("Ends %(moment)s")),
    "ended": _("Ended %(moment)s"),
}

BUTTON: Words = {**STATUS, "upcoming": _("Not open yet"), "active": _("Buy now")}

HEADLINE: Words = {
    "purchased": _("You have it!"),
    "already_purchased": _("You already have one"),
    "sold_out": _("Sold out"),
    "not_started": _("Not open yet"),
    "ended": _("The sale has ended"),
    "paused": _("The sale is paused"),
    "order_cancelled": _("Your order was cancelled"),
    "invalid_request": _("Please check what you typed"),
    "bad_request": _("We did not understand that"),
    "payload_too_large": _("That was too much"),
    "request_timeout": _("That took too long"),
    "unauthorized": _("Confirm your e-mail address first"),
    "not_invited": _("This sale is for invited shoppers"),
    "forbidden": _("That was not accepted"),
    "rate_limited": _("One moment"),
    "no_sale": _("Nothing here"),
    "unavailable": _("We cannot sell right now"),
    "unknown": _("We are not sure yet"),
    "server_error": _("Something went wrong"),
    "other": _("That did not work"),
}

# What happened, and what to do next.
SENTENCE: Words = {
    "purchased": _("It's yours! Save your order code."),
    "already_purchased": _("One per person. Your order is safe."),
    "sold_out": _("Every unit has been bought. Have a look at the other sales."),
    "not_started": _("The sale has not started yet. Come back at the start."),
    "ended": _("It is over, and nothing was bought. Have a look at the other sales."),
    "paused": _("Nobody can buy at the moment. Try again in a minute."),
    "order_cancelled": _("You cannot buy in this sale again. Ask the seller for the reason."),
    "invalid_request": _("Write an e-mail address or a user name of at most 254 visible characters."),
    "bad_request": _("The request is broken. Go back, reload the page and try again."),
    "payload_too_large": _("You sent more than we take. Go back and send less."),
    "request_timeout": _("Your request did not arrive in time. Go back and send it again."),
    "unauthorized": _("This sale is for confirmed addresses. Follow the link above; it takes a minute."),
    "not_invited": _("Your address is not on its list. Have you been invited under another one?"),
    "forbidden": _("It came from another site. Open the sale's own page here and buy there."),
    "rate_limited": _("Too many attempts. Wait a few seconds, then try again."),
    "no_sale": _("There is no such sale. Check the address, or look at all sales."),
    "unavailable": _("Nothing was bought. Try again in a moment."),
    "unknown": _("Your press may have reached us. Press again to find out: you cannot buy twice."),
    "server_error": _("The mistake is ours. Try again in a moment: you cannot buy twice."),
    "other": _("Reload the page and try again: you cannot buy twice."),
}

# The shape beside an answer, one of templates/sales/icons.html; "alert" where none is named.
ICON = {
    "purchased": "check",
    "already_purchased": "check",
    "sold_out": "sold_out",
    "not_started": "upcoming",
    "ended": "ended",
    "paused": "paused",
    "rate_limited": "wait",
    "unknown": "wait",
}


def headline(outcome: str) -> str:
    return str(HEADLINE.get(_shown(outcome), HEADLINE["other"]))


def sentence(outcome: str) -> str:
    return str(SENTENCE.get(_shown(outcome), SENTENCE["other"]))


def icon(outcome: str) -> str:
    return ICON.get(_shown(outcome), "alert")


def _shown(outcome: str) -> str:
    return "purchased" if outcome == "replayed" else outcome


def for_script() -> dict[str, Any]:
    """Return all that the page's script shows, in the active language. It fills in what stands as %(name)s."""
    return {
        "status": STATUS,
        "button": BUTTON,
        "headline": HEADLINE,
        "sentence": SENTENCE,
        "icon": ICON,
        "who": {
            "words": gettext("You buy as %(userId)s"),
            "link": gettext("Not you?"),
        },
        "busy": gettext("One moment…"),
        "asking": {
            "headline": gettext("We are not sure yet"),
            "sentence": gettext("Your press may have reached us. We ask again: you cannot buy twice."),
        },
        "opening": {
            "headline": gettext("Opening…"),
            "sentence": gettext("You were a moment early. We ask again."),
        },
        "left": gettext("%(remaining)s of %(total)s left"),
        "soldOutIn": SOLD_OUT_IN,
        "when": WHEN,
        "startsIn": gettext("The sale starts in %(time)s."),
        "endsIn": gettext("The sale ends in %(time)s."),
        "offline": gettext("No connection. What you see may be old; it comes up to date by itself."),
    }
