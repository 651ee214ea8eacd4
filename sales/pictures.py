"""Product pictures: made small, upright and free of metadata when they are uploaded."""

import hashlib
import logging
from collections.abc import Sequence
from contextlib import suppress
from io import BytesIO
from typing import IO, NamedTuple, TypedDict

from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from PIL import Image, ImageChops, ImageCms

from sales import picture_files

# For phones, for desktops and dense phones, for dense desktops: the page draws it at most 50 rem wide.
WIDTHS = 480, 960, 1440
FORMATS = "JPEG", "PNG", "WEBP"
LARGEST_BYTES = 8 * 1024 * 1024
# What a phone's camera takes. Decoded, it is 200 MB at most.
MOST_PIXELS = 50_000_000
MOST_TIMES_LONGER = 4
QUALITY = 82
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

UNREADABLE = (
    "This file cannot be read as a picture: it is damaged, or neither JPEG, PNG nor WebP. Save it as one of them."
)
TOO_MANY_BYTES = (
    f"This file is too large. Upload at most {LARGEST_BYTES // 2**20} MB; a picture 1440 pixels wide is enough."
)
TOO_MANY_PIXELS = (
    f"This picture has more than {MOST_PIXELS // 10**6} million pixels. Make it smaller: 1440 wide is enough."
)
TOO_LONG = f"One side of this picture is more than {MOST_TIMES_LONGER} times as long as the other. Cut it."
NOT_STORED = "The picture could not be stored, and nothing was changed. Try again; the log says why."

log = logging.getLogger(__name__)


class BadPicture(ValueError):
    """The upload cannot be shown; the message says why and what to do."""


class Rendition(NamedTuple):
    width: int
    height: int
    webp: bytes


class Stored(TypedDict):
    """A rendition as SQL remembers it; `name` is the storage's."""

    name: str
    width: int
    height: int


def render(upload: IO[bytes]) -> list[Rendition]:
    """Return the picture in the widths that pages use, narrowest first, none wider than it is; of an animated one, its
    first frame. Raises BadPicture."""
    if upload.seek(0, 2) > LARGEST_BYTES:
        raise BadPicture(TOO_MANY_BYTES)
    upload.seek(0)
    try:
        bare = picture_files.bare(upload.read())
        with Image.open(BytesIO(bare.content), formats=FORMATS) as image:
            _check(image)
            image.draft(None, (2 * WIDTHS[-1], 2 * WIDTHS[-1]))  # a JPEG is decoded at a fraction of its size
            upright = _turned(_in_srgb(_reduced(_in_eight_bits(image), bare.is_on_its_side)), bare.orientation)
        widths = sorted({min(width, upright.width) for width in WIDTHS})
        return [_rendition(upright, width) for width in widths]
    except BadPicture:
        raise
    except Image.DecompressionBombError:
        raise BadPicture(TOO_MANY_PIXELS) from None
    except Exception as error:  # what a decoder raises for a damaged file depends on the damage
        raise BadPicture(UNREADABLE) from error


def store(renditions: Sequence[Rendition]) -> list[Stored]:
    """Keep the renditions, each under a name that is made of its content; safe to repeat. Raises BadPicture."""
    return [Stored(name=_keep(_name(each), each.webp), width=each.width, height=each.height) for each in renditions]


def srcset(stored: Sequence[Stored]) -> str:
    """Return the addresses of the renditions as the HTML attribute has them."""
    return ", ".join(f"{default_storage.url(each['name'])} {each['width']}w" for each in stored)


def _check(image: Image.Image) -> None:
    width, height = image.size
    if width * height > MOST_PIXELS:
        raise BadPicture(TOO_MANY_PIXELS)
    if max(width, height) > MOST_TIMES_LONGER * min(width, height):
        raise BadPicture(TOO_LONG)


def _in_eight_bits(image: Image.Image) -> Image.Image:
    """Return the picture with eight bits for each colour of each pixel, and no palette."""
    image.load()
    transparent = image.info.get("transparency")
    if image.mode == "I;16":  # grey in 16 bits, the low byte first: conversion would clip it
        pixels, size = image.tobytes(), image.size
        high, low = (Image.frombytes("L", size, pixels[byte::2]) for byte in (1, 0))
        if transparent is not None:
            others = (_other_than(high, transparent >> 8), _other_than(low, transparent & 255))
            high.putalpha(ImageChops.lighter(*others))
        return _with_profile_of(image, high.convert("RGBA") if transparent is not None else high)
    if image.mode == "RGB" and transparent and max(transparent) > 255:
        image.info["transparency"] = tuple(value >> 8 for value in transparent)
    if image.mode in ("1", "P", "LA", "PA") or transparent is not None:
        return _with_profile_of(image, image.convert("RGBA" if image.has_transparency_data else "RGB"))
    return image


def _other_than(image: Image.Image, value: int) -> Image.Image:
    return image.point([0 if each == value else 255 for each in range(256)])


def _with_profile_of(image: Image.Image, converted: Image.Image) -> Image.Image:
    converted.info = {"icc_profile": image.info.get("icc_profile")}
    return converted


def _reduced(image: Image.Image, is_on_its_side: bool) -> Image.Image:
    """Return a picture that is much larger than any rendition at a fraction of its size: all else then costs less."""
    factor = (image.height if is_on_its_side else image.width) // WIDTHS[-1] // 2
    return _with_profile_of(image, image.reduce(factor)) if factor > 1 else image


def _turned(image: Image.Image, orientation: int) -> Image.Image:
    return image.transpose(_TURNS[orientation]) if orientation in _TURNS else image


def _in_srgb(image: Image.Image) -> Image.Image:
    """Return the picture in the colours that browsers assume where there is no profile."""
    mode = "RGBA" if image.has_transparency_data else "RGB"
    if profile := image.info.get("icc_profile"):
        with suppress(ImageCms.PyCMSError, OSError, ValueError):  # a profile that does not fit is worth nothing
            source = ImageCms.ImageCmsProfile(BytesIO(profile))
            image = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode=mode) or image
    return image if image.mode == mode else image.convert(mode)


def _rendition(image: Image.Image, width: int) -> Rendition:
    height = max(1, round(image.height * width / image.width))
    webp = BytesIO()
    image.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=3).save(webp, "WEBP", quality=QUALITY)
    return Rendition(width, height, webp.getvalue())


def _name(rendition: Rendition) -> str:
    digest = hashlib.blake2b(rendition.webp, digest_size=16).hexdigest()
    return f"products/{digest}-{rendition.width}.webp"


def _keep(name: str, content: bytes) -> str:
    try:
        if default_storage.exists(name):
            return name
        try:
            return default_storage.save(name, ContentFile(content))
        except Exception:
            with suppress(Exception):  # half a picture must not pass for a whole one
                default_storage.delete(name)
            raise
    except Exception as error:  # each kind of storage has its own
        log.exception("the picture %s could not be stored", name)
        raise BadPicture(NOT_STORED) from error
