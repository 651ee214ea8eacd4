"""Who is invited to a sale."""

from django.db import models

from sales.models.sale import Sale


class Invitation(models.Model):
    """A shopper on one of a sale's lists. Written by `invitations`, in a list that is in force or is to be."""

    sale = models.ForeignKey(Sale, on_delete=models.PROTECT, related_name="invitations")
    list_number = models.PositiveIntegerField()
    user_id = models.CharField(max_length=254, help_text="As `shoppers.normalise` returns it.")

    class Meta:
        # Who may change the sale may change its list: there is nothing else to grant.
        default_permissions = ()
        constraints = [
            models.UniqueConstraint(fields=["sale", "list_number", "user_id"], name="one_invitation_per_shopper")
        ]

    def __str__(self) -> str:
        return self.user_id
