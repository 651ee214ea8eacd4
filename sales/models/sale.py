"""Sales, as operators configure them."""

import secrets
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.db.models.functions import Length
from django.urls import reverse
from django.utils import timezone
from django.utils.text import slugify

from sales import pictures
from sales.clock import to_ms

if TYPE_CHECKING:
    from sales.models.invitation import Invitation
    from sales.models.order import MissingOrder, Order

# What every database holds in an integer; Lua is exact far beyond it.
MOST_UNITS = 2_147_483_647


class Identity(models.TextChoices):
    """What proves to a sale who a shopper is."""

    OPEN = "open", "Everybody: the name that is typed is believed"
    VERIFIED = "verified", "Who has confirmed an e-mail address"
    INVITED = "invited", "Who has confirmed an e-mail address that is on the sale's list"


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
        help_text="JPEG, PNG or WebP; it is shown up to 1440 pixels wide. Of an animated one, the first frame.",
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
    identity = models.CharField(
        "who may buy",
        max_length=8,
        choices=Identity.choices,
        default=Identity.OPEN,
        db_default=Identity.OPEN,
    )
    one_mailbox = models.BooleanField(
        "one mailbox, one person",
        default=False,
        db_default=False,
        help_text="Take ada+2@example.com for ada@example.com, and at Gmail a.da for ada.",
    )
    key_number = models.PositiveIntegerField(
        default=1, db_default=1, editable=False, help_text="Which of its keys a partner signs tokens with."
    )
    published = models.BooleanField(default=True, help_text="Show the sale to shoppers. It sells from its start.")

    epoch = models.CharField(
        max_length=32,
        default=new_epoch,
        editable=False,
        help_text="Names this sale's data in Redis; new when restored.",
    )
    first_published_at = models.DateTimeField(null=True, editable=False)
    archived_at = models.DateTimeField(
        "archived",
        null=True,
        editable=False,
        help_text="Since when SQL alone holds its purchases: see `archiving`.",
    )
    mirror_due = models.BooleanField(
        default=False,
        editable=False,
        help_text="Changed, and Redis has not taken it yet: the order writer publishes it.",
    )
    # The database knows these defaults, too, so that a web worker of the release before can go on.
    list_number = models.PositiveIntegerField(
        default=0, db_default=0, editable=False, help_text="Which of its lists of invited shoppers is in force."
    )
    newest_list = models.PositiveIntegerField(
        default=0, db_default=0, editable=False, help_text="The highest number that a list was begun with."
    )
    list_version = models.CharField(
        max_length=32,
        default="0",
        db_default="0",
        editable=False,
        help_text="Another one after each change of the list.",
    )
    list_due = models.BooleanField(
        default=False,
        db_default=False,
        editable=False,
        help_text="Redis does not hold the list as it is here yet: the order writer gives it.",
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

    def standing_losses(self) -> models.QuerySet["MissingOrder"]:
        """Return the acknowledged purchases that are missing, and neither taken in again nor settled, in no order."""
        return self.missing_orders.filter(state__in=("found", "left_over")).order_by()

    def invited(self) -> models.QuerySet["Invitation"]:
        """Return the list that is in force, in the order of its index."""
        return self.invitations.filter(list_number=self.list_number).order_by("user_id")

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
            "identity": self.identity,
            "one_mailbox": int(self.one_mailbox),
            "key_number": self.key_number,
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


def unused_slug(name: str) -> str:
    """Return a slug for a sale of that name that no sale has yet."""
    stem = slugify(name)[:40] or "sale"
    slug, number = stem, 1
    while Sale.objects.filter(slug=slug).exists():
        number += 1
        slug = f"{stem}-{number}"
    return slug
