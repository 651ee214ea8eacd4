"""The form in which an operator prepares a sale."""

import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from django import forms
from django.conf import settings
from django.contrib.admin.widgets import AdminFileWidget
from django.core.files.uploadedfile import UploadedFile
from django.utils import timezone
from django.utils.datastructures import MultiValueDict

from sales import pictures
from sales.desk import kept_picture
from sales.desk.fields import AmountField, MomentField, MomentInput, WholeNumberField
from sales.desk.sale_words import saved_words
from sales.desk.steps import Change, described
from sales.models import MOST_UNITS, Identity, Sale
from sales.states import now, standing_of

# What a copy of a sale has in common with it.
COPIED = ("name", "description", "display_price", "currency", "total_stock", "identity", "one_mailbox")


class SaleForm(forms.ModelForm):
    class Meta:
        model = Sale
        fields = "__all__"
        field_classes = {
            "image": forms.FileField,  # what a picture is, `pictures` says, and in words that help
            "display_price": AmountField,
            "total_stock": WholeNumberField,
            "starts_at": MomentField,
            "ends_at": MomentField,
        }
        widgets = {
            "image": AdminFileWidget({"accept": "image/jpeg,image/png,image/webp"}),
            "display_price": forms.TextInput({"inputmode": "decimal", "class": "vIntegerField"}),
            "total_stock": forms.TextInput({"inputmode": "numeric", "class": "vIntegerField"}),
            "starts_at": MomentInput,
            "ends_at": MomentInput,
        }
        help_texts = {
            "name": "As shoppers read it.",
            "description": "A few sentences under the name.",
            "display_price": "Shown under the name; nothing is charged here. Without one, none is shown.",
            "identity": (
                "Everybody: who types a name gets a unit for that name, and anybody can ask whether a name has bought. "
                "Otherwise shoppers first prove an e-mail address, by a code in a mail; or a partner’s own site "
                "vouches for its users: see “Partner” on top of this page."
            ),
            "one_mailbox": (
                "One unit for ada@example.com, ada+2@example.com and so on together; at Gmail dots do not count, "
                "either. This is fixed once a unit is sold."
            ),
        }
        error_messages = {
            "name": {"required": "Say what is sold."},
            "slug": {"unique": "Another sale has this address. Choose another, or leave it empty."},
            "display_price": {"min_value": "Write a price of zero or more, or leave it empty."},
            "total_stock": {
                "required": "Say how many units are for sale.",
                "min_value": "Put one unit on sale at least.",
                "max_value": f"Put {MOST_UNITS:,} units on sale at most.",
            },
            "starts_at": {"required": "Say when the sale starts."},
            "ends_at": {"required": "Say when the sale ends."},
        }

    # The sale that a new one is a copy of: it shares that one's picture until another is chosen.
    original: Sale | None = None
    operator: Any = None
    # Names the picture that was chosen, in a form that comes back with an error.
    picture_note = ""

    def __init__(self, *args: Any, **kwargs: Any):
        if self.original:
            kwargs["instance"] = Sale(image=self.original.image.name, renditions=self.original.renditions)
        super().__init__(*args, **kwargs)
        if not (self.files.get("image") or self.data.get("image-clear")):
            kept = kept_picture.read(self.data.get("picture_note", ""), self.operator)
            self.files = MultiValueDict({"image": [kept]}) if kept else self.files
        # The values that the operator saw; those that somebody has changed since are told from those typed here.
        self.seen = self.data.get("seen") or self._saved()
        for name in {"starts_at", "ends_at"} & self.fields.keys():
            self.fields[name].help_text += f" In the time zone {settings.TIME_ZONE}."
            self.fields[name].known = self._known(name)  # type: ignore[attr-defined]
        if self.instance.pk:
            for name, words in saved_words(self.instance).items():
                if name in self.fields:
                    self.fields[name].help_text = f"{self.fields[name].help_text} Now saved: {words}.".strip()

    def clean_image(self) -> Any:
        """Return the name of the widest rendition of an upload; `False` when the picture is to go."""
        upload = self.cleaned_data["image"]
        if not isinstance(upload, UploadedFile):
            self.renditions: list[pictures.Stored] = self.instance.renditions if upload else []
            return upload
        try:
            kept = upload.renditions if isinstance(upload, kept_picture.KeptPicture) else None
            self.renditions = kept or pictures.store(pictures.render(upload))
        except pictures.BadPicture as error:
            raise forms.ValidationError(str(error)) from None
        self.picture_note = kept_picture.note(self.renditions, self.operator)
        self.instance.renditions = self.renditions  # the form that comes back shows it
        return self.renditions[-1]["name"]

    def clean(self) -> dict[str, Any]:
        super().clean()
        if self.instance.pk:
            self._keep_what_others_changed()
            self._keep_what_is_archived()
            self._keep_what_is_sold()
        starts_at, ends_at = self.cleaned_data.get("starts_at"), self.cleaned_data.get("ends_at")
        if "ends_at" in self.changed_data and starts_at and ends_at and starts_at < ends_at <= now():
            self.add_error("ends_at", "This time is over already: choose a later end. A sale that runs has “End now”.")
        return self.cleaned_data

    def save(self, commit: bool = True) -> Sale:
        self.instance.renditions = self.renditions
        return super().save(commit)

    def _keep_what_is_archived(self) -> None:
        """Refuse what would have an archived sale sell again, or know its shoppers by other names."""
        for name in ("total_stock", "starts_at", "ends_at", "identity", "one_mailbox"):
            typed = self.cleaned_data.get(name, self.initial.get(name))
            if self.instance.archived_at and _text(typed) != _text(self.initial.get(name)):
                self.add_error(name, f"This sale is archived: run manage.py restore_sale {self.instance.slug} first.")

    def _keep_what_is_sold(self) -> None:
        """Refuse a total below the units sold, and another price than receipts show."""
        sold = units_sold(self.instance)
        if self.cleaned_data.get("total_stock", sold) < sold:
            self.add_error("total_stock", f"{sold} units are sold already: set {sold} or more.")
        receipts = max(sold, self.instance.orders.count())
        if receipts and {"display_price", "currency"} & set(self.changed_data):
            price = Sale.objects.get(pk=self.instance.pk).price_text() or "no price"
            words = f"{receipts} units are sold already: keep {price}, or make a sale of its own."
            self.add_error("display_price", words)
        self._keep_who_has_bought(receipts)

    def _keep_who_has_bought(self, receipts: int) -> None:
        """Refuse what would let somebody buy twice, or show everybody who has bought."""
        if self._is_new("one_mailbox") and receipts:
            words = (
                f"{receipts} units are sold already: leave this as it is. Buyers are known by the names of then, and "
                "under another name some could buy once more."
            )
            self.add_error("one_mailbox", words)
        elif self._is_new("one_mailbox") and self._is_selling():
            self.add_error("one_mailbox", "The sale may sell a unit at any moment. Pause it, then change this.")
        if self._is_new("identity") and self.cleaned_data["identity"] == Identity.OPEN and receipts:
            words = (
                f"{receipts} units are sold already to shoppers who have proven who they are. In an open sale anybody "
                "could ask whether they have bought: make another sale for everybody."
            )
            self.add_error("identity", words)

    def _is_new(self, name: str) -> bool:
        """Return whether a value was typed that differs from the saved one."""
        return name in self.cleaned_data and self.cleaned_data[name] != self.initial.get(name)

    def _is_selling(self) -> bool:
        saved = Sale.objects.get(pk=self.instance.pk)
        return saved.published and not saved.paused and saved.starts_at <= now() < saved.ends_at

    def changes(self) -> list[Change]:
        """Return what was typed that differs from what was saved."""
        return [
            Change(str(self.fields[name].label), described(name, self.initial.get(name)), described(name, value))
            for name, value in self.cleaned_data.items()
            if _text(value) != _text(self.initial.get(name))
        ]

    def _keep_what_others_changed(self) -> None:
        """Leave alone what somebody else has changed meanwhile, and ask again where both have."""
        seen = self._values_seen()
        for name in self.cleaned_data.keys() & seen.keys():
            saved, typed = getattr(self.instance, name), self.cleaned_data[name]
            if _text(saved) == seen[name]:
                continue
            if _text(typed) == seen[name]:
                self.cleaned_data[name] = saved
            else:
                words = f"Somebody changed this to {described(name, saved)} while you had this page open. "
                self.add_error(name, words + "Check what you typed, and save again.")
        self.seen = self._saved()

    def _known(self, name: str) -> list[datetime]:
        """Return the moments that the form may have shown: the saved one, and the one that the operator saw."""
        known = [getattr(self.instance, name)] if self.instance.pk else []
        with suppress(ValueError, OverflowError):
            known.append(datetime.fromisoformat(self._values_seen().get(name, "")).astimezone(UTC))
        return known

    def _values_seen(self) -> dict[str, str]:
        try:
            seen = json.loads(self.seen)
        except (ValueError, RecursionError):
            return {}
        return {name: str(value) for name, value in seen.items()} if isinstance(seen, dict) else {}

    def _saved(self) -> str:
        names = [name for name in self.fields if name != "image"] if self.instance.pk else []
        return json.dumps({name: _text(getattr(self.instance, name)) for name in names})


def copy_of(sale: Sale) -> dict[str, Any]:
    """Return the first values of a form for a sale like that one, at the same time of the next day that is free.

    Start and end keep what the operators' clocks show, whatever summer time does in between.
    """
    days = timedelta(max(1, (_on_the_clock(now()) - _on_the_clock(sale.starts_at)).days + 1))
    times = {
        name: timezone.make_aware(_on_the_clock(getattr(sale, name)).replace(microsecond=0) + days).astimezone(UTC)
        for name in ("starts_at", "ends_at")
    }
    return {**{name: getattr(sale, name) for name in COPIED}, **times}


def _on_the_clock(moment: datetime) -> datetime:
    return timezone.localtime(moment).replace(tzinfo=None, fold=0)


def units_sold(sale: Sale) -> int:
    standing = standing_of(sale)
    return max(standing.sold if standing else 0, sale.valid_orders().count())


def _text(value: Any) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    return "" if value is None else str(value).replace("\r\n", "\n")
