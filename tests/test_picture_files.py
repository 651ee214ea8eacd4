"""Only pixels decide whether a picture is taken: every depth is, with whatever metadata, at a bounded cost."""

import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from io import BytesIO

import pytest
from PIL import Image, PngImagePlugin

from sales import picture_files, pictures
from tests.test_pictures import BLUE, GPS, ORIENTATION, RED, ROTATED_RIGHT, encoded, is_near, opened, photo

GREY, GREY_ALPHA, RGB, RGBA = 0, 4, 2, 6
CHANNELS = {GREY: 1, GREY_ALPHA: 2, RGB: 3, RGBA: 4}


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(colours: int, rows: list[bytes], width: int, bits: int = 16, extra: bytes = b"") -> BytesIO:
    """Return a PNG as no encoder of Pillow's makes it."""
    header = struct.pack(">IIBBBBB", width, len(rows), bits, colours, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows), 1)
    chunks = chunk(b"IHDR", header) + extra + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    return BytesIO(picture_files.PNG_START + chunks)


def with_chunk(kind: bytes, content: bytes, upload: BytesIO | None = None) -> BytesIO:
    """Return a PNG with one more chunk after its header."""
    plain = (upload or photo(300, 200, "PNG")).getvalue()
    return BytesIO(plain[:33] + chunk(kind, content) + plain[33:])


def with_segment(marker: int, content: bytes) -> BytesIO:
    """Return a JPEG that begins with the segment."""
    plain = photo(300, 200).getvalue()
    return BytesIO(plain[:2] + struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content + plain[2:])


def with_webp_chunk(kind: bytes, content: bytes, length: int | None = None) -> BytesIO:
    """Return a WebP that ends with the chunk, which says to have the length."""
    exif = encoded(Image.open(photo(300, 200)), "WEBP", exif=b"Exif\0\0II*\0\x08\0\0\0\0\0").getvalue()
    body = exif[8:] + kind + struct.pack("<I", len(content) if length is None else length) + content
    return BytesIO(b"RIFF" + struct.pack("<I", len(body)) + body)


def exif_of(order: str, orientation: int, *others: bytes) -> bytes:
    """Return an EXIF block of the orientation and other tags."""
    tags = [struct.pack(f"{order}HHIHH", ORIENTATION, 3, 1, orientation, 0), *others]
    start = b"II*\0" if order == "<" else b"MM\0*"
    return start + struct.pack(f"{order}IH", 8, len(tags)) + b"".join(tags) + bytes(4)


def is_photo(upload: BytesIO) -> bool:
    (rendition,) = pictures.render(upload)
    image = opened(rendition).convert("RGB")
    return image.size == (300, 200) and is_near(image, (30, 100), RED) and is_near(image, (270, 100), BLUE)


# Depths and colours


@pytest.mark.pure
@pytest.mark.parametrize("colours", CHANNELS)
def test_sixteen_bits_are_scaled_to_eight(colours: int):
    width = 256
    opaque = [
        colours in (RGBA, GREY_ALPHA) and channel == CHANNELS[colours] - 1 for channel in range(CHANNELS[colours])
    ]
    row = b"".join(struct.pack(">H", 65_535 if is_alpha else 257 * x) for x in range(width) for is_alpha in opaque)

    (rendition,) = pictures.render(png(colours, [row] * 100, width))

    image = opened(rendition).convert("RGB")
    for x in (4, 64, 128, 192, 251):
        assert is_near(image, (x, 50), (x, x, x)), image.getpixel((x, 50))


@pytest.mark.pure
@pytest.mark.parametrize(
    ("colours", "see_through", "seen"), [(GREY, (10_000,), (60_000,)), (RGB, (1000, 0, 65_535), (60_000, 0, 0))]
)
def test_a_transparent_colour_of_sixteen_bits_is_kept(
    colours: int, see_through: tuple[int, ...], seen: tuple[int, ...]
):
    def pixels(colour: tuple[int, ...]) -> bytes:
        return struct.pack(f">{len(colour)}H", *colour)

    row = pixels(see_through) * 100 + pixels(seen) * 100

    (rendition,) = pictures.render(png(colours, [row] * 100, 200, extra=chunk(b"tRNS", pixels(see_through))))

    alpha = opened(rendition).convert("RGBA").getchannel("A")
    assert (alpha.getpixel((20, 50)), alpha.getpixel((180, 50))) == (0, 255)


