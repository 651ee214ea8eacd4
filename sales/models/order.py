"""Orders, as Redis decided them."""

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
