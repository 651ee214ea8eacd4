"""What SQL remembers: sales as operators configure them, and orders as Redis decided them."""

import secrets
from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.db.models.functions import Length
from django.urls import reverse
from django.utils import timezone
from django.utils.text import slugify

from sales import pictures
from sales.clock import to_ms

# What every database holds in an integer; Lua is exact far beyond it.
MOST_UNITS = 2_147_483_647


def new_epoch() -> str:
    return secrets.token_hex(8)


class Sale(models.Model):
    """One product, one window, one stock. Redis holds a mirror of each published sale: see `publishing`."""

    name = models.CharField("product name", max_length=120)
    slug = models.SlugField(
        unique=True,
        blank=True,
        help_text="The sale's address. Made from the name when left empty; fixed once published.",
    )
    description = models.TextField(blank=True)
    image = models.ImageField(
        "picture",
        upload_to="products/",
        blank=True,
        help_text="JPEG, PNG or WebP; it is shown up to 1440 pixels wide.",
    )
    renditions = models.JSONField(
        default=list, editable=False, help_text="The picture in each width, narrowest first; the image is the widest."
    )
    display_price = models.DecimalField(
        "price", max_digits=10, decimal_places=2, null=True, blank=True, validators=[MinValueValidator(0)]
    )
    currency = models.CharField(
        max_length=3,
        default="EUR",
        validators=[RegexValidator(r"^[A-Z]{3}$", "Write the currency's three letters, like EUR or USD.")],
    )
    total_stock = models.PositiveIntegerField(
        validators=[MinValueValidator(1), MaxValueValidator(MOST_UNITS)],
        help_text="Units for sale in all. May be changed during the sale, but not below the units already sold.",
    )
    starts_at = models.DateTimeField("start", default=timezone.now)
    ends_at = models.DateTimeField("end")
    paused = models.BooleanField(default=False, help_text="Refuse purchases for now. Those who have bought keep it.")
    published = models.BooleanField(default=True, help_text="Show the sale to shoppers. It sells from its start.")

    epoch = models.CharField(
        max_length=32,
        default=new_epoch,
        editable=False,
        help_text="Names this sale's data in Redis; new when restored.",
    )
    first_published_at = models.DateTimeField(null=True, editable=False)
    mirror_due = models.BooleanField(
        default=False,
        editable=False,
        help_text="Changed, and Redis has not taken it yet: the order writer publishes it.",
    )

    class Meta:
        ordering = ["-starts_at"]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(ends_at__gt=models.F("starts_at")),
                name="sale_ends_after_start",
                violation_error_message="The end must be after the start.",
            )
        ]

    def __str__(self) -> str:
        return self.name

    def save(self, *args: Any, **kwargs: Any) -> None:
        self.slug = self.slug or unused_slug(self.name)
        super().save(*args, **kwargs)

    def clean(self) -> None:
        if self.starts_at and self.ends_at and self.ends_at <= self.starts_at:
            raise ValidationError({"ends_at": "The end must be after the start."})

    def get_absolute_url(self) -> str:
        return reverse("sale", args=[self.slug])

    def valid_orders(self) -> models.QuerySet["Order"]:
        """Return the orders that Redis is to hold as purchases: all but the cancelled ones."""
        return self.orders.filter(cancelled_at=None)

    def cancelled_orders(self) -> models.QuerySet["Order"]:
        """Return the cancelled ones, in the order of their index, which SQLite does not use otherwise."""
        return self.orders.filter(cancelled_at__isnull=False).order_by("user_id", "purchased_at")

    def newest_orders(self) -> models.QuerySet["Order"]:
        """Return the sale's orders, cancelled ones among them, the one with the highest order_id first."""
        # One millisecond's order_ids differ in their sequence number: of two, the longer one is the higher.
        return self.orders.order_by("-purchased_at", Length("order_id").desc(), "-order_id")

    def price_text(self) -> str:
        """Return the price as shown to shoppers, or "" when there is none."""
        return "" if self.display_price is None else f"{self.display_price:.2f} {self.currency}"

    def mirror(self) -> dict[str, str | int]:
        """Return the configuration that Redis holds, all but the stock."""
        return {
            "slug": self.slug,
            "product_name": self.name,
            "description": self.description,
            "price": self.price_text(),
            **self._mirrored_picture(),
            "starts_ms": to_ms(self.starts_at),
            "ends_ms": to_ms(self.ends_at),
            "paused": int(self.paused),
            "published": int(self.published),
        }

    def _mirrored_picture(self) -> dict[str, str | int]:
        if not self.renditions:
            return {"image_url": "", "image_srcset": "", "image_width": "", "image_height": ""}
        widest = self.renditions[-1]
        return {
            "image_url": self.image.url,
            "image_srcset": pictures.srcset(self.renditions),
            "image_width": widest["width"],
            "image_height": widest["height"],
        }


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
            # There are few of them: whoever looks for them must not read all orders.
            models.Index(
                fields=["sale", "user_id", "purchased_at"],
                condition=models.Q(cancelled_at__isnull=False),
                name="cancelled_orders",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.order_id} {self.user_id}"


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


def unused_slug(name: str) -> str:
    """Return a slug for a sale of that name that no sale has yet."""
    stem = slugify(name)[:40] or "sale"
    slug, number = stem, 1
    while Sale.objects.filter(slug=slug).exists():
        number += 1
        slug = f"{stem}-{number}"
    return slug