@pytest.mark.pure
def test_a_grey_ramp_of_sixteen_bits_is_not_white():
    ramp = b"".join(struct.pack(">H", x * 65_535 // 1199) for x in range(1200))

    widest = opened(pictures.render(png(GREY, [ramp] * 800, 1200))[-1]).convert("L")

    assert [round(widest.getpixel((x, 400)), -1) for x in (10, 600, 1190)] == [0, 130, 250]  # type: ignore[arg-type]


@pytest.mark.pure
@pytest.mark.parametrize(("kind", "first"), [("PNG", RED), ("WEBP", RED)])
def test_an_animated_picture_is_its_first_frame(kind: str, first: tuple[int, ...]):
    frames = [Image.new("RGB", (60, 40), colour) for colour in (RED, BLUE)]

    (rendition,) = pictures.render(encoded(frames[0], kind, save_all=True, append_images=frames[1:]))

    assert is_near(opened(rendition).convert("RGB"), (30, 20), first)


# Metadata


@pytest.mark.pure
def test_a_rational_that_cannot_be_still_stands_upright():
    exif = exif_of(">", ROTATED_RIGHT, struct.pack(">HHII", 0x9204, 10, 1, 38)) + struct.pack(">ii", -1, 0)

    (rendition,) = pictures.render(photo(400, 300, exif=b"Exif\0\0" + exif))

    assert opened(rendition).size == (300, 400)
    assert is_near(opened(rendition), (150, 20), RED)


@pytest.mark.pure
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_every_turn_of_every_format_is_undone(kind: str, orientation: int, order: str):
    upright = Image.open(photo(300, 200))
    turned = upright if orientation == 1 else upright.transpose(pictures._TURNS[orientation])
    if orientation in (6, 8):
        turned = upright.transpose(pictures._TURNS[14 - orientation])

    assert is_photo(encoded(turned, kind, exif=b"Exif\0\0" + exif_of(order, orientation)))


RATIONAL = struct.pack("<HHII", 0x011A, 5, 1, 4_000_000_000)
OVERLAPPING = [struct.pack("<HHII", 0x9000 + number, 7, 4_000_000, 8) for number in range(2000)]
METADATA: dict[str, Callable[[], BytesIO]] = {
    "an EXIF block that ends in a tag": lambda: with_segment(0xE1, b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + bytes(9)),
    "an EXIF block that points beyond its end": lambda: with_segment(0xE1, b"Exif\0\0" + exif_of("<", 1, RATIONAL)),
    "an EXIF block that is none": lambda: with_segment(0xE1, b"Exif\0\0nothing"),
    "an orientation that is none": lambda: with_segment(0xE1, b"Exif\0\0" + exif_of(">", 77)),
    "tags that all hold the same megabytes": lambda: with_chunk(
        b"eXIf", exif_of("<", 1, *OVERLAPPING) + bytes(4_000_000)
    ),
    "XMP that breaks off": lambda: with_segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta><rdf"),
    "a short JFIF": lambda: with_segment(0xE0, b"JFIF\0"),
    "a short Adobe segment": lambda: with_segment(0xEE, b"Adobe"),
    "a short profile": lambda: with_segment(0xE2, b"ICC_PROFILE\0"),
    "a profile that is none": lambda: with_segment(0xE2, b"ICC_PROFILE\0\x01\x01" + bytes(60_000)),
    "a list of pictures that is none": lambda: with_segment(0xE2, b"MPF\0" + bytes(100)),
    "Photoshop's blocks that break off": lambda: with_segment(0xED, b"Photoshop 3.0\0008BIM\3\xed"),
    "a comment": lambda: with_segment(0xFE, bytes(65_000)),
    "much text": lambda: with_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(60_000_000))),
    "much international text": lambda: with_chunk(b"iTXt", b"a\0\1\0\0\0" + zlib.compress(bytes(60_000_000))),
    "text packed in another way": lambda: with_chunk(b"zTXt", b"Comment\0\7x"),
    "a huge profile": lambda: with_chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(60_000_000))),
    "a broken profile": lambda: with_chunk(b"iCCP", b"a\0\0nothing"),
    "a profile packed in another way": lambda: with_chunk(b"iCCP", b"a\0\7nothing"),
    "a short gamma": lambda: with_chunk(b"gAMA", b"1"),
    "a short size": lambda: with_chunk(b"pHYs", b"1"),
    "a broken checksum": lambda: BytesIO(with_chunk(b"tEXt", b"a\0text").getvalue().replace(b"a\0text", b"a\0TEXT")),
    "an animation without frames": lambda: with_chunk(b"acTL", bytes(8)),
    "a WebP whose XMP breaks off": lambda: with_webp_chunk(b"XMP ", b"<x:xmpmeta>", 60_000),
    "a WebP whose EXIF breaks off": lambda: with_webp_chunk(b"EXIF", b"II*\0", 60_000),
}


