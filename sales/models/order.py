"""Orders, as Redis decided them, and what of them is missing."""

from django.db import models

from sales.models.sale import Sale


class Order(models.Model):
    """The durable row of one purchase. Written by `orders`, and changed by nothing but `cancelling`."""

    sale = models.ForeignKey(Sale, on_delete=models.PROTECT, related_name="orders")
    order_id = models.CharField(max_length=40, help_text="The purchase's ID in the sale's stream.")
    user_id = models.CharField(max_length=254)
    purchased_at = models.DateTimeField()
    remaining_stock = models.PositiveIntegerField(help_text="Units left after this purchase.")
    key_digest = models.CharField(max_length=24, blank=True, help_text="Digest of the Idempotency-Key that bought.")
    cancelled_at = models.DateTimeField(null=True, editable=False)
    # The database knows the defaults, too, so that an order writer of the release before can go on.
    order_code = models.CharField(
        max_length=9,
        default="",
        db_default="",
        editable=False,
        help_text="The short code, as it was told first: another secret key would make another one.",
    )
    may_buy_again = models.BooleanField(
        default=False,
        db_default=False,
        editable=False,
        help_text="Of a cancelled order: whether its shopper may buy another unit.",
    )
    cancellation_due = models.BooleanField(
        default=False,
        db_default=False,
        editable=False,
        help_text="Cancelled, and Redis has not taken it yet: the order writer gives it.",
    )

    class Meta:
        ordering = ["-purchased_at", "-id"]
        permissions = [("cancel_order", "Can cancel order")]
        constraints = [
            models.UniqueConstraint(
                fields=["sale", "user_id"], condition=models.Q(cancelled_at=None), name="one_order_per_shopper"
            ),
            models.UniqueConstraint(fields=["sale", "order_id"], name="one_row_per_purchase"),
        ]
        indexes = [
            models.Index(fields=["sale", "purchased_at"]),
            models.Index(fields=["order_code"], name="order_codes"),
            # There are few of them: whoever looks for them must not read all orders.
            models.Index(
                fields=["sale", "user_id", "purchased_at"],
                condition=models.Q(cancelled_at__isnull=False),
                name="cancelled_orders",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.order_id} {self.user_id}"


class Quarantine(models.Model):
    """A stream entry that could not become an order, for a person to look at."""

    sale = models.ForeignKey(Sale, on_delete=models.PROTECT, related_name="quarantined")
    entry_id = models.CharField(max_length=40)
    fields = models.JSONField(help_text="What the entry held.")
    reason = models.TextField()
    set_aside_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-set_aside_at", "-id"]
        verbose_name = "entry in quarantine"
        verbose_name_plural = "entries in quarantine"
        constraints = [models.UniqueConstraint(fields=["sale", "entry_id"], name="one_row_per_entry")]

    def __str__(self) -> str:
        return self.entry_id


class MissingOrder(models.Model):
    """A purchase that a web worker acknowledged, and that neither Redis nor SQL had then. Written by `missing`."""

    class State(models.TextChoices):
        FOUND = "found", "Missing: the sale is closed until restore_sale"
        LEFT_OVER = "left_over", "Left over: there was no unit for it"
        TAKEN_IN = "taken_in", "Taken in again"
        SETTLED = "settled", "Settled"

    sale = models.ForeignKey(Sale, on_delete=models.PROTECT, related_name="missing_orders")
    order_id = models.CharField(max_length=40)
    user_id = models.CharField(max_length=254)
    remaining_stock = models.PositiveIntegerField(help_text="Units left after the purchase, as far as it is known.")
    key_digest = models.CharField(max_length=24, blank=True)
    state = models.CharField(max_length=9, choices=State.choices, default=State.FOUND)
    note = models.TextField("why", blank=True)
    found_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-id"]
        # It is written by what finds it, and changed by one step.
        default_permissions = ("view",)
        permissions = [("settle_missingorder", "Can settle missing order")]
        constraints = [
            # Two masters may have given one order_id to two shoppers.
            models.UniqueConstraint(fields=["sale", "order_id", "user_id"], name="one_row_per_missing_order")
        ]
        indexes = [
            models.Index(
                fields=["sale", "state"],
                condition=models.Q(state__in=("found", "left_over")),
                name="orders_that_are_missing",
            )
        ]

    def __str__(self) -> str:
        return f"{self.order_id} {self.user_id}"
