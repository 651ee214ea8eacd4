"""The second factor of who signs in to the admin: the code that an app shows, or one of ten backup codes.

django-otp keeps both, limits guessing, and takes no code twice.
"""

import math
import secrets
from base64 import b32encode, b64encode
from hashlib import sha256
from typing import Any

from django.conf import settings
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.db import transaction
from django.http import HttpRequest
from django.utils import timezone
from django_otp import verify_token
from django_otp.plugins.otp_static.models import StaticDevice, StaticToken
from django_otp.plugins.otp_totp.models import TOTPDevice

from sales import codes

# Views ask only for who has signed in, which the type of a request's user does not tell.
Person = AbstractBaseUser | AnonymousUser

BACKUP_CODES = 10
# With 80 random bits, guessing a code from what SQL holds of it is out of reach: a fast digest without salt will do.
BACKUP_CODE_BYTES = 10
WRONG = "This code is not right, or was used already. Type the one that your app shows now, or another backup code."
WRONG_AT_FIRST = (
    "This code is not right. Type the one that the app shows now. "
    "If it takes none, let the phone set its clock by itself, and try again."
)


class Wrong(Exception):
    """The code is not taken, for the reason and with the remedy that the message gives."""


def is_on(user: Person) -> bool:
    """Return whether a code is asked of this person."""
    return TOTPDevice.objects.filter(user=user, confirmed=True).exists()


def is_due(user: Person) -> bool:
    """Return whether this person has to set one up before anything else."""
    return settings.SECOND_FACTOR_IS_REQUIRED and not is_on(user)


def is_satisfied(request: HttpRequest) -> bool:
    """Return whether this session was opened with a code, or needs none."""
    user: Any = request.user
    return user.is_verified() or not (settings.SECOND_FACTOR_IS_REQUIRED or is_on(user))


def begin(user: Person) -> None:
    """Make a secret for the person's app, in place of one that still waits for its first code."""
    TOTPDevice.objects.filter(user=user, confirmed=False).delete()
    TOTPDevice.objects.create(user=user, name="app", confirmed=False)


def waiting(user: Person) -> Any:
    """Return the device whose secret waits for its first code, or None."""
    return TOTPDevice.objects.filter(user=user, confirmed=False).first()


def secret_of(device: Any) -> str:
    """Return the secret as an app takes it, in groups that can be read off and typed."""
    return _grouped(b32encode(device.bin_key).decode(), " ")


def turn_on(user: Person, code: str) -> tuple[Any, list[str]]:
    """Ask for codes from now on, and return the device and the backup codes. Raises Wrong for a wrong first code."""
    device = _check(user, waiting(user), codes.digits(code), WRONG_AT_FIRST)
    with transaction.atomic():
        if not TOTPDevice.objects.filter(pk=device.pk).update(confirmed=True):  # begun anew meanwhile
            raise Wrong(WRONG_AT_FIRST)
        backup_codes = _new_backup_codes(user)
        note(user, user, "Turned the second factor on.")
    device.confirmed = True
    return device, backup_codes


def check(user: Person, code: str) -> Any:
    """Return the device that the code is of, which takes it no second time. Raises Wrong."""
    plain = codes.letters_and_digits(code)
    if not plain:
        raise Wrong("This account has a second factor: type the code that your app shows, too, or a backup code.")
    # Each is tried with its own kind of code alone, so that wrong ones of the app do not lock the backup codes.
    if plain.isdecimal():
        return _check(user, TOTPDevice.objects.filter(user=user, confirmed=True).first(), plain)
    return _check(user, StaticDevice.objects.filter(user=user).first(), _digest(plain))


def renew_backup_codes(user: Person) -> list[str]:
    """Return new backup codes. The earlier ones are worth nothing from now on."""
    with transaction.atomic():
        note(user, user, "Made new backup codes of the second factor.")
        return _new_backup_codes(user)


def backup_codes_left(user: Person) -> int:
    return StaticToken.objects.filter(device__user=user).count()


def turn_off(user: Person, by: Person, words: str) -> None:
    """Ask no code of this person any more, and note it in their history. Safe to repeat."""
    with transaction.atomic():
        for model in (TOTPDevice, StaticDevice):
            model.objects.filter(user=user).delete()
        note(user, by, words)


def note(user: Person, by: Person, words: str) -> None:
    """Write a line into the person's history."""
    LogEntry.objects.log_actions(by.pk, [user], CHANGE, words, single_object=True)  # type: ignore[call-overload]


def _new_backup_codes(user: Person) -> list[str]:
    device, _ = StaticDevice.objects.get_or_create(user=user, defaults={"name": "backup codes"})
    device.token_set.all().delete()
    made = [b32encode(secrets.token_bytes(BACKUP_CODE_BYTES)).decode().lower() for _ in range(BACKUP_CODES)]
    StaticToken.objects.bulk_create(StaticToken(device=device, token=_digest(code)) for code in made)
    return [_grouped(code, "-") for code in made]


def _check(user: Person, device: Any, token: str, wrong: str = WRONG) -> Any:
    """Return the device after it has taken the token. Raises Wrong."""
    if device is None:
        raise Wrong(wrong)
    is_allowed, reason = device.verify_is_allowed()
    if not is_allowed:
        seconds = max(1, math.ceil((reason["locked_until"] - timezone.now()).total_seconds()))
        raise Wrong(
            f"After a wrong code there is a wait. Try again in {seconds} s, with the code that your app shows then."
        )
    taken_by = verify_token(user, device.persistent_id, token)
    if taken_by is None:
        raise Wrong(wrong)
    return taken_by


def _grouped(text: str, separator: str) -> str:
    return separator.join(text[start : start + 4] for start in range(0, len(text), 4))


def _digest(code: str) -> str:
    """Return what SQL holds of a backup code: as much of a digest as django-otp's column takes, 96 bits."""
    return b64encode(sha256(code.encode()).digest()).decode()[:16]
