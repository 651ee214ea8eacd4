"""A picture that was chosen in a form that came back with an error: it is stored, and the form has a signed note of it.

Pictures are stored under names made of their content, so nothing is stored twice, and nobody is told of a picture that
they have not sent. The note is for one operator, and expires with their session.
"""

from typing import Any

from django.conf import settings
from django.core import signing
from django.core.files.uploadedfile import UploadedFile

from sales.pictures import Stored

_LONGEST_NOTE = 2_000
# What the form's field asks of an upload: a size.
_SOME_BYTES = 1


class KeptPicture(UploadedFile):
    """Takes the place of an upload whose renditions are stored already."""

    def __init__(self, renditions: list[Stored]):
        super().__init__(name=renditions[-1]["name"], size=_SOME_BYTES)
        self.renditions = renditions


def note(renditions: list[Stored], operator: Any) -> str:
    """Return the signed note of stored renditions, for the form that this operator gets back."""
    return _signer(operator).sign_object(renditions)


def read(note: str, operator: Any) -> KeptPicture | None:
    """Return the picture of a note that this operator got within the time of a session; else None."""
    if not note or len(note) > _LONGEST_NOTE:
        return None
    try:
        return KeptPicture(_signer(operator).unsign_object(note, max_age=settings.SESSION_COOKIE_AGE))
    except signing.BadSignature:
        return None


def _signer(operator: Any) -> signing.TimestampSigner:
    return signing.TimestampSigner(salt=f"sales.desk.kept_picture.{operator.pk}")
