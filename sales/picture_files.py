"""What a picture's file needs to be decoded, and how it is turned: all other metadata is left out and never parsed.

Browsers show a picture whose metadata is broken or huge. Here, too, only its pixels decide. Formats: PNG
(https://www.w3.org/TR/png-3/), JPEG (https://www.w3.org/Graphics/JPEG/itu-t81.pdf, annex B), WebP (RFC 9649), and EXIF,
which is TIFF 6.0.
"""

import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

PNG_START, JPEG_START, RIFF_START = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF"
UPRIGHT = 1

# A profile that describes a screen takes 3 KB, one of a printer some MB; Pillow takes no more than this from a PNG.
LARGEST_PROFILE_BYTES = 1024 * 1024
# Encoders make ten or twenty. Each costs a pass over all pixels, and fits into a hundred bytes.
MOST_SCANS = 40

_PNG_PIXELS = {b"IHDR", b"PLTE", b"IDAT", b"IEND"}
_WEBP_KEPT = {b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF", b"ICCP"}
_WEBP_HAS_METADATA = 0b1100
_ORIENTATION, _SHORT = 0x0112, 3
_MOST_TAGS = 1000
# What a JPEG's first segment says but for its density; without it, decoders would guess its colours.
_JFIF = b"\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00"
_START_OF_SCAN, _END_OF_IMAGE = b"\xff\xda", b"\xff\xd9"


class Bare(NamedTuple):
    """A file without metadata; `orientation` is EXIF's, from 1 to 8."""

    content: bytes
    orientation: int = UPRIGHT

    @property
    def is_on_its_side(self) -> bool:
        return self.orientation > 4


class Unreadable(ValueError):
    """The file cannot be a picture that somebody made to be seen."""


def bare(content: bytes) -> Bare:
    """Return the file with what its pixels need; one of another format as it is. Raises Unreadable."""
    if content.startswith(PNG_START):
        return _bare_png(content)
    if content.startswith(JPEG_START):
        return _bare_jpeg(content)
    if content.startswith(RIFF_START):
        return _bare_webp(content)
    return Bare(content)


def _bare_png(content: bytes) -> Bare:
    kept: list[bytes | memoryview] = [PNG_START]
    orientation = UPRIGHT
    for kind, chunk in _png_chunks(content):
        if kind in _PNG_PIXELS or (kind in (b"tRNS", b"iCCP") and _is_sound(kind, chunk)):
            kept.append(chunk)
        elif kind == b"eXIf":
            orientation = _orientation(chunk[8:-4])
    return Bare(b"".join(kept), orientation)


def _png_chunks(content: bytes) -> Iterator[tuple[bytes, memoryview]]:
    view, start = memoryview(content), len(PNG_START)
    while start + 8 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, start)
        yield kind, view[start : start + length + 12]
        start += length + 12
        if kind == b"IEND":
            return


def _is_sound(kind: bytes, chunk: memoryview) -> bool:
    """Return whether decoders take the chunk; a broken one is left out, as browsers do."""
    if len(chunk) < 12 or zlib.crc32(chunk[4:-4]) != int.from_bytes(chunk[-4:], "big"):
        return False
    if kind != b"iCCP":
        return True
    _name, _, profile = bytes(chunk[8:-4]).partition(b"\0")
    unpack = zlib.decompressobj()
    with suppress(zlib.error):
        return profile[:1] == b"\0" and bool(unpack.decompress(profile[1:], LARGEST_PROFILE_BYTES)) and unpack.eof
    return False


def _bare_jpeg(content: bytes) -> Bare:
    kept, orientation, start = [content[:2]], UPRIGHT, 2
    while start + 4 <= len(content) and content[start] == 0xFF:
        marker = content[start + 1]
        if marker == 0xFF:  # filling
            start += 1
            continue
        if marker == _START_OF_SCAN[1]:
            break
        end = start + 2 + int.from_bytes(content[start + 2 : start + 4], "big")
        segment = content[start + 4 : end]
        if marker == 0xE1 and segment.startswith(b"Exif\0\0"):
            orientation = _orientation(segment[6:])
        kept.append(_kept_segment(marker, segment, content[start:end]))
        start = end
    if content.count(_START_OF_SCAN, start, content.find(_END_OF_IMAGE, start)) > MOST_SCANS:
        raise Unreadable
    return Bare(b"".join([*kept, content[start:]]), orientation)


def _kept_segment(marker: int, segment: bytes, whole: bytes) -> bytes:
    """Return what is kept of a segment of a JPEG: colours and all that decodes pixels."""
    if marker == 0xE0:
        return _JFIF if segment.startswith(b"JFIF\0") else b""
    is_profile = marker == 0xE2 and segment.startswith(b"ICC_PROFILE\0") and len(segment) > 14
    is_adobe = marker == 0xEE and segment.startswith(b"Adobe") and len(segment) >= 12
    is_metadata = 0xE0 <= marker <= 0xEF or marker == 0xFE
    return whole if is_profile or is_adobe or not is_metadata else b""


def _bare_webp(content: bytes) -> Bare:
    kept, orientation, start = [], UPRIGHT, 12
    while start + 8 <= len(content):
        kind, length = struct.unpack_from("<4sI", content, start)
        end = start + 8 + length + length % 2
        chunk = content[start:end]
        if kind == b"EXIF":
            orientation = _orientation(chunk[8:].removeprefix(b"Exif\0\0"))
        elif kind == b"VP8X":
            kept.append(chunk[:8] + bytes(byte & ~_WEBP_HAS_METADATA for byte in chunk[8:9]) + chunk[9:])
        elif kind in _WEBP_KEPT:
            kept.append(chunk)
        start = end
    body = b"WEBP" + b"".join(kept)
    return Bare(RIFF_START + struct.pack("<I", len(body)) + body, orientation)


def _orientation(exif: bytes | memoryview) -> int:
    """Return the orientation that an EXIF block names; UPRIGHT where it names none, or is broken."""
    order = {b"II": "<", b"MM": ">"}.get(bytes(exif[:2]))
    with suppress(struct.error):
        if order:
            (start,) = struct.unpack_from(f"{order}4xI", exif)
            (tags,) = struct.unpack_from(f"{order}H", exif, start)
            for number in range(min(tags, _MOST_TAGS)):
                tag, kind, value = struct.unpack_from(f"{order}HH4xH", exif, start + 2 + 12 * number)
                if tag == _ORIENTATION:
                    return value if kind == _SHORT and 1 <= value <= 8 else UPRIGHT
    return UPRIGHT
