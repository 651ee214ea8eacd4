"""What was counted of a sale while it ran."""

from django.db import models

from sales.models.sale import Sale


class AttemptCount(models.Model):
    """What one web worker counted of a sale's attempts in one second. Written by `attempt_counts`, never changed."""

    sale = models.ForeignKey(Sale, on_delete=models.PROTECT, related_name="attempt_counts")
    second = models.BigIntegerField(help_text="By Redis's clock, since 1970.")
    worker = models.CharField(max_length=120)
    attempts = models.PositiveIntegerField(help_text="The sum of the outcomes.")
    outcomes = models.JSONField(help_text="Attempts by outcome.")
    latencies = models.JSONField(help_text="Attempts by the time of their answer, in the buckets of `histogram`.")
    remaining_stock = models.PositiveIntegerField(null=True, help_text="Units left, as last told in that second.")

    class Meta:
        ordering = ["second", "worker"]
        constraints = [
            models.UniqueConstraint(fields=["sale", "second", "worker"], name="one_count_per_worker_and_second")
        ]

    def __str__(self) -> str:
        return f"{self.second} {self.worker}"


class ShopperCount(models.Model):
    """About how many shoppers attempted to buy in a sale, and what it takes to count on."""

    sale = models.OneToOneField(Sale, on_delete=models.PROTECT, related_name="shopper_count")
    about = models.PositiveIntegerField(help_text="To one percent.")
    sketch = models.BinaryField(help_text="Redis's HyperLogLog.")

    def __str__(self) -> str:
        return f"about {self.about}"