@pytest.mark.pure
@pytest.mark.parametrize("upload", METADATA.values(), ids=METADATA.keys())
def test_metadata_is_no_reason_to_refuse_a_picture(upload: Callable[[], BytesIO]):
    assert is_photo(upload())


@pytest.mark.pure
def test_a_photo_with_everything_a_phone_writes_is_taken():
    exif = Image.Exif()
    exif.get_ifd(GPS)[1] = "N"
    plain = photo(300, 200, exif=exif, comment=b"x" * 60_000, xmp=b"<x>" * 10_000, icc_profile=bytes(200_000))

    assert is_photo(plain)


@pytest.mark.pure
def test_text_beyond_what_pillow_takes_is_no_reason():
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", "x" * 3_000_000, zip=True)

    assert is_photo(photo(300, 200, "PNG", pnginfo=text))


@pytest.mark.pure
def test_pixels_that_cannot_be_read_are_a_reason():
    plain = photo(300, 200, "PNG").getvalue()
    start = plain.index(b"IDAT") + 20

    with pytest.raises(pictures.BadPicture, match="damaged"):
        pictures.render(BytesIO(plain[:start] + bytes(50) + plain[start + 50 :]))


# Cost


@pytest.mark.pure
def test_a_jpeg_with_endless_passes_is_refused_undecoded(monkeypatch: pytest.MonkeyPatch):
    plain = photo(300, 200, progressive=True).getvalue()
    last = plain.rindex(b"\xff\xda")
    monkeypatch.setattr(Image, "open", lambda *_, **__: pytest.fail("it was decoded"))

    with pytest.raises(pictures.BadPicture, match="damaged"):
        pictures.render(BytesIO(plain[:-2] + plain[last:-2] * 1000 + plain[-2:]))


@pytest.mark.pure
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_too_many_pixels_are_refused_before_they_are_decoded(kind: str, monkeypatch: pytest.MonkeyPatch):
    upload = bytearray(photo(60, 40, kind).getvalue())
    if kind == "PNG":
        upload[16:24] = struct.pack(">II", 9000, 9000)
        upload[29:33] = struct.pack(">I", zlib.crc32(upload[12:29]))
    else:
        frame = upload.index(b"\xff\xc0") + 5
        upload[frame : frame + 4] = struct.pack(">HH", 9000, 9000)
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("it was decoded"))

    with pytest.raises(pictures.BadPicture, match="million pixels"):
        pictures.render(BytesIO(upload))


@pytest.mark.long
def test_the_costliest_picture_takes_bounded_memory_and_time():
    """In a process of its own, for what the system counts is the most that a process ever had."""
    side = 7071
    upload = png(RGBA, [bytes(side * 4)] * side, side, bits=8)
    assert side * side > 0.99 * pictures.MOST_PIXELS

    def cost() -> tuple[float, float]:
        """Return the memory it takes, in decoded pictures, and the processor's time, in decodings."""
        command = [sys.executable, "-m", "tests.picture_cost"]
        found = subprocess.run(command, input=upload.getvalue(), capture_output=True, check=True)
        extra_bytes, decoding_seconds, rendering_seconds = map(float, found.stdout.split())
        return extra_bytes / (side * side * 4), rendering_seconds / decoding_seconds

    costs = [cost() for _ in range(5)]

    assert min(memory for memory, _ in costs) < 2.8
    assert min(decodings for _, decodings in costs) < 12
