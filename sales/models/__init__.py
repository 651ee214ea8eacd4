"""What SQL remembers."""

from sales.models.counts import AttemptCount, ShopperCount
from sales.models.invitation import Invitation
from sales.models.order import MissingOrder, Order, Quarantine
from sales.models.sale import MOST_UNITS, Identity, Sale, new_epoch, unused_slug

__all__ = [
    "MOST_UNITS",
    "AttemptCount",
    "Identity",
    "Invitation",
    "MissingOrder",
    "Order",
    "Quarantine",
    "Sale",
    "ShopperCount",
    "new_epoch",
    "unused_slug",
]
